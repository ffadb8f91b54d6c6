"""`avsal predict`: writes the outputs of videos and a summary, atomically for each video."""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import time
from collections.abc import Callable

import jax

import avsal_jax
from avsal_jax import registry
from avsal_jax.identity import tree_identity
from avsal_jax.inference.features import FeatureRecorder, check_features, record_features
from avsal_jax.inference.inputs import (
    SoundChoice,
    Sounds,
    Source,
    damage_notes,
    open_source,
    rate_warning,
)
from avsal_jax.inference.output import Context, Item, feature_outputs, frame_outputs
from avsal_jax.inference.outputs import FrameOutputs, OutputSet
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.result_folders import complete_or_nothing, previous_summary, write_summary
from avsal_jax.inference.settings import Settings
from avsal_jax.inference.stills import check_photographs, predict_photographs
from avsal_jax.inference.stream import FrameStream, stream
from avsal_jax.media.photographs import PhotographSet, is_photograph


def check_source(source, settings: Settings) -> Source | PhotographSet:
    """Returns the opened source for `predict_file`.

    Raises:
      AvsalError: it, or a sound of the settings, cannot be read as configured.
    """
    opened = _photographs(source)
    if opened is not None:
        check_photographs(opened, settings)
    else:
        is_open = isinstance(source, Source)
        opened = source if is_open else open_source(source, settings.fps, settings.video_stream)
        SoundChoice(settings.audio).check()
    SoundChoice(settings.features.compare_audio or "off").check()
    return opened


def _photographs(source) -> PhotographSet | None:
    """Returns the photographs of a source, or None for a video."""
    if isinstance(source, PhotographSet):
        return source
    if isinstance(source, Source):
        return None
    return PhotographSet.of_one(source) if is_photograph(pathlib.Path(source)) else None


def predict_file(
    model: Model,
    source,
    output,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable = lambda maps, total: maps,
    is_checked: bool = False,
) -> dict:
    """Predicts a map for every `frame_step`-th frame of a video, or every photograph, and writes the outputs.

    Files get their final names only when all of them are complete; `summary.json` is the last. If it already
    exists for the same source, model and settings, the prediction is skipped.

    Args:
      model: from `load_model`.
      source: a video file, a picture, or a folder of images; or the result of `check_source`.
      output: a directory; created if missing.
      say: called with a line of progress.
      progress: wraps the iteration over maps, given the expected number of maps.
      is_checked: whether `source` is the result of `check_source` with these settings.

    Returns:
      The content of `summary.json`; with `"already_done": True` if it existed and the prediction was skipped.

    Raises:
      AvsalError: the source cannot be read, or the output cannot be written.
    """
    settings = settings or Settings()
    output = pathlib.Path(output)
    source = source if is_checked else check_source(source, settings)
    if isinstance(source, PhotographSet):
        return predict_photographs(model, source, output, settings=settings, say=say, progress=progress)
    video, choice = source, SoundChoice(settings.audio)
    compared = SoundChoice(settings.features.compare_audio or "off")
    job = _job(model, video=video, settings=settings, sound=choice.file(video), compared=compared.file(video))
    previous = previous_summary(output)
    if _is_done(output, previous=previous, job=job, settings=settings):
        say(f"{video.path} is done already; its results are in {output}")
        return {**previous, "already_done": True}
    notes: list[str] = []

    def note(line: str) -> None:
        if line not in notes:  # the model and the overlay may read the same sound
            notes.append(line)
            say(f"note: {line}")

    for line in video.info.notes:
        note(line)
    warning = rate_warning(float(video.info.rate), settings.frame_step)
    if warning and not model.spec.interval:  # with an interval, clips have the same duration at any rate
        note(warning)
    if feature_outputs(settings.save):
        check_features(model, settings.features)
    with complete_or_nothing(output) as folder:
        sounds, path = Sounds(), choice.file(video)
        envelope = None if path is None else functools.partial(sounds.envelope, path)
        context = Context(folder, settings=settings, info=video.info, sound=path, envelope=envelope)
        run = _Run(model, video=video, context=context, sounds=sounds, say=say, note=note)
        figures = run.predict(progress)
        for line in damage_notes(video, figures["frames"]):
            note(line)
        summary = {
            "source": video.path.name,
            **figures,
            "damaged": video.damaged,
            "rate": float(video.info.rate),
            "note": model.card.get("note"),
            "notes": notes,
            "settings": settings.to_dict(),
            **({"smoothing": model.spec.smoothing} if model.spec.smoothing else {}),
            "device": jax.devices()[0].device_kind,
            "job": job,
            "version": avsal_jax.__version__,
        }
        for written in run.outputs:
            written.finish(summary, model.card)
        write_summary(folder, summary)
    return summary


class _Run:
    """One prediction: a pass over the frames for all outputs.

    Attributes:
      outputs: the written outputs; complete after `predict`.
    """

    def __init__(self, model: Model, video: Source, context: Context, sounds: Sounds, say, note):
        self._model, self._video, self._context, self._sounds = model, video, context, sounds
        self._settings, self._say, self._note = context.settings, say, note
        self.outputs: list[OutputSet] = []

    def predict(self, progress: Callable) -> dict:
        """Writes all outputs; returns figures for the summary."""
        save, figures, recorder = self._settings.save, {}, None
        of_frames, of_features = frame_outputs(save), feature_outputs(save)
        options = {
            "settings": self._settings,
            "sounds": self._sounds,
            "say": self._say,
        }
        with OutputSet(self._context, of_features) as feature_set:
            if of_frames:
                if of_features:
                    recorder = FeatureRecorder(self._model, self._video, outputs=feature_set, **options)
                figures = self._maps(FrameOutputs(self._context, of_frames), recorder, progress)
            if of_features:
                recorded = record_features(
                    self._model,
                    self._video,
                    outputs=feature_set,
                    note=self._note,
                    recorder=recorder,
                    **options,
                )
                feature_set.close()
                self.outputs.append(feature_set)
                for line in feature_set.notes:
                    self._note(line)
                figures = {**recorded, **feature_set.figures, **figures}
        return figures

    def _maps(self, outputs: FrameOutputs, recorder: FeatureRecorder | None, progress: Callable) -> dict:
        """Predicts all frames and writes them."""
        video, settings = self._video, self._settings
        sound = SoundChoice(settings.audio).clips(
            video, self._model.spec, step=settings.frame_step, say=self._note, sounds=self._sounds
        )
        frames = stream(
            self._model,
            video,
            sound=sound and sound.clip,
            times=sound and sound.times,
            step=settings.frame_step,
            batch=settings.batch,
            has_images=outputs.shows_frames,
            recorder=recorder,
            say=self._say,
        )
        started = time.perf_counter()
        total = video.info.frames and -(-video.info.frames // settings.frame_step)
        maps = _write_frames(frames, outputs=outputs, progress=progress, total=total)
        seconds = time.perf_counter() - started - (recorder.seconds if recorder else 0)
        self.outputs.append(outputs)
        for line in (*outputs.notes, *(sound.notes if sound else ())):
            self._note(line)
        return {
            "frames": outputs.count,
            "maps": maps,
            "height": outputs.size[0],
            "width": outputs.size[1],
            "damaged_sound": 0,
            **outputs.figures,
            "compile_seconds": round(frames.compile_seconds, 3),
            "seconds": round(seconds, 3),
            "maps_per_second": round(maps / seconds, 3),
        }


def _write_frames(frames: FrameStream, outputs: FrameOutputs, progress: Callable, total: int | None) -> int:
    """Passes all frames to the outputs; returns the number of maps."""

    def with_maps():
        for frame in frames:
            outputs.put(
                Item(
                    frame.index,
                    name=f"{frame.index + 1:06d}",
                    size=frame.size,
                    pts=frame.pts,
                    time=frame.time,
                    image=frame.image,
                    saliency=frame.saliency,
                )
            )
            if frame.saliency is not None:
                yield frame

    with outputs, contextlib.closing(frames), contextlib.closing(with_maps()) as maps:
        return sum(1 for _ in progress(maps, total))


def _job(model: Model, video: Source, settings: Settings, sound, compared) -> dict:
    """Returns what the results depend on; equal jobs have equal results."""
    return {
        "source": tree_identity(video.path),
        "sound": tree_identity(sound) if sound else None,
        "compared_sound": tree_identity(compared) if compared else None,
        "model": model.identity,
        "dtype": str(jax.numpy.dtype(model.runtime.dtype)),
        "settings": json.loads(json.dumps(settings.to_dict())),
        "version": avsal_jax.__version__,
    }


def _is_done(output: pathlib.Path, previous: dict | None, job: dict, settings: Settings) -> bool:
    is_complete = all((output / registry.find("output", name).files[0]).exists() for name in settings.save)
    return is_complete and previous is not None and previous["job"] == job
