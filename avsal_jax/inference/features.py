"""What a network records for a few frames of a video, for outputs that need features."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from avsal_jax.data.fitting import fitted_frame, fitted_map
from avsal_jax.data.video import Frame
from avsal_jax.errors import AvsalError
from avsal_jax.inference.feature_engine import FeatureEngine
from avsal_jax.inference.output import FEATURES, Item, Output
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.sources import SoundChoice, Source
from avsal_jax.inference.streaming import SoundOfClip
from avsal_jax.inference.windows import window
from avsal_jax.spec.input import InputSpec

if TYPE_CHECKING:
    from avsal_jax.inference.settings import Settings


@dataclasses.dataclass(frozen=True)
class FeatureSettings:
    """Which features of which frames.

    Attributes:
      names: of features, see `FeatureEngine`; none for all that have a picture.
      frames: how many, evenly spaced; or seconds in the video, each for the frame nearest to it.
      compare_audio: a second sound beside the first: `off` (silence), a file, `auto`, or None.
      iterations: the largest number of iterations of predictive coding to show the map of; None for the
        model's own.
    """

    names: tuple[str, ...] = ()
    frames: int | tuple[float, ...] = 4
    compare_audio: str | None = None
    iterations: int | None = None


@dataclasses.dataclass(frozen=True)
class _Clip:
    """A chosen frame: its number from 0 and its seconds, the picture, and the window that makes its map."""

    number: int
    time: float
    image: np.ndarray
    window: list[int]
    frames: np.ndarray


def prepare(model: Model, settings: FeatureSettings, spec: InputSpec | None = None) -> FeatureEngine:
    """Returns what evaluates the chosen features; without `spec`, checks them before anything is decoded.

    Args:
      spec: as `Model.feature_engine` takes it.

    Raises:
      AvsalError: an unknown feature, a second sound for a network on picture alone, or iterations of one
        without predictive coding.
    """
    if settings.compare_audio is not None:
        if model.spec.audio is None:
            raise AvsalError("this model works on picture alone: there is no sound for --compare-audio")
        SoundChoice(settings.compare_audio).check()
    return model.feature_engine(settings.names, settings.iterations, spec)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What the network recorded for a frame.

    Attributes:
      sounds: the features for each sound, by its label: name -> float32 array; `saliency` [H, W] is the map.
      engine: what evaluated them: their `names`, `layout` and `counts` (`FeatureEngine`).
    """

    sounds: dict[str, dict[str, np.ndarray]]
    engine: FeatureEngine


def record_features(
    model: Model,
    video: Source,
    settings: Settings,
    outputs: Iterable[Output],
    say: Callable[[str], None],
    note: Callable[[str], None],
    source: str = "video",
) -> dict:
    """Gives outputs the features of the chosen frames (`Item.features`).

    The video is decoded twice more; memory is that of a few clips. Maps are not smoothed over time.

    Args:
      settings: `features` says which, `audio` is the first sound; each `frame_step`-th frame is the video.
      outputs: those that need features.
      say: called with a line of progress.
      note: called with a line about the video or its sound.
      source: `video`, or `still` for a photograph.

    Returns:
      Figures for the summary: `features` are their names, the numbers of the frames (from 1) and the sounds.
    """
    spec, every, step, choice = model.spec, [], settings.frame_step, settings.features
    for frame in video:
        if not every:
            spec = model.spec.for_picture(*frame.image.shape[:2])
        every.append(float(frame.pts * video.info.time_base))
    engine, times = prepare(model, choice, spec), every[::step]
    numbers = _chosen(times, choice.frames, note)
    sounds = {
        _label(settings.audio): SoundChoice(settings.audio).clips(video, model.spec, step=step, say=note)
    }
    if choice.compare_audio is not None:
        label = _label(choice.compare_audio)
        label += " (compared)" if label in sounds else ""
        sounds[label] = SoundChoice(choice.compare_audio).clips(video, model.spec, step=step, say=note)
    for clips in filter(None, sounds.values()):
        for time in times:
            clips.times.add(time)
    spacing = spec.spacing(float(video.info.rate) / step)
    windows = {
        i: window(i, count=len(times), frames=spec.frames, label_frame=spec.label_frame, spacing=spacing)
        for i in numbers
    }
    frames = (dataclasses.replace(f, index=f.index // step) for f in video if f.index % step == 0)
    size = (0, 0)
    for clip in _clips(frames, windows=windows, times=times, spec=spec):
        number, size = clip.number * step + 1, clip.image.shape[:2]
        say(f"features of frame {number} ...")
        values = {
            label: engine(clip.frames, _heard(s and s.clip, clip, len(times)), source)
            for label, s in sounds.items()
        }
        for recorded in values.values():
            recorded["saliency"] = fitted_map(recorded["saliency"], size, spec)
        item = Item(
            number - 1,
            name=f"{number:06d}",
            size=size,
            time=clip.time,
            image=clip.image,
            saliency=next(iter(values.values()))["saliency"],
            features=Recorded(values, engine),
        )
        for output in outputs:
            output.add(item)
    frame_numbers = [i * step + 1 for i in numbers]
    return {
        "frames": len(every),
        "maps": 0,
        "height": size[0],
        "width": size[1],
        FEATURES: {"names": list(engine.names), "frames": frame_numbers, "sounds": list(sounds)},
    }


def _label(audio: str) -> str:
    return {"auto": "own sound", "off": "silence"}.get(audio) or f"sound of {pathlib.Path(audio).name}"


def _heard(sound: SoundOfClip | None, clip: _Clip, count: int) -> np.ndarray | None:
    return None if sound is None else sound(clip.window, count)


def _chosen(times: Sequence[float], frames: int | tuple[float, ...], note) -> list[int]:
    """Returns indices of frames, rising; the middles of equal parts, or the nearest to given seconds."""
    if isinstance(frames, int):
        return sorted({(2 * i + 1) * len(times) // (2 * frames) for i in range(frames)})
    late = [second for second in frames if second > times[-1] + 1]
    if late:
        note(f"the video ends at {times[-1]:.2f} s; its last frame stands for {late[0]:g} s")
    return sorted({int(np.abs(np.array(times) - second).argmin()) for second in frames})


def _clips(
    frames: Iterable[Frame], windows: dict[int, list[int]], times: Sequence[float], spec: InputSpec
) -> Iterator[_Clip]:
    """Yields the chosen frames as soon as their windows are read, and keeps no frame that none needs."""
    waiting = sorted(windows, key=lambda i: max(windows[i]))
    kept, images = {}, {}
    for frame in frames:
        if frame.index in windows:
            images[frame.index] = frame.image
        if any(frame.index in windows[i] for i in waiting):
            kept[frame.index] = fitted_frame(frame.image, spec)
        while waiting and max(windows[waiting[0]]) <= frame.index:
            number = waiting.pop(0)
            clip = np.stack([kept[i] for i in windows[number]])
            yield _Clip(
                number, time=times[number], image=images.pop(number), window=windows[number], frames=clip
            )
            kept = {i: image for i, image in kept.items() if any(i in windows[j] for j in waiting)}
    if waiting:
        raise AvsalError(f"the video has fewer frames than the {len(times)} it had a moment ago; try again")
