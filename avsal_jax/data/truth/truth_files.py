"""Files numbered by frame, and what the files of the truth hold: density and fixation maps."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import re
from typing import NamedTuple

import numpy as np
from PIL import ExifTags

from avsal_jax.data.truth.fixation_maps import Fixations, fixations_of
from avsal_jax.data.truth.grey_maps import as_grey, image_levels, read_levels
from avsal_jax.data.truth.mat_files import mat_map, mat_shape
from avsal_jax.media.images import open_image, open_image_file, upright_size
from avsal_jax.media.numbering import Numbers

# Increase it if the same files are read differently: results of an older reading are then not reused.
READING = 2
# Suffixes of lossy formats, whose noise looks like counts.
_LOSSY_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc",
    ".jpf", ".jpx",
})  # fmt: skip
_GROUPS = re.compile(r"[0-9]+")


@dataclasses.dataclass(frozen=True)
class NumberedFiles:
    """The files of a folder whose names differ only in the frame number, as in img_00001.jpg.

    Attributes:
      folder: of the files.
      prefix, digits, suffix: parts of a name; numbers are padded with zeros to `digits`.
      first, last: smallest and largest number.
      count: number of files; fewer than the numbers from first to last if some are missing.
      other_names: number of files of the same kind whose names have a different form.
      existing: the existing numbers, if some are missing; else None.
      origin: the number of frame 0.
    """

    folder: pathlib.Path
    prefix: str
    digits: int
    suffix: str
    first: int
    last: int
    count: int
    other_names: int = 0
    existing: frozenset[int] | None = None
    origin: int = 1

    @property
    def notes(self) -> list[str]:
        """A line on the files whose names have a different form, if there are any."""
        if not self.other_names:
            return []
        return [
            f"{self.other_names} files in {self.folder} are named unlike {self.name(self.first)}: not used"
        ]

    @property
    def numbers(self) -> Numbers:
        return Numbers(self.first, self.last, self.count)

    def name(self, number: int) -> str:
        return f"{self.prefix}{number:0{self.digits}d}{self.suffix}"

    def path(self, number: int) -> pathlib.Path:
        return self.folder / self.name(number)

    def of_frame(self, index: int) -> pathlib.Path:
        """Returns the path of a frame's file, counted from 0; it need not exist."""
        return self.path(self.origin + index)

    def has(self, index: int) -> bool:
        """Whether the file of a frame, counted from 0, exists."""
        number = self.origin + index
        return self.first <= number <= self.last and (self.existing is None or number in self.existing)

    @property
    def length(self) -> int:
        """Number of frames from frame 0 to the last with a file."""
        return max(0, self.last - self.origin + 1)


def numbered_files(folder: pathlib.Path, suffixes, prefix: str | None = None) -> NumberedFiles | None:
    """Returns the files of `folder` with these suffixes, or None if no file has them.

    The number of the frame may be anywhere in a name, as in 0001.png, img_00001.jpg, map2_0001_sal.png: it is
    the number in which most names differ. If names have several forms, the form with most files is used.
    Hidden files are ignored.

    Args:
      folder: need not exist.
      suffixes: lower case, with the dot.
      prefix: of the names, up to the number; None for any prefix.
    """
    forms, names = collections.defaultdict(list), 0
    for name in _file_names(folder):
        stem, suffix = os.path.splitext(name)
        groups = () if name.startswith(".") or suffix.lower() not in suffixes else _GROUPS.finditer(stem)
        groups = [group for group in groups if prefix is None or stem[: group.start()] == prefix]
        names += bool(groups)
        for place, group in enumerate(reversed(groups)):  # of equals, the last number of a name
            forms[-place, stem[: group.start()], stem[group.end() :] + suffix].append(group[0])
    if not forms:
        return None
    form = max(sorted(forms), key=lambda key: (len(forms[key]), key[0]))
    digits = min(map(len, forms[form]))
    numbers = [int(text) for text in forms[form] if f"{int(text):0{digits}d}" == text]
    first, last, count = min(numbers), max(numbers), len(numbers)
    existing = None if count == last - first + 1 else frozenset(numbers)
    return NumberedFiles(
        folder, *form[1:2], digits, form[2], first, last, count, names - count, existing, first
    )


def _file_names(folder: pathlib.Path) -> list[str]:
    """Returns the names in a folder; [] if it does not exist or cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


class DensityFile(NamedTuple):
    """The content of a density map file.

    Attributes:
      grey: uint8 [h, w], or float64 [h, w] in [0, 1] if the file has more than 8 bits.
      content: the bytes of the file if it is an upright 8-bit grey JPEG or PNG; else None.
    """

    grey: np.ndarray
    content: bytes | None


def read_density_file(path: pathlib.Path) -> DensityFile:
    """Reads a picture of a density map; errors as in `grey_maps.read_grey`."""
    with open_image_file(path) as (image, file):
        grey = as_grey(image_levels(image, path), path)
        plain = image.mode == "L" and image.format in ("JPEG", "PNG") and "transparency" not in image.info
        if plain and image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            file.seek(0)
            return DensityFile(grey, file.read())
        return DensityFile(grey, None)


class FixationMap(NamedTuple):
    """The content of a fixation map.

    Attributes:
      fixations: those of the frame.
      size: (height, width) of the map, in pixels.
    """

    fixations: Fixations
    size: tuple[int, int]


def read_fixation_map(path: pathlib.Path, variable: str) -> FixationMap:
    """Returns the fixations of an image or a .mat, with the size of the map.

    Raises:
      AvsalError: it cannot be read, is not a fixation map (see `fixation_maps`), or is a .mat without
        `variable`.
    """
    suffix = path.suffix.lower()
    values = mat_map(path, variable) if suffix == ".mat" else read_levels(path).values
    return FixationMap(fixations_of(values, path, suffix in _LOSSY_SUFFIXES), values.shape)


def read_size(path: pathlib.Path, variable: str) -> tuple[int, int]:
    """Returns (height, width) of a map from its headers only; errors as in `read_fixation_map`."""
    if path.suffix.lower() == ".mat":
        return mat_shape(path, variable)
    with open_image(path) as image:
        return upright_size(image)
