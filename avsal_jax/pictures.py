"""Maps as pictures: resizing, 8-bit grey, heat colours over a frame."""

from __future__ import annotations

import functools
import struct
import zlib

import numpy as np
import scipy.ndimage
from PIL import Image, ImageDraw

POSTPROCESS = ("none", "vinet")


def resize_map(saliency: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a map [H, W] as float32 [height, width], bilinear without antialiasing.

    This is OpenCV's INTER_LINEAR, with which the public code resizes maps (`align_corners` False).
    """
    saliency = np.asarray(saliency, np.float32)
    for axis, size in ((1, width), (0, height)):
        low, high, weight = _taps(saliency.shape[axis], size)
        weight = weight[:, None] if axis == 0 else weight[None, :]
        first = np.take(saliency, low, axis, mode="clip")  # `clip` needs no buffer; no index is outside
        saliency = np.take(saliency, high, axis, mode="clip")
        saliency -= first
        saliency *= weight
        saliency += first
    return saliency


@functools.lru_cache(maxsize=64)
def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = np.floor(centre).astype(np.int64)
    high = np.minimum(low + 1, old - 1)
    return low, high, (centre - low).astype(np.float32)


def blur_map(saliency: np.ndarray) -> np.ndarray:
    """Returns a map [H, W] after the 11x11 Gaussian of sigma 2 with which public ViNet blurs its maps.

    This is `cv2.GaussianBlur(saliency, (11, 11), 0)`; the border is reflected without repeating its pixel.
    """
    from avsal_jax.ops.blur import gaussian_kernel  # imports jax

    kernel = gaussian_kernel(11).astype(np.float32)
    for axis in (0, 1):
        saliency = scipy.ndimage.correlate1d(saliency, kernel, axis, mode="mirror")
    return saliency


def to_grey(saliency: np.ndarray, postprocess: str = "none") -> np.ndarray:
    """Returns a map as uint8, stretched from its minimum to its maximum; a constant map is black.

    Args:
      saliency: [H, W], at the size at which it is stored.
      postprocess: `vinet` blurs and rounds as the public code does before it stores a map
        (samyak0210/ViNet @2a52666): 11x11 Gaussian of sigma 2, and half a level more.
    """
    if postprocess == "vinet":
        saliency = blur_map(saliency)
        low, high = float(saliency.min()), float(saliency.max())
        scaled = (saliency - low) / (high - low + 1e-5) * 255 + 0.5
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    low, high = float(saliency.min()), float(saliency.max())
    if high <= low:
        return np.zeros(saliency.shape, np.uint8)
    levels = saliency - low
    levels *= 255 / (high - low)
    return np.rint(levels, out=levels).astype(np.uint8)


def grey_png(image: np.ndarray) -> bytes:
    """Returns an image, uint8 [h, w], as a PNG file.

    Pillow tries all filters for each row and compresses by zlib, which takes several times as long. Maps are
    smooth, so differences from the row above (the filter `up`) compress well.
    """
    from isal import igzip_lib

    height, width = image.shape
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = 2  # the filter `up`
    rows[0, 1:] = image[0]
    np.subtract(image[1:], image[:-1], out=rows[1:, 1:])
    data = igzip_lib.compress(rows, level=1, flag=igzip_lib.COMP_ZLIB)
    header = struct.pack(">II", width, height) + bytes((8, 0, 0, 0, 0))  # 8 bits, grey, not interlaced
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
        for kind, content in chunks
    )


def overlay(frame: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Returns `frame` with heat colours laid over it, stronger where the map is high.

    Args:
      frame: RGB uint8 [H, W, 3].
      grey: the map, uint8 [H, W].

    Returns:
      RGB uint8 [H, W, 3].
    """
    heat = Image.fromarray(np.take(_heat(), grey, mode="clip").view(np.uint8).reshape(*grey.shape, 4))
    picture = Image.fromarray(frame)
    picture.paste(heat, mask=heat)
    return np.asarray(picture)


def false_colour(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns values [H, W] as RGB uint8 [H, W, 3], from dark blue at `low` to yellow at `high`.

    What is not a number, or infinite, is grey.
    """
    finite = np.isfinite(values)
    share = (np.where(finite, values, low) - low) / ((high - low) or 1.0)
    colours = _colours("viridis")[np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)]
    colours[~finite] = 128
    return colours


def shrink(image: np.ndarray, width: int) -> np.ndarray:
    """Returns an image (uint8 [h, w] or [h, w, 3]) at most `width` wide, its aspect ratio kept."""
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def mark_fixations(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns `frame` with a dot at every fixation.

    Args:
      frame: RGB uint8 [H, W, 3].
      points: [N, 2], (row, column) from 0 to 1 of the frame's height and width.
    """
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    height, width = frame.shape[:2]
    radius = max(1.5, width / 80)
    for row, column in points:
        draw.circle((column * width, row * height), radius, fill=(255, 235, 0), outline=(0, 0, 0))
    return np.asarray(image)


@functools.lru_cache(maxsize=1)
def _heat() -> np.ndarray:
    """Returns the colour and opacity of each level: RGBA in a uint32 [256]."""
    opacity = [round(0.75 * min(255, 2 * level)) for level in range(256)]
    colours = np.column_stack([_colours("jet"), np.array(opacity, np.uint8)])
    return np.ascontiguousarray(colours).view(np.uint32)[:, 0]


@functools.lru_cache(maxsize=2)
def _colours(name: str) -> np.ndarray:
    """A colour map of matplotlib, uint8 [256, 3]."""
    from matplotlib import colormaps  # slow to import, and only pictures need it

    return (colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
