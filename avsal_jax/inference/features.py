"""Features of a few frames of a video, for outputs that need them."""

from __future__ import annotations

import dataclasses
import pathlib
import time as clock
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.inference.feature_engine import FeatureEngine
from avsal_jax.inference.inputs import SoundChoice, Sounds, Source
from avsal_jax.inference.output import FEATURES, Item, Output
from avsal_jax.inference.stream import FrameMap, stream
from avsal_jax.inference.windows import window
from avsal_jax.media.clip_sound import ClipSound
from avsal_jax.media.fitting import fitted_map
from avsal_jax.media.video import Frame
from avsal_jax.spec.input import InputSpec

if TYPE_CHECKING:
    from avsal_jax.inference.outputs import OutputSet
    from avsal_jax.inference.predictor import Model
    from avsal_jax.inference.settings import Settings


@dataclasses.dataclass(frozen=True)
class FeatureSettings:
    """Which features of which frames.

    Attributes:
      names: of features, see `FeatureEngine`; empty for all that have a picture.
      frames: number of evenly spaced frames; or times in seconds, each for the frame nearest to it.
      compare_audio: a second sound to compare: `off` (silence), a file, `auto`, or None.
      iterations: the largest number of iterations of predictive coding whose map is shown; None for the
        model's number.
    """

    names: tuple[str, ...] = ()
    frames: int | tuple[float, ...] = 4
    compare_audio: str | None = None
    iterations: int | None = None


@dataclasses.dataclass(frozen=True)
class _Clip:
    """The clip of a selected frame: its number from 0, the picture, and the window of its map."""

    number: int
    image: np.ndarray
    window: list[int]
    frames: np.ndarray


def check_features(model: Model, settings: FeatureSettings) -> None:
    """Checks the choice of features before anything is decoded.

    Raises:
      AvsalError: an unknown feature, a second sound for a visual-only network, or iterations of a network
        without predictive coding.
    """
    if settings.compare_audio is not None and model.spec.audio is None:
        raise AvsalError("this model is visual-only: --compare-audio has no effect, so leave it out")
    model.feature_engine(settings.names, settings.iterations)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The recorded features of a frame.

    Attributes:
      sounds: the features for each sound, by its label: name -> float32 array; `saliency` [H, W] is the map.
      engine: the `FeatureEngine` that evaluated them, with `names`, `layout` and `counts`.
    """

    sounds: dict[str, dict[str, np.ndarray]]
    engine: FeatureEngine


class FeatureRecorder:
    """Passes the features of the selected frames (`Item.features`) to outputs, during a pass over the frames.

    The frames are selected by the number of frames that the container states. `missed` returns whether that
    number was wrong. Memory is that of a few clips. Maps are not smoothed over time.

    Args:
      model: evaluates the clips.
      video: the source of the frames.
      settings: `features` selects them, `audio` is the first sound; each `frame_step`-th frame is used.
      outputs: the outputs that need features.
      sounds: the decoded sounds of the prediction.
      say: called with a line of progress.
      medium: `video`, or `still` for a photograph.
      times: seconds of all frames of `frame_step`, if they are known from an earlier pass.

    Attributes:
      frame_indices: indices of the frames of `frame_step` that clips use.
      seconds: duration of the evaluation.

    Raises:
      AvsalError: a sound cannot be read.
    """

    def __init__(
        self,
        model: Model,
        video: Source,
        settings: Settings,
        outputs: Iterable[Output],
        sounds: Sounds,
        say: Callable[[str], None],
        medium: str = "video",
        times: Sequence[float] | None = None,
    ):
        self._model, self._settings, self._outputs = model, settings, outputs
        self._say, self._medium, self.seconds = say, medium, 0.0
        self._lines: list[str] = []
        self._sounds = self._clip_sounds(video, sounds)
        self._fps = float(video.info.rate) / settings.frame_step
        self._times: list[float] = []
        if times is None:
            count = -(-(video.info.frames or 0) // settings.frame_step)
            times = [video.info.start + index / self._fps for index in range(count)]
        self._count, self._windows = len(times), self._windows_of(times) if times else {}
        self._clips = _Clips(self._windows)
        self.frame_indices = frozenset(index for window in self._windows.values() for index in window)
        self._engine = self._engine_of(None)
        self._size, self._error = (0, 0), None

    def _clip_sounds(self, video: Source, sounds: Sounds) -> dict[str, ClipSound | None]:
        """Returns the sound of clips by its label; collects the notes for `finish`."""
        spec, step = self._model.spec, self._settings.frame_step
        by_label = {}
        for audio in filter(None, (self._settings.audio, self._settings.features.compare_audio)):
            label = _label(audio)
            label += " (compared)" if label in by_label else ""
            by_label[label] = SoundChoice(audio).clips(
                video, spec, step=step, say=self._lines.append, sounds=sounds
            )
        return by_label

    def _engine_of(self, spec: InputSpec | None) -> FeatureEngine:
        choice = self._settings.features
        return self._model.feature_engine(choice.names, choice.iterations, spec)

    def _windows_of(self, times: Sequence[float], note: Callable[[str], None] = lambda line: None):
        spec = self._model.spec
        spacing = spec.spacing(self._fps)
        return {
            i: window(i, count=len(times), frames=spec.frames, label_frame=spec.label_frame, spacing=spacing)
            for i in _frame_indices(times, self._settings.features.frames, note)
        }

    def add(self, number: int, frame: Frame, time: float, fitted: np.ndarray | None, spec: InputSpec) -> None:
        """Takes the next frame of `frame_step`.

        Args:
          number: from 0, among these frames.
          time: seconds.
          fitted: uint8 [height, width, 3] at the size of `spec`; None if it is not in `frame_indices`.
          spec: the model's, with the size for this source.
        """
        self._times.append(time)
        for clips in filter(None, self._sounds.values()):
            clips.times.add(time)
        if self._error is None:
            started = clock.perf_counter()
            try:
                for clip in self._clips.add(number, image=frame.image, fitted=fitted):
                    self._evaluate(clip, spec)
            except AvsalError as error:  # raised by `finish`, since errors of the maps take precedence
                self._error = error
            self.seconds += clock.perf_counter() - started

    def _evaluate(self, clip: _Clip, spec: InputSpec) -> None:
        number, size = clip.number * self._settings.frame_step + 1, clip.image.shape[:2]
        self._say(f"features of frame {number} ...")
        self._size, self._engine = size, self._engine_of(spec)
        values = {
            label: self._engine(clip.frames, sound and sound.clip(clip.window, self._count), self._medium)
            for label, sound in self._sounds.items()
        }
        for recorded in values.values():
            recorded["saliency"] = fitted_map(recorded["saliency"], size, spec)
        item = Item(
            number - 1,
            name=f"{number:06d}",
            size=size,
            time=self._times[clip.number],
            image=clip.image,
            saliency=next(iter(values.values()))["saliency"],
            features=Recorded(values, self._engine),
        )
        for output in self._outputs:
            output.add(item)

    def missed(self) -> Sequence[float] | None:
        """Returns the times of all frames if another pass with different clips is needed; else None."""
        windows = self._windows_of(self._times)
        least = min(self._count, len(self._times)) - 1  # later clips depend on the number of frames
        is_certain = self._count == len(self._times) or max(map(max, windows.values())) < least
        return None if is_certain and windows == self._windows else self._times

    def finish(self, note: Callable[[str], None]) -> dict:
        """Notes what was unusual, and returns figures for the summary.

        Returns:
          `features` has the names, the numbers of the frames (from 1) and the sounds.

        Raises:
          AvsalError: the network's output is not finite, or the video has fewer frames than in the
            previous pass.
        """
        self._windows_of(self._times, note)
        for line in self._lines:
            note(line)
        if self._error is not None:
            raise self._error
        if self._clips.are_missing:
            raise AvsalError(
                f"the video has fewer frames than the {self._count} it had a moment ago; try again"
            )
        step = self._settings.frame_step
        numbers = [index * step + 1 for index in self._windows]
        return {
            "height": self._size[0],
            "width": self._size[1],
            FEATURES: {"names": list(self._engine.names), "frames": numbers, "sounds": list(self._sounds)},
        }


def record_features(
    model: Model,
    video: Source,
    settings: Settings,
    outputs: OutputSet,
    sounds: Sounds,
    say: Callable[[str], None],
    note: Callable[[str], None],
    recorder: FeatureRecorder | None = None,
    medium: str = "video",
) -> dict:
    """Passes the features of the selected frames to outputs, and returns figures for the summary.

    Args:
      outputs: the outputs that need features. Data of a wrong selection of frames is discarded.
      recorder: of a pass over the video, which is used if it selected the correct frames; None if there was
        no pass.

    Other arguments are those of `FeatureRecorder`; raises the errors of it and of its `finish`.
    """
    options = {"settings": settings, "outputs": outputs, "sounds": sounds, "say": say, "medium": medium}
    count = None
    if recorder is None:
        recorder = FeatureRecorder(model, video, **options)
        count = sum(1 for _ in _pass(model, video, settings, recorder=recorder, medium=medium))
    times = recorder.missed()
    if times is not None:
        outputs.discard()
        recorder = FeatureRecorder(model, video, **options, times=times)
        count = sum(1 for _ in _pass(model, video, settings, recorder=recorder, medium=medium))
    return {**({} if count is None else {"frames": count, "maps": 0}), **recorder.finish(note)}


def _pass(model, video, settings, recorder, medium) -> Iterator[FrameMap]:
    return stream(model, video, step=settings.frame_step, medium=medium, recorder=recorder, has_maps=False)


def _label(audio: str) -> str:
    return {"auto": "own sound", "off": "silence"}.get(audio) or f"sound of {pathlib.Path(audio).name}"


def _frame_indices(times: Sequence[float], frames: int | tuple[float, ...], note) -> list[int]:
    """Returns rising indices of frames: the middles of equal parts, or the nearest to given seconds."""
    if isinstance(frames, int):
        return sorted({(2 * i + 1) * len(times) // (2 * frames) for i in range(frames)})
    late = [second for second in frames if second > times[-1] + 1]
    if late:
        note(f"the video ends at {times[-1]:.2f} s; its last frame is used for {late[0]:g} s")
    return sorted({int(np.abs(np.array(times) - second).argmin()) for second in frames})


class _Clips:
    """Yields the clips of the selected frames as soon as their windows are complete; drops unused frames."""

    def __init__(self, windows: Mapping[int, list[int]]):
        self._windows = windows
        self._waiting = sorted(windows, key=lambda i: max(windows[i]))
        self._frames: dict[int, np.ndarray] = {}
        self._images: dict[int, np.ndarray] = {}

    @property
    def are_missing(self) -> bool:
        """Whether some clips are not complete yet."""
        return bool(self._waiting)

    def add(self, number: int, image: np.ndarray, fitted: np.ndarray | None) -> Iterator[_Clip]:
        """Adds the next frame and yields the clips that it completes."""
        windows = self._windows
        if number in windows:
            self._images[number] = image
        if any(number in windows[i] for i in self._waiting):
            self._frames[number] = fitted
        while self._waiting and max(windows[self._waiting[0]]) <= number:
            number_of_map = self._waiting.pop(0)
            frames = np.stack([self._frames[i] for i in windows[number_of_map]])
            yield _Clip(
                number_of_map,
                image=self._images.pop(number_of_map),
                window=windows[number_of_map],
                frames=frames,
            )
            frame_indices = {index for i in self._waiting for index in windows[i]}
            self._frames = {i: frame for i, frame in self._frames.items() if i in frame_indices}
