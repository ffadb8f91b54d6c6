"""`avsal predict`: videos -> map images, overlay, npz, report, summary; all of a video's, or none."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator

import av
import jax

import avsal_jax
from avsal_jax.data.fitting import fitted_frame, fitted_map
from avsal_jax.errors import AvsalError
from avsal_jax.identity import model_identity, tree_identity
from avsal_jax.inference import features
from avsal_jax.inference.features import FeatureSettings
from avsal_jax.inference.outputs import Item, Outputs
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.sources import SoundChoice, Source, damage_notes, open_source, rate_warning
from avsal_jax.threads import prefetched

_QUEUE = 4
_PARTIAL = ".avsal-partial-"
_NAMES = {
    "maps": "maps",
    "overlay": "overlay.mp4",
    "npz": "maps.npz",
    "report": "report.html",
    "features": features.PAGE,
}
_WRITTEN = (*_NAMES.values(), features.FOLDER)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How videos are predicted.

    Attributes:
      save: some of `maps` (maps/%06d.png: 8-bit grey at the frame's size, numbered from 1, stretched from
        minimum to maximum), `overlay` (overlay.mp4: heat colours over the picture, the source's times
        and sound), `npz` (maps.npz: float16 at model size), `report` (report.html), `features` (features.html
        and the folder features: what the network recorded for a few frames). With `features` alone, no other
        frame is predicted.
      postprocess: of map images, see `pictures.to_grey`.
      audio: `auto` (the video's own sound), `off` (silence), or a file.
      fps: rate of a folder of images, frames a second.
      frame_step: every K-th frame is the video; the overlay holds the last map in between.
      batch: windows per call; None chooses by the device.
      features: which ones of which frames, and another sound beside the first.
      stream: index of the video stream of each file; None for the one that a player chooses.

    Raises:
      AvsalError: a choice of features, where `save` lacks them.
    """

    save: tuple[str, ...] = ("maps", "overlay")
    postprocess: str = "none"
    audio: str = "auto"
    fps: float | None = None
    frame_step: int = 1
    batch: int | None = None
    features: FeatureSettings = dataclasses.field(default_factory=FeatureSettings)
    stream: int | None = None

    def __post_init__(self):
        if "features" not in self.save and self.features != FeatureSettings():
            raise AvsalError(
                "--features, --feature-frames, --compare-audio and --iterations are about features: add "
                "features to --save"
            )


def predict_file(
    model: Model,
    source,
    output,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable = lambda maps, total: maps,
) -> dict:
    """Predicts a map for every frame of a video and writes what `settings.save` names into `output`.

    Files appear under their final names only when all of them are complete; `summary.json` is the last.
    Where it is there already, from the same source, model and settings, nothing is done again.

    Args:
      model: from `load_model`.
      source: a video file, a picture, or a folder of images.
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
    video = open_source(source, settings.fps, settings.stream)
    choice = SoundChoice(settings.audio)
    choice.check()
    compared = SoundChoice(settings.features.compare_audio or "off")
    compared.check()
    job = _job(model, video=video, settings=settings, sound=choice.file(video), compared=compared.file(video))
    previous = _previous(output)
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
    if warning := rate_warning(float(video.info.rate), settings.frame_step):
        note(warning)
    if "features" in settings.save:
        features.prepare(model, settings.features)
    with _complete_or_nothing(output) as folder:
        outputs, figures = None, {}
        if set(settings.save) != {"features"}:
            outputs, figures = _predicted(
                model,
                video=video,
                choice=choice,
                folder=folder,
                settings=settings,
                say=say,
                note=note,
                progress=progress,
            )
        if "features" in settings.save:
            figures = {
                **_features(model, video=video, folder=folder, settings=settings, say=say, note=note),
                **figures,
            }
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
            "device": jax.devices()[0].device_kind,
            "job": job,
            "version": avsal_jax.__version__,
        }
        if outputs is not None:
            outputs.finish(summary, model.card)
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _predicted(model, video, choice, folder, settings, say, note, progress) -> tuple[Outputs, dict]:
    """Predicts all frames and writes all but features; returns the outputs, and figures for the summary."""
    sound = choice.clips(video, model.spec, step=settings.frame_step, say=note)
    say("compiling the model ...")
    compile_seconds = model.engine(settings.batch).compile_seconds
    outputs = Outputs(
        folder,
        save=settings.save,
        postprocess=settings.postprocess,
        info=video.info,
        sound=choice.file(video),
    )
    started = time.perf_counter()
    maps = _run(model, video=video, sound=sound, outputs=outputs, settings=settings, progress=progress)
    seconds = time.perf_counter() - started
    for line in (*outputs.notes, *(sound.notes if sound else ())):
        note(line)
    if outputs.damaged_sound:
        note(f"{video.path}: the overlay lacks {outputs.damaged_sound} damaged packets of sound")
    return outputs, {
        "frames": outputs.count,
        "maps": maps,
        "height": outputs.size[0],
        "width": outputs.size[1],
        "damaged_sound": outputs.damaged_sound,
        "compile_seconds": round(compile_seconds, 3),
        "seconds": round(seconds, 3),
        "maps_per_second": round(maps / seconds, 3),
    }


def _features(model, video, folder, settings, say, note) -> dict:
    """Writes the features; returns figures for the summary."""
    step = settings.frame_step
    summary = features.write_features(
        model,
        video=video,
        audio=settings.audio,
        step=step,
        settings=settings.features,
        folder=folder,
        say=say,
        note=note,
    )
    frames, height, width = (summary.pop(name) for name in ("count", "height", "width"))
    return {"frames": frames, "maps": 0, "height": height, "width": width, "features": summary}


def _run(model, video, sound, outputs, settings, progress) -> int:
    """Decodes, resizes, predicts and writes in overlapping threads; returns the number of maps."""
    step, maps = settings.frame_step, 0
    waiting: collections.deque[Item] = collections.deque()  # frames whose maps are still computed

    def resized():
        for frame in frames:
            if sound is not None and not frame.index % step:
                sound.times.add(float(frame.pts * video.info.time_base))
            image = frame.image if outputs.shows_frames else None
            item = Item(frame.index, pts=frame.pts, size=frame.image.shape[:2], image=image, saliency=None)
            yield item, None if frame.index % step else fitted_frame(frame.image, model.spec)

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
        stream = model.engine(settings.batch).maps(feed(), sound and sound.clip)
        for _, saliency in progress(stream, total):
            while waiting[0].index % step:  # frames in between show the last map
                outputs.put(waiting.popleft())
            item = waiting.popleft()
            outputs.put(dataclasses.replace(item, saliency=fitted_map(saliency, item.size, model.spec)))
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
        "model": model_identity(model.card),
        "dtype": str(jax.numpy.dtype(model.runtime.dtype)),
        "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
        "version": avsal_jax.__version__,
    }


def _previous(output: pathlib.Path) -> dict | None:
    """Returns the summary of an earlier prediction in a folder, or None.

    Raises:
      AvsalError: the folder holds a model, or files of ours without such a summary: somebody else's.
    """
    if (output / "model.json").exists():
        raise AvsalError(f"{output} is a model directory; choose another output")
    try:
        summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        summary = None
    if isinstance(summary, dict) and isinstance(summary.get("job"), dict):
        return summary
    taken = [name for name in (*_WRITTEN, "summary.json") if (output / name).exists()]
    if taken:
        raise AvsalError(f"{output / taken[0]} was not written by avsal; choose another output")
    return None


def _finished(output: pathlib.Path, previous: dict | None, job: dict, settings: Settings) -> bool:
    there = all((output / _NAMES[kind]).exists() for kind in settings.save)
    return there and previous is not None and previous["job"] == job


@contextlib.contextmanager
def _complete_or_nothing(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a hidden folder in `output`; on success its content moves up, else nothing is left.

    What an earlier prediction left is removed then, so that all in a folder is of one prediction.
    """
    made = _missing_folders(output)
    folder = None
    try:
        output.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(output)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{os.getpid()}-", dir=output))
        yield folder
        _replace(folder, output)
    except BaseException as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError | av.error.FFmpegError):
            raise AvsalError(f"cannot write to {output}: {error.strerror or error}") from error
        raise


def _replace(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Moves the content of `folder` into `output`; where that fails, what was there before is back."""
    before = pathlib.Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{os.getpid()}-", dir=output))
    moved: list[tuple[pathlib.Path, pathlib.Path]] = []

    def move(source: pathlib.Path, target: pathlib.Path) -> None:
        os.replace(source, target)
        moved.append((source, target))

    try:
        for name in ("summary.json", *_WRITTEN):  # until all is in place, nothing is done
            if (output / name).exists():
                move(output / name, before / name)
        for path in sorted(folder.iterdir(), key=lambda p: p.name == "summary.json"):
            move(path, output / path.name)
    except BaseException:
        for source, target in reversed(moved):
            with contextlib.suppress(OSError):
                os.replace(target, source)
        raise
    finally:
        shutil.rmtree(before, ignore_errors=True)
    folder.rmdir()


def _clear_abandoned(output: pathlib.Path) -> None:
    """Removes the hidden folders of runs that were killed, not those of runs that go on."""
    for stale in output.glob(f"{_PARTIAL}*"):
        number = stale.name.removeprefix(_PARTIAL).partition("-")[0]
        try:
            os.kill(int(number), 0)
        except (ValueError, OverflowError, ProcessLookupError):
            shutil.rmtree(stale, ignore_errors=True)
        except PermissionError:
            continue  # somebody else's process lives
        else:
            if int(number) == os.getpid():
                shutil.rmtree(stale, ignore_errors=True)


def _missing_folders(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders that making `path` would make, innermost first."""
    missing = []
    while not path.exists() and path != path.parent:
        missing.append(path)
        path = path.parent
    return missing
