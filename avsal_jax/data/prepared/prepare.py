"""Prepares a data set for training: its videos as shards that any clip can be read from, and a report."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping

from avsal_jax.data.gaze.stimuli import GazeOptions
from avsal_jax.data.prepared.prepare_video import VideoResult, prepare_video, video_identity
from avsal_jax.data.prepared.shards import KINDS, ShardFolder, WriteError
from avsal_jax.data.prepared.videos import (
    ENCODINGS,
    FILE,
    MAX_SIDE,
    Lists,
    Preparation,
    folder_of,
    read_preparation,
    read_video,
)
from avsal_jax.data.sets.datasets import find_dataset, open_dataset, open_entire, open_packaging
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.errors import AvsalError, error_line
from avsal_jax.files import write_json, write_text
from avsal_jax.media.images import visible_files

_DESCRIPTION = "{kind} of {dataset}, prepared by avsal_jax at {height}x{width}; one shard per video."


def prepare(
    dataset: str,
    root,
    output,
    size: tuple[int, int] = (224, 384),
    encoding: str = "jpeg",
    workers: int | None = None,
    bar: Callable | None = None,
    gaze: GazeOptions | None = None,
) -> dict:
    """Prepares all videos of all splits of a set; a rerun skips videos that are already prepared.

    Memory is a few frames per worker, independent of the videos.

    Args:
      dataset, root: as in `open_dataset`.
      output: the folder of prepared sets; the folder of this set is created in it.
      size: (height, width) of the pictures, pixels; made by Pillow's bilinear filter with antialiasing.
      encoding: `jpeg` (quality 95, 4:4:4) or `png` (exact).
      workers: videos at a time; None for one per processor.
      bar: function of `total` (frames) that returns an object with `update(frames)` and `close()`, as tqdm.
      gaze: how recorded gaze is read.

    Returns:
      `folder`, `videos`, `prepared` (by this call), `frames`, `bytes`, `failed` (lines), `problems` (lines:
      lists and splits that could not be opened), `report` (path).

    Raises:
      AvsalError: as `open_dataset`; the folder holds a different preparation; the disk is full.
    """
    _check(size, encoding)
    entries, lists, problems, refused = _all_videos(dataset, root, gaze)
    problems = [*open_entire(dataset, root, gaze)[1], *problems]
    folder = folder_of(output, dataset)
    preparation = Preparation(dataset, *size, encoding, tuple((e.dataset, e.name) for e in entries), lists)
    _claim(folder, preparation)
    shards = ShardFolder(folder, count=len(entries), size=size, encoding=encoding)
    todo = [i for i, entry in enumerate(entries) if not _is_done(shards, i, entry)]
    progress_bar = bar(total=sum(entries[i].frames for i in todo)) if bar else None
    try:
        results = _prepare_all(
            shards,
            entries=entries,
            todo=todo,
            workers=workers or os.cpu_count() or 1,
            progress_bar=progress_bar,
        )
    finally:
        if progress_bar is not None:
            progress_bar.close()
    failures = [i for i in todo if results[i].failed]
    failed = refused + [f"{entries[i].name}: {results[i].failed}" for i in failures]
    with _writes(folder):
        for kind in KINDS:
            described = _DESCRIPTION.format(kind=kind, dataset=dataset, height=size[0], width=size[1])
            shards.write_metadata(kind, described)
        report = _write_report(folder, shards=shards, entries=entries, results=results, problems=problems)
        finished = dataclasses.replace(preparation, failed=tuple(failures), complete=True)
        write_json(folder / FILE, finished.to_json())
    return {
        "folder": str(folder),
        "videos": len(entries),
        "prepared": len(todo) - len(failures),
        "frames": sum(entry.frames for entry in entries),
        "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        "failed": failed,
        "problems": problems,
        "report": str(report),
    }


def prepare_generated(
    dataset: str,
    values: Mapping[str, str],
    output,
    root=None,
    size: tuple[int, int] | None = None,
    encoding: str = "jpeg",
    workers: int | None = None,
    bar: Callable | None = None,
) -> dict:
    """Writes a set that has a generator, then prepares it.

    Args:
      dataset: its name.
      values: key -> text; see `Generator.settings` of its row.
      root: the folder to write it to; None for `NAME-source` in `output`.
      size: None for the size of its frames.
      output, encoding, workers, bar: as in `prepare`.

    Raises:
      AvsalError: as the generator and `prepare`.
    """
    generator = find_dataset(dataset).generator
    settings = generator.settings(values)
    root = pathlib.Path(root or pathlib.Path(output) / f"{dataset}-source")
    progress_bar = bar(total=settings.videos, unit="video", desc="generating") if bar else None

    def progress(videos):
        progress_bar.update(settings.videos - len(videos))  # which were written before
        for video in videos:
            yield video
            progress_bar.update(1)

    generator.write(root, settings, progress=progress if progress_bar is not None else iter, workers=workers)
    if progress_bar is not None:
        progress_bar.close()
    return prepare(
        dataset,
        root=root,
        output=output,
        size=size or (settings.height, settings.width),
        encoding=encoding,
        workers=workers,
        bar=bar,
    )


def _check(size: tuple[int, int], encoding: str) -> None:
    if encoding not in ENCODINGS:
        raise AvsalError(f"encoding {encoding!r} is not one of {', '.join(ENCODINGS)}")
    if not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in size):
        raise AvsalError(f"height and width are 1 to {MAX_SIDE} pixels; got {size[0]}x{size[1]}")


def _all_videos(
    dataset: str, root, gaze: GazeOptions | None = None
) -> tuple[list[VideoEntry], Lists, list[str], list[str]]:
    """Returns (videos, lists of their indices, problems, refused) over all splits and folds.

    Each video occurs once. Videos without files are skipped, with a line in the problems. Videos whose files
    contradict each other also have a line in `refused`.
    """
    opened, errors = {}, []
    for split, fold in open_packaging(dataset, root=root).parts():
        try:
            opened[split, fold] = open_dataset(dataset, root=root, split=split, fold=fold, gaze=gaze)
        except AvsalError as error:
            errors.append(error)
    if not opened:
        raise errors[0]
    entries = {(e.dataset, e.name): e for part in opened.values() for e in part}
    usable = sorted(key for key, entry in entries.items() if entry.frames)
    place = {key: index for index, key in enumerate(usable)}
    lists = collections.defaultdict(dict)
    for (split, fold), part in opened.items():
        indices = [place.get((e.dataset, e.name)) for e in part]
        lists[split]["" if fold is None else str(fold)] = [index for index in indices if index is not None]
    unusable = [e for key, e in sorted(entries.items()) if key not in place]
    problems = [str(error) for error in errors]
    problems += [f"{e.dataset} {e.name} is listed, but left out: {'; '.join(e.notes)}" for e in unusable]
    refused = [f"{e.name}: {'; '.join(e.notes)}" for e in unusable if e.has_files]
    return [entries[key] for key in usable], dict(lists), problems, refused


def _claim(folder: pathlib.Path, preparation: Preparation) -> None:
    """Writes the preparation to the folder; raises AvsalError if the folder has a different one."""
    with _writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / FILE).exists():
            existing = read_preparation(folder)
            if different := existing.difference(preparation):
                raise AvsalError(
                    f"{folder} holds a different preparation: {different}; choose another --output"
                )
        elif visible_files(folder):
            raise AvsalError(f"{folder} is not empty and holds no preparation; choose another --output")
        write_json(folder / FILE, preparation.to_json())


@contextlib.contextmanager
def _writes(folder: pathlib.Path) -> Iterator[None]:
    """Turns an OSError into an AvsalError with one line."""
    try:
        yield
    except OSError as error:
        raise AvsalError(f"cannot write to {folder}: {error.strerror or error}") from error


def _is_done(shards: ShardFolder, index: int, entry: VideoEntry) -> bool:
    """Whether the shards of a video are complete and were made from the current files."""
    try:
        return read_video(shards, index).identity == video_identity(entry)
    except AvsalError:
        return False


class _Stopped(Exception):
    """Preparation stops because of an error of the disk or an interrupt by the user."""


def _prepare_all(shards, entries, todo, workers: int, progress_bar) -> dict[int, VideoResult]:
    """Prepares the videos of `todo`; the first error of the disk, or an interrupt, stops all workers."""
    stopped = threading.Event()

    def tick(frames: int) -> None:
        if stopped.is_set():
            raise _Stopped
        if progress_bar is not None and frames:
            progress_bar.update(frames)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(_prepare_or_fail, shards, i, entries[i], tick): i for i in todo}
        try:
            return {futures[f]: f.result() for f in concurrent.futures.as_completed(futures)}
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _prepare_or_fail(shards: ShardFolder, index: int, entry: VideoEntry, tick: Callable) -> VideoResult:
    """Prepares one video; if it fails for any other reason than the disk, its shards are empty."""
    try:
        return prepare_video(shards, index=index, entry=entry, tick=tick)
    except (WriteError, _Stopped):
        raise
    except Exception as error:
        for kind in KINDS:
            with shards.writer(kind, index):
                pass
        return VideoResult({}, error_line(error))


def _write_report(folder, shards, entries, results, problems) -> pathlib.Path:
    """Writes report.md with the findings for all videos, also those of earlier runs."""
    kinds = collections.defaultdict(list)
    for index, entry in enumerate(entries):
        result = results.get(index) or VideoResult(json.loads(shards.read("videos", index, [0])[0]["found"]))
        for kind, words in {
            **result.findings,
            **({"failed": result.failed} if result.failed else {}),
        }.items():
            kinds[kind].append(f"- {entry.dataset} {entry.name}: {words}")
    lines = [f"# What `avsal prepare` found in {len(entries)} videos", ""]
    lines += ["Nothing to remark."] if not kinds and not problems else []
    if problems:
        lines += ["## Lists and splits", *(f"- {line}" for line in problems), ""]
    for kind, rows in sorted(kinds.items()):
        lines += [f"## {kind}: {len(rows)} of {len(entries)} videos", *rows, ""]
    path = folder / "report.md"
    write_text(path, "\n".join(lines) + "\n")
    return path
