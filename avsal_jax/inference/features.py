"""`--save features`: what a network recorded for a few frames of a video, as pictures, arrays and a page."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from avsal_jax.data.fitting import fitted_frame, fitted_map
from avsal_jax.data.video import Frame
from avsal_jax.errors import AvsalError
from avsal_jax.inference.feature_engine import FeatureEngine
from avsal_jax.inference.feature_pictures import draw
from avsal_jax.inference.feature_views import Lines, Maps, view
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.sources import SoundChoice, Source
from avsal_jax.inference.streaming import SoundOfClip
from avsal_jax.inference.windows import window
from avsal_jax.pages import Curves, Grid, Pictures, Section, render_page
from avsal_jax.pictures import overlay, resize_map, shrink, to_grey
from avsal_jax.spec.input import InputSpec

_WIDTH = 480
PAGE, FOLDER = "features.html", "features"


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


def write_features(
    model: Model,
    video: Source,
    audio: str,
    step: int,
    settings: FeatureSettings,
    folder: pathlib.Path,
    say: Callable[[str], None],
    note: Callable[[str], None],
    source: str = "video",
) -> dict:
    """Writes `features.html` and, for every chosen frame, `features/FRAME/NAME.png` and `features/FRAME.npz`.

    The video is decoded twice more; memory is that of a few clips. Maps are not smoothed over time.

    Args:
      audio: the first sound, as `Settings.audio`.
      step: every step-th frame is the video.
      say: called with a line of progress.
      note: called with a line about the video or its sound.
      source: `video`, or `still` for a photograph.

    Returns:
      What the summary says: the names, the numbers of the frames (from 1), and `height`, `width` and
      `count` of the video.
    """
    spec, every = model.spec, []
    for frame in video:
        if not every:
            spec = model.spec.for_picture(*frame.image.shape[:2])
        every.append(float(frame.pts * video.info.time_base))
    engine, times = prepare(model, settings, spec), every[::step]
    chosen = _chosen(times, settings.frames, note)
    sounds = {_label(audio): SoundChoice(audio).clips(video, model.spec, step=step, say=note)}
    if settings.compare_audio is not None:
        label = _label(settings.compare_audio)
        label += " (compared)" if label in sounds else ""
        sounds[label] = SoundChoice(settings.compare_audio).clips(video, model.spec, step=step, say=note)
    for clips in filter(None, sounds.values()):
        for time in times:
            clips.times.add(time)
    spacing = spec.spacing(float(video.info.rate) / step)
    windows = {
        i: window(i, count=len(times), frames=spec.frames, label_frame=spec.label_frame, spacing=spacing)
        for i in chosen
    }
    frames = (dataclasses.replace(f, index=f.index // step) for f in video if f.index % step == 0)
    (folder / FOLDER).mkdir()
    sections, size = [], (0, 0)
    for clip in _clips(frames, windows=windows, times=times, spec=spec):
        say(f"features of frame {clip.number * step + 1} ...")
        size = clip.image.shape[:2]
        found = {
            label: engine(clip.frames, _heard(s and s.clip, clip, len(times)), source)
            for label, s in sounds.items()
        }
        for recorded in found.values():
            recorded["saliency"] = fitted_map(recorded["saliency"], size, spec)
        sections += _written(folder / FOLDER, clip=clip, step=step, found=found, engine=engine)
    lead = f"What the network recorded for {len(chosen)} frames: {', '.join(engine.names)}."
    page = render_page(f"Features of {video.path.name}", lead, sections)
    (folder / PAGE).write_text(page, encoding="utf-8")
    numbers = [i * step + 1 for i in chosen]
    shape = {"height": size[0], "width": size[1], "count": len(every)}
    return {"names": list(engine.names), "frames": numbers, "sounds": list(sounds), **shape}


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


def _written(folder, clip: _Clip, step: int, found: dict[str, dict], engine: FeatureEngine) -> list[Section]:
    """Writes the files of a frame; returns its sections of the page."""
    number = clip.number * step + 1
    target = folder / f"{number:06d}"
    target.mkdir()
    image, pictures = shrink(clip.image, _WIDTH), []
    for (label, features), suffix in zip(found.items(), ("", "-compared"), strict=False):
        np.savez_compressed(folder / f"{number:06d}{suffix}.npz", **features)
        saliency = to_grey(resize_map(features["saliency"], *image.shape[:2]))
        pictures.append((f"map, {label}" if engine.layout.sounds else "map", overlay(image, saliency)))
        Image.fromarray(pictures[-1][1]).save(target / f"saliency{suffix}.png")
    title = f"Frame {number}, {clip.time:.2f} s"
    text = _change([features["saliency"] for features in found.values()])
    sections = [Section(title, Pictures([(title, image), *pictures]), text)]
    for name in engine.names:
        views = [
            (label, view(name, features=f, layout=engine.layout, counts=engine.counts))
            for label, f in found.items()
        ]
        heading = f"Frame {number}: {name}"
        first = views[0][1]
        if first is None:
            continue
        raw = [f[name] for f in found.values() if name in f]
        text = f"{first.text} {_change(raw)}".strip()
        if isinstance(first, Lines):
            sections += _numbers(heading, text, views)
            continue
        picture = draw(_blocks(views, engine.layout.sounds), image.shape[0] / image.shape[1])
        Image.fromarray(picture).save(target / f"{name}.png")
        sections.append(Section(heading, Pictures([(name, picture)], 1), text))
    return sections


def _blocks(views: list[tuple[str, Maps]], sounds: int) -> list[tuple[str, Maps]]:
    """Blocks have the sound as heading where the network hears."""
    return [(label if sounds else "", maps) for label, maps in views]


def _numbers(heading: str, text: str, views: list[tuple[str, Lines]]) -> list[Section]:
    """A table of all numbers, and curves where there is more than one place along them."""
    first = views[0][1]
    named = len(views) > 1
    lines = [(f"{name}, {label}" if named else name, v) for label, one in views for name, v in one.lines]
    places = np.arange(first.first, first.first + len(lines[0][1]))
    columns = ["", *(f"{first.unit} {place}" for place in places)]
    rows = [[name, *(f"{value:.4g}" for value in values)] for name, values in lines]
    sections = [Section(heading, Grid(columns, rows), text)]
    if len(places) > 1:
        curves = Curves([(name, places, values) for name, values in lines], "values", first.unit)
        sections.append(Section(f"{heading}, as curves", curves))
    return sections


def _change(values: Sequence[np.ndarray]) -> str:
    """A sentence on how far the second sound's values are from the first's."""
    if len(values) < 2:
        return ""
    first, second = values
    norm = float(np.linalg.norm(first))
    change = 100 * float(np.linalg.norm(second - first)) / norm if norm else 0.0
    return f"Between the two sounds it changes by {change:.3g} % of its norm."
