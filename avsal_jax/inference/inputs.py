"""Resolves inputs of the command line to videos: files, pictures, folders of images, folders of videos."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.media.audio import envelope, read_own_sound, read_sound
from avsal_jax.media.clip_sound import ClipSound, Sound
from avsal_jax.media.frame_times import FrameTimes
from avsal_jax.media.image_videos import (
    DEFAULT_RATE,
    ImageFile,
    ImageFolder,
    folder_contents,
    is_image,
    mixed_folder,
    skipped_note,
)
from avsal_jax.media.photographs import (
    PhotographSet,
    is_photograph,
    is_picture,
    is_video,
    photographs_of_folder,
)
from avsal_jax.media.sound_frames import audio_stream
from avsal_jax.media.video import Video, open_container
from avsal_jax.spec.input import InputSpec

Source = Video | ImageFolder | ImageFile
HEARS_SILENCE = "the audio input of the model is silence"
_MIN_RATE, _MAX_RATE, _TRAINING_RATE = 15, 35, 30  # frames per second


def list_inputs(
    names: Sequence,
    output: pathlib.Path,
    note: Callable[[str], None] = lambda line: None,
    stills: bool = False,
) -> dict[pathlib.Path | PhotographSet, pathlib.Path]:
    """Returns input -> folder of its results, for all paths in `names`.

    A folder of images is one video. A folder with videos represents these videos; its pictures (posters) and
    other entries are skipped. In a folder without a video or image suffix, every file is an input. Two or
    more photographs form one input. A single input writes into `output` itself; each of several inputs writes
    into a subfolder with its name, photographs into `stills`.

    Args:
      note: called with a line on skipped entries of a folder.
      stills: whether every picture is a photograph, including those in folders.

    Raises:
      AvsalError: an empty folder, a folder with videos and a longer sequence of numbered images, an output
        inside a folder of inputs, or a video with `stills`.
    """
    inputs: list[pathlib.Path] = []
    for path in map(pathlib.Path, names):
        if path.is_dir():
            if output.resolve().is_relative_to(path.resolve()):
                raise AvsalError(f"the output {output} lies inside the input folder {path}; choose another")
            inputs += (_pictures_of_folder if stills else _inputs_of_folder)(path, note)
        else:
            inputs.append(path)
    grouped = _with_photographs_together(list(dict.fromkeys(inputs)), stills)
    if not grouped:
        raise AvsalError("there is no input file")
    if len(grouped) == 1:
        return {grouped[0]: output}
    folders, used = {}, set()
    for path in grouped:
        # resolved, since `..` is not a usable name
        stem, number = "stills" if isinstance(path, PhotographSet) else path.resolve().stem, 1
        if not stem:
            raise AvsalError(f"{path} has no name for its results; give the path of a video")
        name = stem
        while name in used:
            number += 1
            name = f"{stem}-{number}"
        used.add(name)
        folders[path] = output / name
    return folders


def _with_photographs_together(
    inputs: list[pathlib.Path], stills: bool
) -> list[pathlib.Path | PhotographSet]:
    """Returns the inputs, with two or more photographs combined into a set at the end."""
    if stills:
        videos = [path for path in inputs if path.is_file() and not is_picture(path) and is_video(path)]
        if videos:
            raise AvsalError(
                f"{videos[0]} is a video, and --stills is for pictures; leave one of the two out"
            )
        return [PhotographSet.of(inputs)] if inputs else []
    if len(inputs) == 1:
        return inputs
    photographs = [path for path in inputs if is_photograph(path)]
    if len(photographs) < 2:
        return inputs
    return [*(path for path in inputs if path not in set(photographs)), PhotographSet.of(photographs)]


def _pictures_of_folder(path: pathlib.Path, note: Callable[[str], None]) -> list[pathlib.Path]:
    pictures, skipped = photographs_of_folder(path)
    if not pictures:
        rest = f": {skipped_note(path, skipped)}" if skipped else ""
        raise AvsalError(f"the folder {path} holds no pictures{rest}")
    if skipped:
        note(skipped_note(path, skipped))
    return pictures


def _inputs_of_folder(path: pathlib.Path, note: Callable[[str], None]) -> list[pathlib.Path]:
    contents = folder_contents(path)
    if not (contents.images or contents.videos or contents.other_entries):
        raise AvsalError(f"the folder {path} is empty")
    if contents.are_mixed:
        raise AvsalError(mixed_folder(path, contents))
    if contents.videos:
        if skipped := contents.images + contents.other_entries:
            note(skipped_note(path, skipped))
        return contents.videos
    if contents.images:
        return [path]
    files = [p for p in contents.other_entries if p.is_file()]
    if not files:
        names = ", ".join(p.name for p in contents.other_entries[:3])
        raise AvsalError(f"{path} holds no file, only folders ({names}): give these as inputs")
    return files


def open_source(path, fps: float | None = None, stream: int | None = None) -> Source:
    """Opens a video file, a picture, or a folder of images at `fps` frames per second (25 if None).

    Args:
      stream: index of the video stream of a file; None for the stream that a player would choose.

    Raises:
      AvsalError: it cannot be read; `fps` is given for a file, which states its rate; or `stream` is given
        for a source without streams.
    """
    path = pathlib.Path(path)
    is_folder = path.is_dir()
    if fps is not None and not is_folder:
        raise AvsalError(f"{path} is a file with a frame rate of its own; --fps is for folders of images")
    if not is_folder and not is_image(path):
        return Video(path, stream)
    if stream is not None:
        raise AvsalError(f"{path} has no streams to choose from; --stream is for video files")
    return ImageFolder(path, DEFAULT_RATE if fps is None else fps) if is_folder else ImageFile(path)


def damage_notes(source: Source, count: int) -> list[str]:
    """Returns lines on what could not be read of a video, after its `count` frames are read."""
    path, promised, notes = source.path, source.info.promised, []
    if source.damaged:
        notes.append(f"{path}: {source.damaged} damaged packets or frames; the rest was used")
    if source.cut_off and promised:
        notes.append(
            f"{path}: {count} of the {promised} frames that its header states could be read; it is cut off"
        )
    elif source.cut_off:
        notes.append(f"{path} is cut off: {count} frames could be read, and its container states more")
    return notes


def rate_warning(rate: float, step: int) -> str | None:
    """Returns a warning if a frame rate is far from those of the training data (24 to 30), or None."""
    effective = rate / step
    if _MIN_RATE <= effective <= _MAX_RATE:
        return None
    advice = ""
    if effective > _MAX_RATE:
        better = max(2, round(rate / _TRAINING_RATE))
        advice = f"; --frame-step {better} reduces the rate to {rate / better:.3g}"
    return f"the network gets {effective:.3g} frames per second, but was trained at 24 to 30{advice}"


class Sounds:
    """The sounds of one prediction; each file is decoded once."""

    def __init__(self):
        self._decoded: dict[pathlib.Path, Sound | AvsalError] = {}

    def read(self, path: pathlib.Path) -> Sound:
        """Returns the sound of a file; errors as in `read_sound`."""
        if path not in self._decoded:
            try:
                self._decoded[path] = read_sound(path)
            except AvsalError as error:
                self._decoded[path] = error
        sound = self._decoded[path]
        if isinstance(sound, AvsalError):
            raise sound
        return sound

    def envelope(self, path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
        """Returns `media.audio.envelope` of a file; if it is not decoded yet, this takes O(1) memory."""
        return envelope(self.read(path) if path in self._decoded else path)


@dataclasses.dataclass(frozen=True)
class SoundChoice:
    """Which sound a network gets.

    Attributes:
      audio: `auto` (the video's own), `off`, or a file.
    """

    audio: str = "auto"

    def check(self) -> None:
        """Raises AvsalError for a file that is missing or has no sound."""
        if self.audio not in ("auto", "off"):
            path = pathlib.Path(self.audio)
            with open_container(path) as container:
                try:
                    audio_stream(container, path)
                except AvsalError as error:
                    raise AvsalError(f"{error}; --audio takes auto, off, or a file with sound") from error

    def file(self, source: Source) -> pathlib.Path | None:
        """Returns the file with the sound of the overlay, or None."""
        return source.info.sound if self.audio in ("auto", "off") else pathlib.Path(self.audio)

    def clips(
        self,
        source: Source,
        spec: InputSpec,
        step: int,
        say: Callable[[str], None] = lambda line: None,
        sounds: Sounds | None = None,
    ) -> ClipSound | None:
        """Returns the sound of each clip for an audio-visual network, or None for silence.

        The caller that reads the frames must add their times to `times` of the returned object.

        Args:
          step: every `step`-th frame is used.
          say: called with a line about the sound, such as the reason for silence.
          sounds: of the prediction, if several parts of it use the sound.

        Raises:
          AvsalError: the file has no sound that can be decoded.
        """
        sounds = sounds or Sounds()
        path = self.file(source)
        if spec.audio is None:
            if path is not None and self.audio != "off":
                say("this model is visual-only: it does not use the sound")
            return None
        sound, reason = None, ""
        if self.audio == "auto":
            sound, reason = read_own_sound(path, sounds.read)
        elif self.audio != "off":
            sound = sounds.read(path)
        if sound is None:
            say(f"{reason}; {HEARS_SILENCE}" if reason else HEARS_SILENCE)
            return None
        for line in sound.notes:
            say(line)
        if self.audio != "auto":  # a separate file begins with the picture
            sound = dataclasses.replace(sound, start=source.info.start)
        rate = float(source.info.rate) / step
        times = FrameTimes(rate, float(source.info.time_base))
        clips = ClipSound.of(sound, spec, rate, video_start=source.info.start, times=times)
        if clips.warning:
            say(clips.warning)
        return clips
