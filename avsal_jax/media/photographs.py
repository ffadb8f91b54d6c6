"""Photographs: recognising the files, reading one as RGB, and naming the results of many."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import unicodedata
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from avsal_jax.errors import AvsalError
from avsal_jax.media.color_profiles import find_profile
from avsal_jax.media.image_videos import (
    ANIMATED_FORMATS,
    TRANSPARENT,
    VIDEO_SUFFIXES,
    color_notes,
    folder_contents,
    is_image,
    picture_count,
)
from avsal_jax.media.images import (
    IMAGE_SUFFIXES,
    is_transparent,
    missing,
    natural_order,
    open_image,
    to_rgb,
)
from avsal_jax.media.video import open_container

_HEIF_SUFFIXES = {".heic", ".heif", ".hif"}  # refused when they are read, so that they are not overlooked
_SUFFIXES = (IMAGE_SUFFIXES | _HEIF_SUFFIXES) - VIDEO_SUFFIXES
_STILL_CONTAINERS = ("image2", "_pipe")  # ends of FFmpeg's names for files of one picture


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A picture file that was read.

    Attributes:
      path: the file.
      image: RGB uint8 [H, W, 3], upright, in sRGB.
      notes: lines on what is unusual about it, without the path.
    """

    path: pathlib.Path
    image: np.ndarray
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PhotographSet:
    """Photographs whose results share a folder.

    Attributes:
      pictures: (name of its results, file) of each.
      is_single: whether it is one picture, given by its path, whose results are those of a one-frame video.
    """

    pictures: tuple[tuple[str, pathlib.Path], ...]
    is_single: bool = False

    @classmethod
    def of_one(cls, path) -> PhotographSet:
        return cls((("000001", pathlib.Path(path)),), is_single=True)

    @classmethod
    def of(cls, paths: Sequence[pathlib.Path]) -> PhotographSet:
        return cls(tuple(zip(result_names(paths), paths, strict=True)))

    def __len__(self) -> int:
        return len(self.pictures)

    def __str__(self) -> str:
        return str(self.pictures[0][1]) if self.is_single else f"{len(self)} photographs"


def read_photograph(path) -> Photograph:
    """Reads a picture file; if it is animated or has several pictures, the first picture.

    Raises:
      AvsalError: it cannot be read, has 32 bits per channel, or more than 178 million pixels.
    """
    path = pathlib.Path(path)
    _check_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # half the limit: a large camera
        with open_image(path) as image:
            count, is_animated = picture_count(image), image.format in ANIMATED_FORMATS
            notes = color_notes(image, path)
            if count > 1:
                kind = "frames" if is_animated else "pictures"
                notes.append(f"it holds {count} {kind}: the first is read")
            if is_transparent(image):
                notes.append(TRANSPARENT)
            return Photograph(path, to_rgb(image, path, find_profile(image)), tuple(notes))


def is_photograph(path: pathlib.Path) -> bool:
    """Whether a file is a still picture, by its content; by its name if it is unreadable."""
    if path.exists() and not path.is_file():
        return False
    try:
        if is_image(path):
            return not _is_animated(path)
    except AvsalError:  # HEIC; reported when it is read
        return True
    return path.suffix.lower() in _SUFFIXES and not is_video(path)


def is_picture(path: pathlib.Path) -> bool:
    """Whether a file is a picture, animated or not, that Pillow reads, or a refused format such as HEIC."""
    try:
        return is_image(path)
    except AvsalError:
        return True


def is_video(path: pathlib.Path) -> bool:
    """Whether FFmpeg finds a video in a file that Pillow does not read."""
    try:
        with open_container(path) as container:
            return bool(container.streams.video) and not container.format.name.endswith(_STILL_CONTAINERS)
    except AvsalError:
        return False


def photographs_of_folder(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Returns (pictures, other entries) of a folder, not of folders in it.

    Pictures are recognised by their suffix; if a folder has no such name, by their content.
    """
    contents = folder_contents(folder)
    entries = sorted(contents.images + contents.videos + contents.other_entries, key=natural_order)
    pictures = [path for path in entries if path.suffix.lower() in _SUFFIXES and path.is_file()]
    if not pictures:
        pictures = [path for path in contents.other_entries if path.is_file() and is_photograph(path)]
    skipped = set(entries) - set(pictures)
    return pictures, [path for path in entries if path in skipped]


def result_names(paths: Sequence[pathlib.Path]) -> list[str]:
    """Returns a name for the results of each picture: its stem, if that is unique.

    Pictures that share a stem, ignoring case, keep their suffix: `a.jpg` and `a.png`. Pictures of the same
    name in several folders are numbered: `a.jpg`, `a.jpg-2`.
    """
    shared = collections.Counter(_key(path.stem) for path in paths)
    names, used = [], set()
    for path in paths:
        name = first = path.stem if shared[_key(path.stem)] == 1 else path.name
        number = 1
        while _key(name) in used:
            number += 1
            name = f"{first}-{number}"
        used.add(_key(name))
        names.append(name)
    return names


def _key(name: str) -> str:
    """Returns a key that is equal for names that some file systems do not distinguish."""
    return unicodedata.normalize("NFC", name).casefold()


def _check_file(path: pathlib.Path) -> None:
    if not path.exists():
        raise AvsalError(missing(path))
    if not path.is_file():
        raise AvsalError(f"{path} is not a file, so it is not a picture")
    if path.stat().st_size == 0:
        raise AvsalError(f"{path} is empty")
    try:
        path.open("rb").close()
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    if not is_image(path):
        raise AvsalError(f"{path} is not a picture that can be read, whatever its name says")


def _is_animated(path: pathlib.Path) -> bool:
    try:
        with open_image(path) as image:
            return image.format in ANIMATED_FORMATS and picture_count(image) > 1
    except AvsalError:  # reported when it is read
        return False
