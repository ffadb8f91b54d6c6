"""Files numbered by frame, and what the files of the truth hold: density and fixation maps."""

from __future__ import annotations

import collections
import dataclasses
import io
import os
import pathlib
import re

import numpy as np
from PIL import Image

from avsal_jax.data.mat_files import mat_nan, mat_points, mat_shape
from avsal_jax.data.video import open_image
from avsal_jax.errors import AvsalError

_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})(\.[A-Za-z]+)", re.DOTALL)
_GREY_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})


@dataclasses.dataclass(frozen=True)
class NumberedFiles:
    """The files of a folder whose names differ in the frame number alone, as in img_00001.jpg.

    Attributes:
      folder: where they lie.
      prefix, digits, suffix: how a name is made; numbers are filled with zeros to `digits`.
      first, last: smallest and largest number.
      count: how many there are; fewer than the numbers from first to last where some are missing.
      others: how many files of the same kind have names of another form.
    """

    folder: pathlib.Path
    prefix: str
    digits: int
    suffix: str
    first: int
    last: int
    count: int
    others: int = 0

    def name(self, number: int) -> str:
        return f"{self.prefix}{number:0{self.digits}d}{self.suffix}"

    def path(self, number: int) -> pathlib.Path:
        return self.folder / self.name(number)


def numbered_files(folder: pathlib.Path, suffixes, prefix: str | None = None) -> NumberedFiles | None:
    """Returns the files of `folder` with these suffixes, or None where there are none.

    Of several forms of names, the one with most files counts. Hidden files are passed over.

    Args:
      folder: it need not exist.
      suffixes: lower case, with the dot.
      prefix: what names begin with, where the folder holds other files too.
    """
    forms = collections.defaultdict(list)
    for name in os.listdir(folder) if folder.is_dir() else ():
        match = _NUMBERED.fullmatch(name)
        if name.startswith(".") or not match or match[3].lower() not in suffixes:
            continue
        if prefix is None or match[1] == prefix:
            forms[match[1], match[3]].append(match[2])
    if not forms:
        return None
    form = max(sorted(forms), key=lambda key: len(forms[key]))
    numbers = [int(text) for text in forms[form]]
    others = sum(map(len, forms.values())) - len(numbers)
    digits = min(map(len, forms[form]))
    return NumberedFiles(folder, form[0], digits, form[1], min(numbers), max(numbers), len(numbers), others)


def read_density(path: pathlib.Path) -> np.ndarray:
    """Returns an 8-bit map / 255: float64 [h, w] in [0, 1].

    Raises:
      AvsalError: it cannot be read, or does not have 8 bits.
    """
    with open_image(path) as image:
        if image.mode not in _GREY_MODES:
            raise AvsalError(f"{path} is an image of mode {image.mode}; density maps are 8-bit grey")
        return np.asarray(image.convert("L")) / 255.0


def encoded_density(path: pathlib.Path) -> bytes:
    """Returns a map as an 8-bit grey JPEG or PNG: the file as it is where it is one, else a PNG.

    Errors as in `read_density`.
    """
    with open_image(path) as image:
        if image.mode == "L" and image.format in ("JPEG", "PNG"):
            image.load()  # raises where it is damaged
            return path.read_bytes()
    buffer = io.BytesIO()
    Image.fromarray(np.round(255 * read_density(path)).astype(np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def count_nan(path: pathlib.Path, variable: str) -> int:
    """Returns how many values of a fixation map are no numbers; only a .mat can have such."""
    return mat_nan(path, variable) if path.suffix.lower() == ".mat" else 0


def read_fixations(path: pathlib.Path, variable: str) -> np.ndarray:
    """Returns int32 [N, 2], the (row, column) of what is above zero in an image or a .mat, row by row.

    Raises:
      AvsalError: it cannot be read; a .mat without `variable`.
    """
    if path.suffix.lower() == ".mat":
        return mat_points(path, variable)
    return np.argwhere(read_density(path) > 0).astype(np.int32)


def read_size(path: pathlib.Path, variable: str) -> tuple[int, int]:
    """Returns (height, width) of a map from its headers alone; errors as in `read_fixations`."""
    if path.suffix.lower() == ".mat":
        return mat_shape(path, variable)
    with open_image(path) as image:
        return image.height, image.width
