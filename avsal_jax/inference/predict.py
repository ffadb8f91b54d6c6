"""`avsal predict`: videos -> the files of the outputs, and a summary; all of a video's, or none."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import jax

import avsal_jax
from avsal_jax import registry
from avsal_jax.data.fitting import fitted_frame, fitted_map
from avsal_jax.data.photographs import PhotographSet, is_photograph
from avsal_jax.identity import tree_identity
from avsal_jax.inference.features import prepare, record_features
from avsal_jax.inference.output import Context, Item, chosen_outputs
from avsal_jax.inference.outputs import FrameOutputs, OutputSet
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.result_folders import complete_or_nothing, previous_summary, write_summary
from avsal_jax.inference.settings import Settings
from avsal_jax.inference.sources import SoundChoice, Source, damage_notes, open_source, rate_warning
from avsal_jax.inference.stills import check_photographs, predict_photographs
from avsal_jax.spec.input import InputSpec
from avsal_jax.threads import prefetched

_QUEUE = 4


def check_source(source, settings: Settings) -> None:
    """Raises AvsalError for a source of `predict_file` that cannot be read with these settings."""
    photographs = _photographs(source)
    if photographs is not None:
        check_photographs(photographs, settings)
    else:
        open_source(source, settings.fps, settings.stream)


def _photographs(source) -> PhotographSet | None:
    """Returns the photographs that a source is, or None for a video."""
    if isinstance(source, PhotographSet):
        return source
    return PhotographSet.of_one(source) if is_photograph(pathlib.Path(source)) else None


def predict_file(
    model: Model,
    source,
    output,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable = lambda maps, total: maps,
) -> dict:
    """Predicts a map for every frame of a video, or every photograph, and writes them into `output`.

    Files appear under their final names only when all of them are complete; `summary.json` is the last.
    Where it is there already, from the same source, model and settings, nothing is done again.

    Args:
      model: from `load_model`.
      source: a video file, a picture, or a folder of images; or a `PhotographSet`.
      output: a directory, made where missing.
      say: called with a line of news.
      progress: wraps the iteration over maps, given the expected number of maps.

    Returns:
      What `summary.json` holds; with `"resumed": True` where it was there already.

    Raises:
      AvsalError: the source cannot be read, or the output cannot be written.
    """
    settings = settings or Settings()
    output = pathlib.Path(output)
    photographs = _photographs(source)
    if photographs is not None:
        return predict_photographs(model, photographs, output, settings=settings, say=say, progress=progress)
    video = open_source(source, settings.fps, settings.stream)
    choice = SoundChoice(settings.audio)
    choice.check()
    compared = SoundChoice(settings.features.compare_audio or "off")
    compared.check()
    job = _job(model, video=video, settings=settings, sound=choice.file(video), compared=compared.file(video))
    previous = previous_summary(output)
    if _finished(output, previous=previous, job=job, settings=settings):
        say(f"{video.path} is done already; its results are in {output}")
        return {**previous, "resumed": True}
    notes: list[str] = []

    def note(line: str) -> None:
        if line not in notes:  # what a model hears and what the overlay has may be one sound
            notes.append(line)
            say(f"note: {line}")

    for line in video.info.notes:
        note(line)
    warning = rate_warning(float(video.info.rate), settings.frame_step)
    if warning and not model.spec.interval:  # an interval makes clips of one length of any rate
        note(warning)
    of_frames, of_features = (chosen_outputs(settings.save, features) for features in (False, True))
    if of_features:
        prepare(model, settings.features)
    with complete_or_nothing(output) as folder:
        context = Context(folder, settings=settings, info=video.info, sound=choice.file(video))
        outputs: list[OutputSet] = []
        figures = {}
        if of_frames:
            outputs.append(FrameOutputs(context, of_frames))
            figures = _predicted(
                model,
                video=video,
                choice=choice,
                outputs=outputs[-1],
                settings=settings,
                say=say,
                note=note,
                progress=progress,
            )
        if of_features:
            with OutputSet(context, of_features) as feature_outputs:
                recorded = record_features(
                    model, video=video, settings=settings, outputs=feature_outputs, say=say, note=note
                )
            outputs.append(feature_outputs)
            for line in feature_outputs.notes:
                note(line)
            figures = {**recorded, **feature_outputs.figures, **figures}
        for line in damage_notes(video, figures["frames"]):
            note(line)
        summary = {
            "source": video.path.name,
            **figures,
            "damaged": video.damaged,
            "rate": float(video.info.rate),
            "note": model.card.get("note"),
            "notes": notes,
            "settings": dataclasses.asdict(settings),
            **({"smoothing": model.spec.smoothing} if model.spec.smoothing else {}),
            "device": jax.devices()[0].device_kind,
            "job": job,
            "version": avsal_jax.__version__,
        }
        for written in outputs:
            written.finish(summary, model.card)
        write_summary(folder, summary)
    return summary


def _predicted(model, video, choice, outputs: FrameOutputs, settings, say, note, progress) -> dict:
    """Predicts all frames and writes them; returns figures for the summary."""
    sound = choice.clips(video, model.spec, step=settings.frame_step, say=note)
    say("compiling the model ...")
    spec = _spec_of(model, video)
    engine = model.engine(settings.batch, spec)
    started = time.perf_counter()
    maps = _run(
        engine,
        spec=spec,
        video=video,
        sound=sound,
        outputs=outputs,
        settings=settings,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    for line in (*outputs.notes, *(sound.notes if sound else ())):
        note(line)
    return {
        "frames": outputs.count,
        "maps": maps,
        "height": outputs.size[0],
        "width": outputs.size[1],
        "damaged_sound": 0,
        **outputs.figures,
        "compile_seconds": round(engine.compile_seconds, 3),
        "seconds": round(seconds, 3),
        "maps_per_second": round(maps / seconds, 3),
    }


def _spec_of(model: Model, video: Source) -> InputSpec:
    """Returns the spec with the size for the frames of a video, of which the first may be decoded."""
    if len(model.spec.sizes) == 1:
        return model.spec
    with contextlib.closing(iter(video)) as frames:
        first = next(frames, None)
    return model.spec if first is None else model.spec.for_picture(*first.image.shape[:2])


def _run(engine, spec, video, sound, outputs, settings, progress) -> int:
    """Decodes, resizes, predicts and writes in overlapping threads; returns the number of maps."""
    step, maps = settings.frame_step, 0
    waiting: collections.deque[Item] = collections.deque()  # frames whose maps are still computed

    def resized():
        for frame in frames:
            if sound is not None and not frame.index % step:
                sound.times.add(float(frame.pts * video.info.time_base))
            image = frame.image if outputs.shows_frames else None
            item = Item(
                frame.index,
                name=f"{frame.index + 1:06d}",
                size=frame.image.shape[:2],
                pts=frame.pts,
                time=float(frame.pts * video.info.time_base),
                image=image,
            )
            yield item, None if frame.index % step else fitted_frame(frame.image, spec)

    def feed():
        for item, one in pairs:
            waiting.append(item)
            if one is not None:
                yield one

    with contextlib.ExitStack() as stack:
        stack.enter_context(outputs)
        frames = stack.enter_context(contextlib.closing(prefetched(video, _QUEUE)))
        pairs = stack.enter_context(contextlib.closing(prefetched(resized(), _QUEUE)))
        total = video.info.frames and -(-video.info.frames // step)
        stream = engine.maps(feed(), sound=sound and sound.clip, fps=float(video.info.rate) / step)
        for _, saliency in progress(stream, total):
            while waiting[0].index % step:  # frames in between show the last map
                outputs.put(waiting.popleft())
            item = waiting.popleft()
            item.saliency = fitted_map(saliency, item.size, spec)
            outputs.put(item)
            maps += 1
        while waiting:
            outputs.put(waiting.popleft())
    return maps


def _job(model: Model, video: Source, settings: Settings, sound, compared) -> dict:
    """What the results depend on; equal jobs give equal results."""
    return {
        "source": tree_identity(video.path),
        "sound": tree_identity(sound) if sound else None,
        "compared_sound": tree_identity(compared) if compared else None,
        "model": model.identity,
        "dtype": str(jax.numpy.dtype(model.runtime.dtype)),
        "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
        "version": avsal_jax.__version__,
    }


def _finished(output: pathlib.Path, previous: dict | None, job: dict, settings: Settings) -> bool:
    is_complete = all((output / registry.find("output", name).files[0]).exists() for name in settings.save)
    return is_complete and previous is not None and previous["job"] == job
