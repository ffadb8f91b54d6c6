"""Predicts photographs and writes their outputs; a rerun resumes an interrupted run."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

import avsal_jax
from avsal_jax.errors import AvsalError, error_line, is_machine_error
from avsal_jax.identity import digest, tree_identity
from avsal_jax.inference.features import check_features, record_features
from avsal_jax.inference.inputs import HEARS_SILENCE, SoundChoice, Sounds
from avsal_jax.inference.output import Context, feature_outputs, frame_outputs
from avsal_jax.inference.outputs import OutputSet
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.result_folders import complete_or_nothing, previous_summary, write_summary
from avsal_jax.inference.settings import Settings
from avsal_jax.inference.still_results import LOG, StillResults, entries_of
from avsal_jax.inference.streaming import WindowEngine, check_finite, stills_of_sizes
from avsal_jax.media.fitting import fitted_frame, fitted_map
from avsal_jax.media.image_videos import ImageFile
from avsal_jax.media.photographs import Photograph, PhotographSet, read_photograph
from avsal_jax.runtime.threads import Worker, prefetched

_AHEAD = 2  # pictures by which reading and writing may be ahead of or behind the network
_HELD_BYTES = 1 << 29  # of pictures in memory that wait for their maps; others are read again
# Settings of videos and their flags.
_OF_VIDEOS = {"fps": "--fps", "frame_step": "--frame-step", "video_stream": "--stream"}


def check_photographs(pictures: PhotographSet, settings: Settings) -> None:
    """Raises AvsalError for settings of videos, and for a single picture that cannot be read."""
    for name, flag in _OF_VIDEOS.items():
        if getattr(settings, name) != getattr(Settings(), name):
            raise AvsalError(f"{flag} is for videos, and {_subject(pictures)}; leave it out")
    if settings.audio not in ("auto", "off"):
        raise AvsalError(f"--audio FILE is for videos, and {_subject(pictures)}; leave it out")
    for name in feature_outputs(settings.save):
        if not pictures.is_single:
            raise AvsalError(f"--save {name} shows one photograph at a time: name one, without --stills")
    if len(pictures) == 1:
        read_photograph(pictures.pictures[0][1])


def _subject(pictures: PhotographSet) -> str:
    return f"{pictures} is a photograph" if pictures.is_single else "these are photographs"


def predict_photographs(
    model: Model,
    pictures: PhotographSet,
    output: pathlib.Path,
    settings: Settings,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable = lambda maps, total: maps,
) -> dict:
    """Predicts a map for every photograph that `check_photographs` allows; arguments as in `predict_file`.

    Files are moved into `output` when all pictures are predicted. Until then they are in a hidden folder of
    `output`, from which the next run resumes. A picture that fails is skipped; the next run retries it.

    Returns:
      As `predict_file`. `failed` maps the file of each failed picture to the reason.

    Raises:
      AvsalError: none of the pictures can be predicted (with the reason of the first), or an output that
        cannot be written.
    """
    identities = {name: tree_identity(path) for name, path in pictures.pictures}
    compared = SoundChoice(settings.features.compare_audio or "off")
    compared_file = None if compared.audio in ("auto", "off") else pathlib.Path(compared.audio)
    job = {
        "photographs": identities if pictures.is_single else "several",
        "compared_sound": tree_identity(compared_file) if compared_file else None,
        "model": model.identity,
        "dtype": str(jax.numpy.dtype(model.runtime.dtype)),
        "settings": json.loads(json.dumps(settings.to_dict())),
        "version": avsal_jax.__version__,
    }
    previous = previous_summary(output)
    if _is_complete(output, previous=previous, job=job, identities=identities):
        say(f"{pictures}: predicted already; the results are in {output}")
        return {**previous, "already_done": True}
    of_pictures, of_features = frame_outputs(settings.save), feature_outputs(settings.save)
    if of_features:
        check_features(model, settings.features)
    with complete_or_nothing(output, key=digest(job), log=LOG) as folder, contextlib.ExitStack() as stack:
        context = Context(folder, settings=settings, is_single=pictures.is_single)
        outputs = stack.enter_context(OutputSet(context, of_pictures))
        results = StillResults(folder, outputs=outputs, pictures=pictures, settings=settings)
        results.resume(identities)
        if previous is not None and previous["job"] == job:
            results.adopt(output, entries_of(previous), identities)
        if results.entries:
            say(f"{len(results.entries)} of {len(pictures)} photographs are predicted already")
        run = _Run(model, pictures=pictures, identities=identities, results=results, say=say)
        figures = {}
        if of_pictures:
            figures = run.predict(settings, progress)
            if not results.entries:
                raise run.error()
            results.complete()
            for line in outputs.notes:
                run.note(line)
        feature_set = stack.enter_context(OutputSet(context, of_features))
        if of_features:
            recorded = _recorded(model, pictures, outputs=feature_set, settings=settings, run=run)
            feature_set.close()
            for line in feature_set.notes:
                run.note(line)
            figures = {**recorded, **figures}
        summary = {
            "source": str(pictures) if not pictures.is_single else pictures.pictures[0][1].name,
            **figures,
            **outputs.figures,
            **feature_set.figures,
            "note": model.card.get("note"),
            "notes": run.notes(),
            "settings": job["settings"],
            "device": jax.devices()[0].device_kind,
            "job": job,
            "version": avsal_jax.__version__,
            "failed": {str(path): reason for path, reason in run.failures.items()},
            "pictures": [results.entries[name] for name, _ in pictures.pictures if name in results.entries],
        }
        for written in (outputs, feature_set):
            written.finish(summary, model.card)
        results.clear()
        write_summary(folder, summary)
    return summary


def _is_complete(output: pathlib.Path, previous: dict | None, job: dict, identities: dict[str, str]) -> bool:
    if previous is None or previous["job"] != job or previous.get("failed") != {}:
        return False
    entries = entries_of(previous)
    save = job["settings"]["save"]
    of_pictures = frame_outputs(save)  # the only picture of other outputs is in the job
    if of_pictures and {entry["name"]: entry["identity"] for entry in entries} != identities:
        return False
    files = [file for entry in entries for file in entry["files"]]
    classes = {**of_pictures, **feature_outputs(save)}.values()
    files += [cls.files[0] for cls in classes if not cls.has_file_per_picture]
    return all((output / file).exists() for file in files)


def _recorded(model: Model, pictures: PhotographSet, outputs: OutputSet, settings: Settings, run: _Run):
    """Passes the features of the only picture to outputs; returns figures for the summary."""
    picture = ImageFile(pictures.pictures[0][1])
    for line in picture.info.notes:
        run.note(line)
    return record_features(
        model,
        picture,
        settings=settings,
        outputs=outputs,
        sounds=Sounds(),
        say=run.say,
        note=run.note,
        medium="still",
    )


@dataclasses.dataclass
class _Item:
    """A picture that waits for its map; without pixels if too many are waiting.

    Attributes:
      name: of its results.
      size: (height, width).
    """

    name: str
    path: pathlib.Path
    size: tuple[int, int]
    notes: tuple[str, ...]
    image: np.ndarray | None


class _Run:
    """Reads, predicts and writes in overlapping threads; a picture that fails does not affect the others.

    Attributes:
      failures: reason by file, in order.
    """

    def __init__(self, model: Model, pictures: PhotographSet, identities: dict, results: StillResults, say):
        self._model, self._pictures, self._identities, self._results = model, pictures, identities, results
        self.say, self.failures = say, {}
        self._errors: list[Exception] = []
        self._lines: list[str] = []
        self._waiting: dict[int, _Item] = {}  # by their place among the pictures that could be read

    def note(self, line: str) -> None:
        """Adds a line to the summary, and reports it."""
        if line not in self._lines:
            self._lines.append(line)
            self.say(f"note: {line}")

    def notes(self) -> list[str]:
        """Returns the lines of the run; a note that applies to several pictures occurs once."""
        files = collections.defaultdict(list)
        for name, path in self._pictures.pictures:
            for line in self._results.entries.get(name, {}).get("notes", ()):
                files[line].append(str(path))
        lines = list(self._lines)
        for line, paths in files.items():
            rest = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            lines.append(f"{paths[0]}{rest}: {line}")
        return list(dict.fromkeys(lines))

    def error(self) -> Exception:
        """Returns the exception for a run in which every picture failed."""
        if len(self._pictures) == 1:
            return self._errors[0]
        first = next(iter(self.failures.values()))
        return AvsalError(f"none of {self._pictures} could be predicted; the first: {first}")

    def predict(self, settings: Settings, progress: Callable) -> dict:
        """Predicts the missing photographs; returns figures for the summary."""
        if self._model.spec.audio is not None:
            self.note(f"photographs have no sound: {HEARS_SILENCE}")
        missing = [item for item in self._pictures.pictures if item[0] not in self._results.entries]
        seconds = compile_seconds = 0.0
        engines: list[tuple[WindowEngine, float]] = []  # with their seconds of compiling in earlier calls
        entries = self._results.entries
        before = len(entries)
        with contextlib.ExitStack() as stack:
            read = stack.enter_context(contextlib.closing(prefetched(self._read(missing), _AHEAD)))
            first = next(read, None)  # compile only if a picture can be read
            if first is not None:
                spec = self._model.spec

                def engine(height, width):
                    size = dataclasses.replace(spec, height=height, width=width)
                    earlier = self._model.earlier_compile_seconds(settings.batch, size)
                    if earlier is None:
                        self.say(f"compiling the model for {height}x{width} ...")
                    result = self._model.engine(settings.batch, size, medium="still")
                    engines.append((result, earlier or 0.0))
                    return result

                started = time.perf_counter()
                writer = Worker(self._write, _AHEAD)
                with contextlib.closing(writer):
                    frames = self._feed(itertools.chain([first], read))
                    for index, saliency in progress(stills_of_sizes(frames, engine), len(missing)):
                        writer.put((self._waiting.pop(index), saliency))
                compile_seconds = sum(engine.compile_seconds - earlier for engine, earlier in engines)
                seconds = time.perf_counter() - started - compile_seconds
        count = len(entries) - before
        for line in self.notes()[len(self._lines) :]:
            self.say(f"note: {line}")
        size = {key: next(iter(entries.values()))[key] for key in ("height", "width")} if entries else {}
        return {
            "frames": len(entries),
            "maps": len(entries),
            **(size if self._pictures.is_single else {}),
            "compile_seconds": round(compile_seconds, 3),
            "seconds": round(seconds, 3),
            "maps_per_second": round(count / seconds, 3) if seconds else 0.0,
        }

    def _read(self, missing) -> Iterator[tuple[str, Photograph, np.ndarray]]:
        for name, path in missing:
            try:
                photograph = read_photograph(path)
                frame = fitted_frame(photograph.image, self._model.spec)
            except Exception as error:
                self._fail(path, error)
                continue
            yield name, photograph, frame

    def _feed(self, read) -> Iterator[np.ndarray]:
        for index, (name, photograph, frame) in enumerate(read):
            image = photograph.image
            waiting_bytes = sum(
                item.image.nbytes for item in self._waiting.values() if item.image is not None
            )
            self._waiting[index] = _Item(
                name,
                path=photograph.path,
                size=image.shape[:2],
                notes=photograph.notes,
                image=image if waiting_bytes + image.nbytes <= _HELD_BYTES else None,
            )
            yield frame

    def _write(self, work: tuple[_Item, np.ndarray]) -> None:
        item, saliency = work
        try:
            check_finite(saliency, str(item.path))
            image = read_photograph(item.path).image if item.image is None else item.image
            entry = {
                "name": item.name,
                "source": item.path.name,
                "identity": self._identities[item.name],
                "height": item.size[0],
                "width": item.size[1],
                "mean": round(float(saliency.mean()), 6),
                "notes": list(item.notes),
            }
            self._results.add(entry, image, fitted_map(saliency, item.size, self._model.spec))
        except Exception as error:
            if is_machine_error(error):  # such as a full disk, which affects all pictures
                raise
            self._fail(item.path, error)

    def _fail(self, path: pathlib.Path, error: Exception) -> None:
        words = error_line(error)
        self.failures[path] = words if str(path) in words else f"{path}: {words}"
        self._errors.append(error)
        if len(self._pictures) > 1:
            self.say(f"failed: {self.failures[path]}")
