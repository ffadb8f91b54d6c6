"""Pictures as videos: a folder of images, an animated picture, a single one."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fractions
import pathlib
import warnings
from collections.abc import Iterator

from PIL import Image

from avsal_jax.errors import AvsalError
from avsal_jax.media.color_profiles import find_profile
from avsal_jax.media.images import (
    IMAGE_SUFFIXES,
    UNREAD_FORMATS,
    is_transparent,
    natural_order,
    open_image,
    read_image,
    same_number,
    stated_tone_mapping,
    to_rgb,
    visible_files,
)
from avsal_jax.media.streams import FASTEST_RATE, SLOWEST_RATE
from avsal_jax.media.video import Frame, VideoInfo

DEFAULT_RATE = 25  # frames per second
_ANIMATED_SUFFIXES = frozenset({".apng", ".avif", ".avifs", ".gif", ".webp"})  # of folders, these are opened
ANIMATED_FORMATS = frozenset({"AVIF", "GIF", "PNG", "WEBP"})  # whose frames have times
_WITHOUT_MAGIC = {"IM", "IPTC", "PCD", "TGA", "IMT", "MCIDAS", "SPIDER", "XVTHUMB"}  # could be any file
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1"}
_MILLISECOND = fractions.Fraction(1, 1000)
_SHORTEST, _USUAL = 10, 100  # ms; browsers and FFmpeg show a frame of 10 ms or less for 100 ms
_MAX_NAMES_IN_NOTE = 5  # names in a line
TRANSPARENT = "transparent pixels are shown over black"
# What people's folders of videos hold; other names in such a folder are skipped, and listed.
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".asf", ".av1", ".avi", ".dav", ".divx", ".dv", ".f4v", ".flc", ".fli",
    ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt",
    ".rm", ".rmvb", ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
})  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FolderContents:
    """The visible entries of a folder by kind, in natural order: stills, videos, and all else."""

    images: list[pathlib.Path]
    videos: list[pathlib.Path]
    other_entries: list[pathlib.Path]

    @property
    def are_mixed(self) -> bool:
        """Whether it may be one video of images or a folder of videos: it has videos, and more frames.

        Frames are images whose names differ only in numbers; other images, such as posters, do not count.
        """
        counts = collections.Counter(
            tuple(part for (part,) in key if isinstance(part, str))
            for key in map(same_number, self.images)
            if len(key) > 1
        )
        return 0 < len(self.videos) < max(counts.values(), default=0)


def folder_contents(folder: pathlib.Path) -> FolderContents:
    """Groups the entries of a folder by suffix; an animated picture counts as a video."""
    images, videos, other_entries = [], [], []
    for path in sorted(visible_files(folder), key=natural_order):
        suffix = path.suffix.lower()
        if path.is_dir():
            other_entries.append(path)
        elif suffix in VIDEO_SUFFIXES:
            videos.append(path)
        elif suffix in IMAGE_SUFFIXES:
            (videos if suffix in _ANIMATED_SUFFIXES and is_animated(path) else images).append(path)
        else:
            other_entries.append(path)
    return FolderContents(images, videos, other_entries)


def skipped_note(folder: pathlib.Path, skipped: list[pathlib.Path]) -> str:
    """Returns a line with the entries of a folder that are not read."""
    names = ", ".join(path.name for path in skipped[:_MAX_NAMES_IN_NOTE])
    rest = f" and {len(skipped) - _MAX_NAMES_IN_NOTE} more" if len(skipped) > _MAX_NAMES_IN_NOTE else ""
    return f"{folder}: skipped {names}{rest}"


def is_animated(path: pathlib.Path) -> bool:
    """Whether a picture file holds several frames with times; False if it cannot be read."""
    try:
        with open_image(path) as image:
            return image.format in ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1
    except AvsalError:  # reported when the file is read
        return False


def is_image(path: pathlib.Path) -> bool:
    """Whether Pillow reads a file as a picture, by its content; for a few formats, by its name.

    Raises:
      AvsalError: it is a HEIC picture, which is not read.
    """
    kinds, suffix = set(Image.OPEN) - UNREAD_FORMATS, path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        kinds = ANIMATED_FORMATS & kinds  # an animated picture by a wrong name; JPEG may be motion JPEG
    elif suffix not in IMAGE_SUFFIXES:
        kinds -= _WITHOUT_MAGIC
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=sorted(kinds)):
                return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # not a format that Pillow reads
        _refuse_heif(path)
        return False


def _refuse_heif(path: pathlib.Path) -> None:
    """Raises AvsalError for a HEIC picture, of which FFmpeg would decode a single tile."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS:
            raise AvsalError(
                f"{path} is a HEIC picture, which is not read: save it as JPEG or PNG first "
                "(iPhone: Settings, Camera, Formats, Most Compatible)"
            )


class ImageFolder:
    """A folder of images as one video, in the order of the numbers in their names.

    Args:
      path: the folder; its images have one size. Other files are skipped, with a note.
      rate: frames per second, 0.01 to 1,000.

    Raises:
      AvsalError: the rate is out of range; there is no image; there are videos among the images, two images
        of one number, or images of several sizes.
    """

    damaged, cut_off = 0, False

    def __init__(self, path, rate: float = DEFAULT_RATE):
        self.path = pathlib.Path(path)
        if not SLOWEST_RATE <= rate <= FASTEST_RATE:
            raise AvsalError(
                f"a folder of images has {SLOWEST_RATE:g} to {FASTEST_RATE:,} frames per second; got {rate}"
            )
        contents = folder_contents(self.path)
        self._files = contents.images
        if not self._files:
            skipped = f": {skipped_note(self.path, contents.other_entries)}" if contents.other_entries else ""
            raise AvsalError(f"{self.path} holds no images{skipped}")
        if contents.videos:
            raise AvsalError(mixed_folder(self.path, contents))
        self._refuse_twins()
        notes = [skipped_note(self.path, contents.other_entries)] if contents.other_entries else []
        notes += self._order_note() + self._notes_on_the_first()
        rate = fractions.Fraction(rate).limit_denominator(1001)
        self.info = VideoInfo(
            self.path, rate, 1 / rate, frames=len(self._files), sound=None, notes=tuple(notes)
        )

    def __iter__(self) -> Iterator[Frame]:
        size = None
        for index, path in enumerate(self._files):
            image = read_image(path)
            size = size or image.shape
            if image.shape != size:
                raise AvsalError(
                    f"{path} is {image.shape[1]}x{image.shape[0]}, but the images before it are "
                    f"{size[1]}x{size[0]}; one video has one size; for photographs, add --stills"
                )
            yield Frame(index, index, image)

    def _refuse_twins(self) -> None:
        path_of_number: dict[tuple, pathlib.Path] = {}
        for path in self._files:
            other = path_of_number.setdefault(same_number(path), path)
            if other is not path:
                raise AvsalError(
                    f"{self.path} holds {other.name} and {path.name}, two images of one number: "
                    "their order is not known; remove or rename one; for photographs, add --stills"
                )

    def _order_note(self) -> list[str]:
        """Returns a note if the order is ambiguous.

        Two varying numbers may be two cameras or shots; names without numbers may be photographs.
        """
        numbers = [[part for (part,) in same_number(path) if isinstance(part, int)] for path in self._files]
        if len(numbers) > 1 and not any(numbers):
            return [
                f"{self.path}: the names hold no numbers; the images are the frames of one video, "
                f"{self._files[0].name} to {self._files[-1].name}; for photographs, add --stills"
            ]
        varying = sum(len(set(column)) > 1 for column in zip(*numbers, strict=False))
        if varying < 2:
            return []
        return [
            f"{self.path}: the names hold {varying} numbers that vary; the frames are in the order of the "
            f"first, then the next: {self._files[0].name} to {self._files[-1].name}"
        ]

    def _notes_on_the_first(self) -> list[str]:
        try:
            with open_image(self._files[0]) as image:
                mapping = stated_tone_mapping(image, self._files[0])
                lines = [TRANSPARENT] if is_transparent(image) else []
                lines += [mapping.note] if mapping else []
                return [f"{self.path}: {line}" for line in lines]
        except AvsalError:  # reported when the file is read
            return []


def mixed_folder(folder: pathlib.Path, contents: FolderContents) -> str:
    """Returns the error for a folder with images and videos, when one kind was expected."""
    return (
        f"{folder} holds {len(contents.images)} images next to {len(contents.videos)} videos, such as "
        f"{contents.videos[0].name}: name the videos, or move the images into a separate folder"
    )


class ImageFile:
    """A picture file as a video: all frames of an animated picture with their times, else one frame.

    If a file has several pictures but no times (TIFF, MPO), the first is read. Colours with an ICC profile
    are converted to sRGB.

    Raises:
      AvsalError: no frame can be read.
    """

    cut_off = False

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.damaged = 0
        with open_image(self.path) as image:
            count = picture_count(image)
            notes = [f"{self.path}: {line}" for line in color_notes(image, self.path)]
            self._animated = image.format in ANIMATED_FORMATS and count > 1
            self._first = int(self._animated and bool(image.info.get("default_image")))  # of APNG: not played
            if count > 1 and not self._animated:
                notes.append(f"{self.path} holds {count} pictures without times: the first is read")
        self._frame_count = count - self._first if self._animated else 1
        durations, transparent = [], False
        for _, duration, see_through in self._frames():
            durations.append(duration)
            transparent = transparent or see_through
        if not durations:
            raise AvsalError(f"{self.path} has no frame that can be read")
        if transparent:
            notes.append(f"{self.path}: {TRANSPARENT}")
        seconds = fractions.Fraction(sum(durations)) * _MILLISECOND
        rate = len(durations) / seconds if self._animated else fractions.Fraction(DEFAULT_RATE)
        self.info = VideoInfo(
            self.path,
            rate.limit_denominator(1001),
            _MILLISECOND,
            frames=len(durations),
            sound=None,
            notes=tuple(notes),
        )

    def __iter__(self) -> Iterator[Frame]:
        self.damaged, count, time = 0, 0, 0.0
        for image, duration, _ in self._frames(pixels=True):
            yield Frame(count, round(time), image)
            count, time = count + 1, time + duration
        self.damaged = self._frame_count - count

    def _frames(self, pixels: bool = False) -> Iterator[tuple]:
        """Yields (RGB, or None without `pixels`; milliseconds; whether transparent) until a damaged frame."""
        with open_image(self.path) as image:
            profile = find_profile(image) if pixels else None
            for number in range(self._first, self._first + self._frame_count):
                try:
                    image.seek(number)
                    image.load()  # WebP and AVIF provide the time only of a decoded frame
                except Exception:  # Pillow's readers raise various types for damaged files
                    if number == self._first:
                        raise
                    return
                yield (
                    to_rgb(image, self.path, profile) if pixels else None,
                    _milliseconds(image),
                    is_transparent(image),
                )


def color_notes(image: Image.Image, path: pathlib.Path) -> list[str]:
    """Returns notes on the conversion of an opened picture's colours, from HDR or by an ICC profile."""
    colors = stated_tone_mapping(image, path) or find_profile(image)
    return [colors.note] if colors and colors.note else []


def picture_count(image: Image.Image) -> int:
    """Returns the number of pictures in an opened file; in a damaged file, of those that can be reached."""
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # Pillow's readers raise various types for damaged files
        return image.tell() + 2  # includes the damaged picture, which is skipped


def _milliseconds(image: Image.Image) -> float:
    duration = float(image.info.get("duration") or 0)
    return duration if duration > _SHORTEST else _USUAL
