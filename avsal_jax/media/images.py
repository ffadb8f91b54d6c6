"""Picture files: which there are, opening one, its RGB values; and the order of numbered names."""

from __future__ import annotations

import contextlib
import pathlib
import re
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from avsal_jax.errors import AvsalError
from avsal_jax.media.color import ToneMapping, find_tone_mapping
from avsal_jax.media.color_profiles import ColorProfile, has_alpha

# What Pillow registers without reading its pixels by itself; and FLI, which FFmpeg plays.
UNREAD_FORMATS = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "WMF"}


def _registered() -> frozenset[str]:
    Image.init()
    readable = (set(Image.OPEN) | {"MPO"}) - UNREAD_FORMATS
    return frozenset(end for end, name in Image.registered_extensions().items() if name in readable)


_HEAD = 4096  # bytes, which include the colour headers
IMAGE_SUFFIXES = _registered()  # in lower case: all that Pillow reads


@contextlib.contextmanager
def open_image(path: pathlib.Path) -> Iterator[Image.Image]:
    """Opens an image with Pillow; raises AvsalError with one line if that or the block fails."""
    with open_image_file(path) as (image, _):
        yield image


@contextlib.contextmanager
def open_image_file(path: pathlib.Path) -> Iterator[tuple[Image.Image, IO[bytes]]]:
    """Opens an image with the file that it is read from, still open; see `open_image`."""
    try:
        # Given a file name, Pillow maps the pixels of a rotated TIFF into memory in the wrong size.
        with warnings.catch_warnings(), path.open("rb") as file, Image.open(file) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield image, file
    except AvsalError:
        raise
    except FileNotFoundError as error:
        raise AvsalError(missing(path)) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise AvsalError(f"{path} is too large: {error}") from error
    except Exception as error:  # Pillow's readers raise various types for damaged files
        raise AvsalError(f"{path} is not an image that can be read: {error}") from error


def read_image(path: pathlib.Path) -> np.ndarray:
    """Returns an image file as RGB uint8 [H, W, 3], upright; raises AvsalError if it cannot be read.

    `to_rgb` documents the conversion of each mode.
    """
    with open_image(path) as image:
        return to_rgb(image, path)


def to_rgb(image: Image.Image, path: pathlib.Path, profile: ColorProfile | None = None) -> np.ndarray:
    """Returns an opened image, or its current frame, as RGB uint8 [H, W, 3], upright.

    Transparent pixels are composited over black, as players show them. 16-bit grey, 0 to 65,535, is divided
    by 257. HDR (of AVIF and PNG) is mapped to SDR.

    Args:
      profile: converts the colours to sRGB; None ignores embedded profiles, as public code does with the
        frames of data sets.

    Raises:
      AvsalError: it has 32 bits per channel, whose range files do not state.
    """
    mapping = stated_tone_mapping(image, path)
    sixteen_bits, image = has_16_bits(image), upright(image)
    if sixteen_bits:
        grey = np.rint(np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode.startswith(("I", "F")):  # which Pillow would cut at 255
        raise AvsalError(
            f"{path} is an image of mode {image.mode}, 32 bits per channel; frames have 8 bits per channel, "
            "or 16 for grey: scale and save it as PNG first"
        )
    if profile is not None and mapping is None:
        image = profile.to_srgb(image)
    if has_alpha(image):
        rgb = over_black(np.asarray(image.convert("RGBA")))
    else:
        rgb = np.asarray(image.convert("RGB"))
    return rgb if mapping is None else np.rint(255 * mapping.to_sdr(rgb / 255)).astype(np.uint8)


def stated_tone_mapping(image: Image.Image, path: pathlib.Path) -> ToneMapping | None:
    """Returns how an opened image becomes SDR, if its header states HDR, which Pillow does not read."""
    if image.format not in ("AVIF", "PNG"):
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    _, box, content = head.partition(b"colrnclx")
    if image.format == "AVIF" and box:
        return find_tone_mapping(int.from_bytes(content[2:4], "big"), int.from_bytes(content[:2], "big"))
    _, chunk, content = head.partition(b"cICP")
    if image.format == "PNG" and chunk and len(content) > 1:
        return find_tone_mapping(content[1], content[0])
    return None


def upright(image: Image.Image) -> Image.Image:
    """Returns an opened image as its EXIF orientation shows it; decoded."""
    image.load()  # which turns TIFF itself
    return ImageOps.exif_transpose(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Returns (height, width) of an opened image as `upright` gives it, from its headers."""
    is_turned = "exif" in image.info and image.format != "TIFF"  # whose size is that of the upright image
    is_transposed = is_turned and image.getexif().get(ExifTags.Base.Orientation, 1) > 4
    return image.size if is_transposed else image.size[::-1]


def has_16_bits(image: Image.Image) -> bool:
    """Whether an image is grey from 0 to 65,535; Pillow widens some of these to 32 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def is_transparent(image: Image.Image) -> bool:
    """Whether a pixel of an image, or of its current frame, is not opaque."""
    return has_alpha(image) and image.convert("RGBA").getextrema()[3][0] < 255


def over_black(rgba: np.ndarray) -> np.ndarray:
    """Returns RGB uint8 [H, W, 3] for RGBA uint8 [H, W, 4] with straight alpha."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 127) // 255).astype(np.uint8)


def visible_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the entries of a folder that are not hidden."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def missing(path) -> str:
    """Returns the error for a path that does not exist, with advice if it is a URL or `-`."""
    text = str(path)
    if text == "-":
        return "standard input is not read: write the video to a file and give its name"
    address = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+", text)  # of which a path keeps one slash
    if not address:
        return f"there is no file {path}"
    kind, rest = address[1].lower(), text[address.end() :]
    if kind == "file":
        return f"file:///{rest} is an address, and files are read: give only the path, /{rest}"
    return (
        f"{address[1]}://{rest} is an address, and files are read: download it first, then give the name "
        "of the file"
    )


def natural_order(path: pathlib.Path) -> tuple:
    """A sorting key that puts img2 before img10, whatever the digits of a script; superscripts are letters.

    Names are compared part by part, text (ignoring case) and numbers in turn. If all parts are equal, as in
    1.png and 001.png, the names are compared as strings.
    """
    return _parts(path.stem), _parts(path.suffix), path.name


def same_number(path: pathlib.Path) -> tuple:
    """A key that two names share if they differ only in suffix, case or leading zeros."""
    return _parts(path.stem)


def _parts(name: str) -> tuple:
    """Returns text and numbers in turn, each in a tuple; the first part is text and may be empty."""
    parts = re.split(r"(\d+)", name)  # \d: the decimal digits of all scripts, which int() reads
    return tuple((int(part),) if index % 2 else (part.casefold(),) for index, part in enumerate(parts))
