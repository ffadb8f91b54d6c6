"""The pictures and videos of recorded gaze: which file a name in a table means, its kind and its size."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
import re
import unicodedata

from avsal_jax.data.gaze.stimuli import picture_size
from avsal_jax.data.sets.video_lists import checked_name
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.media.image_videos import VIDEO_SUFFIXES, ImageFile, is_animated, is_image, skipped_note
from avsal_jax.media.images import IMAGE_SUFFIXES, visible_files
from avsal_jax.media.video import Video

_MEDIA_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


@dataclasses.dataclass(frozen=True)
class StimulusFile:
    """What is known of a stimulus' file.

    Attributes:
      size: (height, width) of the upright picture or frame in pixels.
      is_video: whether it is a video; an animated picture is one.
      seconds: duration of a video; None for a picture, or where the video does not state it.
      notes: what is unusual about it.
    """

    size: tuple[int, int]
    is_video: bool
    seconds: float | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Match:
    """The file that a name in the table means.

    Attributes:
      path: the file; None where it is missing.
      key: what names of one stimulus share: the file's name, or the name in the table where there is no file.
      reason: why the name and the file's differ, or why there is no file; '' where the names are equal.
    """

    path: pathlib.Path | None
    key: str
    reason: str = ""


class StimulusFolder:
    """The folder of stimuli, in which names are looked up.

    Args:
      folder: its files are listed; no name leads out of it.

    Raises:
      AvsalError: there is no such folder, or it is empty.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        try:
            entries = visible_files(folder)
        except OSError as error:
            raise AvsalError(
                f"cannot list the stimuli in {folder}: {error.strerror}; a recording has its pictures or "
                "videos in `stimuli/`, next to fixations.csv or gaze.csv"
            ) from error
        self._files = {path.name: path for path in entries if path.is_file()}
        self._not_files = [path for path in entries if path.name not in self._files]
        if not self._files:
            raise AvsalError(
                f"{folder} holds no file: put the pictures or videos that people looked at there"
            )
        self._stems = collections.Counter(path.stem for path in self._files.values())
        self._by_name, self._by_stem = collections.defaultdict(list), collections.defaultdict(list)
        for name, path in self._files.items():
            self._by_name[_plain(name)].append(path)
            self._by_stem[_plain(path.stem)].append(path)

    def match(self, name: str) -> Match:
        """Returns the file that a name in a table means.

        Of a path, its last part counts. Then the name is looked up as it is, without regard to case, and as
        a name without suffix; the latter two count where one file fits.

        Raises:
          AvsalError: it is not a name of a file.
        """
        bare = re.split(r"[/\\]", name)[-1]
        checked_name(bare, "stimulus")
        reason = "is a path, of which the last part counts" if bare != name else ""
        if bare in self._files:
            return Match(self._files[bare], bare, reason)
        for files, difference in (
            (self._by_name[_plain(bare)], "differs in case"),
            (self._by_stem[_plain(bare)], "lacks the suffix"),
        ):
            if len(files) == 1:
                return Match(files[0], files[0].name, reason or difference)
            if files:
                names = " and ".join(path.name for path in files[:2])
                return Match(None, bare, f"may mean {names}: write the name as the file has it")
        return Match(None, bare, f"has no file in {self.folder.name}/{did_you_mean(bare, self._files)}")

    def name_of(self, path: pathlib.Path) -> str:
        """Returns the name of a file without suffix, if no other file has the same."""
        return path.name if self._stems[path.stem] > 1 else path.stem

    def notes(self, used: set[str]) -> list[str]:
        """Returns which files no row names, and what in the folder is not a stimulus."""
        rest = [path for name, path in self._files.items() if name not in used]
        stimuli = [path for path in rest if path.suffix.lower() in _MEDIA_SUFFIXES]
        skipped = [path for path in rest if path not in stimuli] + self._not_files
        lines = [f"{len(stimuli)} stimuli without rows, left out: {name_list(p.name for p in stimuli)}"]
        return (lines if stimuli else []) + ([skipped_note(self.folder, skipped)] if skipped else [])


def name_list(names, count: int = 5) -> str:
    """Returns some names in a line, and how many more there are."""
    names = list(names)
    rest = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest


def read_stimulus(path: pathlib.Path) -> StimulusFile:
    """Returns the kind and the size of a file, by its content; of a video, one frame is decoded.

    Raises:
      AvsalError: it is neither a picture nor a video that can be read.
    """
    if is_image(path):
        size = picture_size(path)
        if not is_animated(path):
            return StimulusFile(size, is_video=False)
        info = ImageFile(path).info
        return StimulusFile(size, is_video=True, seconds=float(info.frames / info.rate), notes=info.notes)
    video = Video(path)
    with contextlib.closing(iter(video)) as frames:
        height, width = next(frames).size
    info, notes = video.info, list(video.info.notes)
    if info.pixel_aspect != 1:
        notes.append(
            f"{path.name}: its pixels are {float(info.pixel_aspect):.3g} times as wide as high, and players "
            f"stretch it; positions are pixels of the {width}x{height} frame"
        )
    return StimulusFile(
        (height, width),
        is_video=True,
        seconds=float(info.frames / info.rate) if info.frames else None,
        notes=tuple(notes),
    )


def _plain(name: str) -> str:
    """A name without regard to case and to how accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()
