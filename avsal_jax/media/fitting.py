"""How a picture of any size becomes a frame as the network takes it, and the map becomes the picture's."""

from __future__ import annotations

import numpy as np
from PIL import Image

from avsal_jax.spec.input import InputSpec

FILTERS = {"pil_bilinear": Image.Resampling.BILINEAR, "pil_bicubic": Image.Resampling.BICUBIC}


def resize_frame(image: np.ndarray, height: int, width: int, resize: str = "pil_bilinear") -> np.ndarray:
    """Returns RGB uint8 [height, width, 3] by a filter of Pillow's with antialiasing.

    `pil_bilinear` is torchvision's Resize on PIL images, as in the public code. The aspect ratio is not kept.

    Args:
      image: RGB uint8 [h, w, 3].
      height, width: in pixels.
      resize: in `FILTERS`, as `InputSpec.resize`.
    """
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), FILTERS[resize]))


def fitted_frame(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Returns RGB uint8 [H, W, 3] of a picture [h, w, 3], stretched, or amid the mean colour.

    H and W are those of `spec`, or with the fit `aspect` those of `spec.for_picture(h, w)`. Frames of one
    stream need one size: take the spec of the first frame for all of them.
    """
    spec = spec.for_picture(*image.shape[:2])
    top, left, height, width = picture_box(image.shape[:2], spec)
    resized = resize_frame(image, height, width, resize=spec.resize)
    if spec.fit == "stretch":
        return resized
    colour = np.clip(np.round(np.multiply(spec.pixels.mean, spec.pixels.scale)), 0, 255).astype(np.uint8)
    frame = np.tile(colour, (spec.height, spec.width, 1))
    frame[top : top + height, left : left + width] = resized
    return frame


def fitted_map(saliency: np.ndarray, size: tuple[int, int], spec: InputSpec) -> np.ndarray:
    """Returns the part [h', w'] of a map [H, W] that shows the picture, whose (height, width) are `size`."""
    top, left, height, width = picture_box(size, spec)
    return saliency[top : top + height, left : left + width]


def picture_box(size: tuple[int, int], spec: InputSpec) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of a picture of (height, width) `size` in the network's frame."""
    spec = spec.for_picture(*size)
    if spec.fit == "stretch":
        return 0, 0, spec.height, spec.width
    scale = min(spec.height / size[0], spec.width / size[1])
    height = min(spec.height, max(1, round(size[0] * scale)))
    width = min(spec.width, max(1, round(size[1] * scale)))
    return (spec.height - height) // 2, (spec.width - width) // 2, height, width
