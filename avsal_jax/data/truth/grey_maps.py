"""The only reader of grey maps: predictions and densities, from pictures, NumPy files and MATLAB files.

A *grey map* is uint8 [h, w] if the file has 8 bits (without rounding), else float64 [h, w] in [0, 1].
"""

from __future__ import annotations

import io
import math
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from avsal_jax.data.truth.mat_files import MAX_PIXELS, MAX_SIDE, mat_map, only_map
from avsal_jax.errors import AvsalError, damage_reason
from avsal_jax.media.images import IMAGE_SUFFIXES, has_16_bits, open_image, upright

STACK_SUFFIXES = (".npz", ".npy")  # of files that hold all maps of a video
MAP_SUFFIXES = IMAGE_SUFFIXES | {".mat", *STACK_SUFFIXES}  # of files that hold one map
_MAX_GREY_SPREAD_LEVELS = 16  # of 255, between the channels of a pixel that counts as grey
_MAX_COLOURED_SHARE = 0.001  # of the pixels of a grey picture
_RANGES = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65_535, np.dtype(bool): 1}


class Levels(NamedTuple):
    """The stored numbers of a map.

    Attributes:
      values: [h, w] of real numbers.
      full: the number that means white; None if the type does not define it (floats, wide integers).
    """

    values: np.ndarray
    full: int | None


def read_grey(path: pathlib.Path, stretch: bool = False) -> np.ndarray:
    """Returns the grey map of a file.

    Pictures with a palette, black and white, CMYK or RGB are converted to grey; 16 bits are divided by 65535.
    Numbers without a range (floats, 32-bit integers) are divided by the map's maximum.

    Args:
      path: a picture, a .npy, .npz or .mat (its only map).
      stretch: whether a map with negative numbers is stretched from its smallest to its largest.

    Raises:
      AvsalError: the file cannot be read; a coloured, transparent or animated picture; NaN, infinity;
        negative numbers without `stretch`.
    """
    return as_grey(read_levels(path), path, stretch)


def as_grey(levels: Levels, name, stretch: bool = False) -> np.ndarray:
    """Returns levels as a grey map; `name` is used in errors. See `read_grey`."""
    values, full = levels
    if full == 255:
        return values
    if full == 1:
        return values.astype(np.uint8) * np.uint8(255)
    values = values.astype(np.float64)
    if full is not None:
        return values / full
    if not np.isfinite(values).all():
        raise AvsalError(f"{name} holds numbers that are not finite (NaN or infinity)")
    low, high = values.min(), values.max()
    if low < 0:
        if not stretch:
            raise AvsalError(f"{name} holds negative numbers, down to {low:.3g}")
        values, high = values - low, high - low
    return values / high if high > 0 else values


def to_8_bit(grey: np.ndarray) -> np.ndarray:
    """Returns a grey map as uint8; an 8-bit map is unchanged."""
    return grey if grey.dtype == np.uint8 else np.rint(255 * grey).astype(np.uint8)


def grey_png(grey: np.ndarray) -> bytes:
    """Returns a grey map as an 8-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(to_8_bit(grey)).save(buffer, "png")
    return buffer.getvalue()


def read_levels(path: pathlib.Path) -> Levels:
    """Returns the stored numbers of a map; errors as in `read_grey`."""
    suffix = path.suffix.lower()
    if suffix in STACK_SUFFIXES:
        with MapStack(path) as stack:
            return Levels(next(iter(stack)), stack.full) if stack.count == 1 else stack.refuse("one map")
    if suffix == ".mat":
        return _mat_levels(path)
    with open_image(path) as image:
        return image_levels(image, path)


def image_levels(image: Image.Image, path: pathlib.Path) -> Levels:
    """Returns the numbers of an open picture, upright by its EXIF orientation, as frames are.

    A picture whose channels differ by more than 16 of 255 levels at more than 1 in 1000 pixels is coloured.

    Raises:
      AvsalError: it is coloured (the grey level of a heat map is ambiguous), not opaque, or has several
        pictures.
    """
    if getattr(image, "is_animated", False):
        raise AvsalError(f"{path} holds several pictures; a map is one")
    sixteen_bits, image = has_16_bits(image), upright(image)
    if image.mode == "L" and "transparency" not in image.info:
        return Levels(np.asarray(image), 255)
    if sixteen_bits:
        return Levels(np.asarray(image).astype(np.uint16), 65_535)
    if image.mode in ("I", "F"):
        return Levels(np.asarray(image), None)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if (alpha := image.getchannel("A").getextrema()) != (255, 255):
            raise AvsalError(
                f"{path} is transparent (alpha from {alpha[0]} to {alpha[1]}); save the map without alpha"
            )
    rgb = np.asarray(image.convert("RGB"))
    spread = rgb.max(-1) - rgb.min(-1)
    if np.count_nonzero(spread > _MAX_GREY_SPREAD_LEVELS) > _MAX_COLOURED_SHARE * spread.size:
        raise AvsalError(
            f"{path} is a coloured picture (mode {image.mode}, its channels differ by up to {spread.max()} "
            "levels), as heat maps are; maps are grey"
        )
    return Levels(np.asarray(Image.fromarray(rgb).convert("L")), 255)


def _mat_levels(path: pathlib.Path) -> Levels:
    """Returns the only map of a .mat."""
    values = mat_map(path, only_map(path))
    values = values.toarray() if hasattr(values, "toarray") else values
    return Levels(values, _RANGES.get(values.dtype))


class MapStack:
    """Maps of a video in a .npy or .npz, read one at a time; a context manager.

    Args:
      path: a .npy of [N, h, w] (or [h, w], one map), or a .npz with such an array, which is named `maps` or
        is the only one.

    `count` is N, `shape` (h, w), `full` as in `Levels`. Headers are checked before memory is allocated;
    nothing is unpickled.

    Raises:
      AvsalError: the file is damaged, cut short, or holds something else.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._file: IO[bytes] | None = None
        try:
            self._file, length = self._open()
            dtype = self._read_header(length)
        except AvsalError:
            self.close()
            raise
        except FileNotFoundError as error:
            raise AvsalError(f"there is no file {path}") from error
        except Exception as error:  # zipfile and NumPy raise undocumented types for damaged files
            self.close()
            raise AvsalError(
                f"{path} is not a NumPy file that can be read: {damage_reason(error)}"
            ) from error
        self._dtype, self.full = dtype, _RANGES.get(dtype.newbyteorder("="))

    def _open(self) -> tuple[IO[bytes], int]:
        """Returns the array's stream and its length in bytes."""
        if self.path.suffix.lower() == ".npy":
            return self.path.open("rb"), self.path.stat().st_size
        self._archive = zipfile.ZipFile(self.path)
        names = [name.removesuffix(".npy") for name in self._archive.namelist()]
        if "maps" not in names and len(names) != 1:
            content = ", ".join(names[:5]) or "nothing"
            raise AvsalError(f"{self.path} must hold an array named maps, or one array; it holds {content}")
        info = self._archive.infolist()[names.index("maps") if "maps" in names else 0]
        return self._archive.open(info), info.file_size

    def _read_header(self, length: int) -> np.dtype:
        version = np.lib.format.read_magic(self._file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError(f"its version is {version}")
        shape, fortran, dtype = read[version](self._file)
        if dtype.kind not in "buif":
            raise AvsalError(f"{self.path} holds {dtype}; maps are real numbers")
        sides = [side for side in shape if side != 1]  # a channel axis, or one map
        self.count, *sides = sides if len(sides) == 3 else (1, *sides)
        self.shape = tuple(sides)
        if self.count < 1 or len(sides) != 2 or not all(0 < side <= MAX_SIDE for side in sides):
            raise AvsalError(f"{self.path} has shape {shape}; maps are [frames, height, width]")
        if math.prod(sides) > MAX_PIXELS:
            raise AvsalError(f"{self.path} has shape {shape}; maps have up to {MAX_PIXELS} pixels")
        if length < self._file.tell() + dtype.itemsize * math.prod(shape):
            raise AvsalError(f"{self.path} is cut short: it has {length} bytes, too few for shape {shape}")
        if fortran and self.count > 1:
            raise AvsalError(f"{self.path} is in Fortran order; save numpy.ascontiguousarray(maps)")
        self._order = "F" if fortran else "C"
        return dtype

    def refuse(self, expected: str):
        """Raises AvsalError with the number of maps in the file and what was expected."""
        raise AvsalError(f"{self.path} holds {self.count} maps, not {expected}")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the stored maps in order. A stack can be iterated only once."""
        size = self._dtype.itemsize * math.prod(self.shape)
        for _ in range(self.count):
            try:
                data = self._file.read(size)
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise AvsalError(f"{self.path} is damaged: {error}") from error
            if len(data) < size:
                raise AvsalError(f"{self.path} is damaged: it is cut short")
            yield np.frombuffer(data, self._dtype).reshape(self.shape, order=self._order)

    def close(self) -> None:
        """Closes the file."""
        for opened in (self._file, self._archive):
            if opened is not None:
                opened.close()

    def __enter__(self) -> MapStack:
        return self

    def __exit__(self, *_) -> None:
        self.close()
