"""Embedded ICC profiles: the colours of a photograph (Display P3, Adobe RGB, CMYK) -> sRGB."""

from __future__ import annotations

import dataclasses
import functools
import io

import numpy as np
from PIL import Image, ImageCms

_NODES = 9  # along each colour of the probe
_TOLERANCE = 2  # 8-bit levels: a profile that changes colours by at most this counts as sRGB
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of a profile -> the mode that it describes
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION


@dataclasses.dataclass(frozen=True)
class ColorProfile:
    """How the colours of a picture are converted to sRGB.

    Attributes:
      mode: of the pictures that it describes: `RGB`, `L` or `CMYK`.
      transform: of Little CMS, to RGB; None if the profile is sRGB or cannot be used.
      note: a line on the profile and the conversion, or None.
    """

    mode: str
    transform: ImageCms.ImageCmsTransform | None
    note: str | None

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """Returns a picture as RGB, or RGBA if it is transparent."""
        if self.transform is None or color_mode(image) != self.mode:
            return image
        if not has_alpha(image):
            return ImageCms.applyTransform(image.convert(self.mode), self.transform)
        straight = image.convert("RGBA")
        result = ImageCms.applyTransform(straight.convert(self.mode), self.transform)
        result.putalpha(straight.getchannel("A"))
        return result


def find_profile(image: Image.Image) -> ColorProfile | None:
    """Returns the embedded profile of an opened picture of 8 bits per channel, or None without one."""
    content, mode = image.info.get("icc_profile"), color_mode(image)
    if not content or mode is None:
        return None
    return _read(content, mode)


def color_mode(image: Image.Image) -> str | None:
    """Returns which colours a picture has, without alpha and palette: RGB, L, CMYK, or None for others."""
    if image.mode in ("RGB", "RGBA", "RGBX", "P", "PA"):
        return "RGB"
    return {"L": "L", "LA": "L", "CMYK": "CMYK"}.get(image.mode)


def has_alpha(image: Image.Image) -> bool:
    """Whether a picture has a channel, or a colour, that may be transparent."""
    return image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info


@functools.lru_cache(maxsize=16)  # the photographs of one camera have one profile
def _read(content: bytes, mode: str) -> ColorProfile:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        space = profile.profile.xcolor_space.strip()
        if _SPACES.get(space) != mode:
            return _unused(mode, f"is for the colours {space}, and the picture has {mode}")
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            inMode=mode,
            outMode="RGB",
            renderingIntent=_INTENT,
            flags=_FLAGS,
        )
        name = ImageCms.getProfileDescription(profile).strip() or "a profile without a name"
    except Exception as error:  # Little CMS raises various types for damaged profiles
        return _unused(mode, f"cannot be read ({error})")
    probe = _probe(mode)
    change = np.abs(
        np.asarray(ImageCms.applyTransform(probe, transform), np.int16) - np.asarray(probe.convert("RGB"))
    )
    if change.max() <= _TOLERANCE:
        return ColorProfile(mode, None, None)
    return ColorProfile(mode, transform, f"its colours are {name}: converted to sRGB")


def _unused(mode: str, reason: str) -> ColorProfile:
    return ColorProfile(mode, None, f"its ICC profile {reason}: its colours are read as sRGB")


def _probe(mode: str) -> Image.Image:
    """A picture of colours from all over a mode."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    axis = np.linspace(0, 255, 256 if channels == 1 else _NODES).round().astype(np.uint8)
    colors = np.stack(np.meshgrid(*[axis] * channels, indexing="ij"), -1).reshape(-1, channels)
    return Image.frombytes(mode, (len(colors), 1), colors.tobytes())
