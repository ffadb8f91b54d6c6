"""Prepares a data set for training: its videos as shards that any clip can be read from, and a report."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import io
import json
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

from avsal_jax.data.audio import mono_pieces
from avsal_jax.data.datasets import find_dataset, open_dataset
from avsal_jax.data.prepared import FILE, FORMAT, Lists, Preparation, folder_of, read_preparation
from avsal_jax.data.schema import VideoEntry
from avsal_jax.data.shards import KINDS, ShardFolder, WriteError
from avsal_jax.data.synthetic import contact_sheet, settings_from, write_synthetic
from avsal_jax.data.video import resize_frame, visible_files
from avsal_jax.errors import AvsalError
from avsal_jax.files import write_json, write_text
from avsal_jax.identity import digest

ENCODINGS = ("jpeg", "png")
_PIECE = 0.5  # seconds of a piece of sound: a clip reads at most that much too much at each end
_MAX_SIDE = 4096
_DESCRIPTION = "{kind} of {dataset}, prepared by avsal_jax at {height}x{width}; one shard per video."


@dataclasses.dataclass(frozen=True)
class Found:
    """What preparing a video found: kind of finding -> words; and why it failed, if it did."""

    findings: dict[str, str]
    failed: str | None = None


def prepare(
    dataset: str,
    root,
    output,
    size: tuple[int, int] = (224, 384),
    encoding: str = "jpeg",
    workers: int | None = None,
    bar: Callable | None = None,
) -> dict:
    """Prepares all videos of all splits of a set; a rerun does what is missing.

    Memory is a few frames per worker, whatever the videos.

    Args:
      dataset, root: as in `open_dataset`.
      output: the folder of prepared sets; the set's own is made in it.
      size: (height, width) of the pictures, pixels; made by Pillow's bilinear filter with antialiasing.
      encoding: `jpeg` (quality 95, 4:4:4) or `png` (exact).
      workers: videos at a time; None for one per processor.
      bar: called with `total` frames for something that has `update(frames)` and `close()`, as tqdm.

    Returns:
      `folder`, `videos`, `prepared` (now), `frames`, `bytes`, `failed` (lines), `report` (path).

    Raises:
      AvsalError: as `open_dataset`; the folder holds another preparation; the disk is full.
    """
    _check(size, encoding)
    entries, lists, problems = _all_videos(dataset, root)
    folder = folder_of(output, dataset)
    preparation = Preparation(dataset, *size, encoding, tuple((e.dataset, e.name) for e in entries), lists)
    _claim(folder, preparation)
    shards = ShardFolder(folder, len(entries), size, encoding)
    todo = [i for i, entry in enumerate(entries) if not _is_done(shards, i, entry)]
    counted = bar(total=sum(entries[i].frames for i in todo)) if bar else None
    found = _prepare_all(shards, entries, todo, workers or os.cpu_count() or 1, counted)
    if counted is not None:
        counted.close()
    for kind in KINDS:
        described = _DESCRIPTION.format(kind=kind, dataset=dataset, height=size[0], width=size[1])
        shards.write_metadata(kind, described)
    failed = [f"{entries[i].name}: {found[i].failed}" for i in todo if found[i].failed]
    report = _write_report(folder, shards, entries, found, problems)
    write_json(folder / FILE, {**preparation.to_json(), "complete": True})
    return {
        "folder": str(folder),
        "videos": len(entries),
        "prepared": len(todo) - len(failed),
        "frames": sum(entry.frames for entry in entries),
        "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        "failed": failed,
        "report": str(report),
    }


def prepare_synthetic(
    settings: Mapping[str, str],
    root,
    output,
    size: tuple[int, int] | None = None,
    encoding: str = "jpeg",
    workers: int | None = None,
    bar: Callable | None = None,
) -> dict:
    """Writes the generated set in the packaging of STAViS, with a contact sheet, then prepares it.

    Args:
      settings: see `synthetic.settings_from`.
      root: the folder to write it to; None for `synthetic-source` in `output`.
      size: None for the set's own.
      output, encoding, workers, bar: as in `prepare`.

    Raises:
      AvsalError: as `settings_from`, `write_synthetic` and `prepare`.
    """
    made = settings_from(settings)
    root = pathlib.Path(root or pathlib.Path(output) / "synthetic-source")
    counted = bar(total=made.videos, unit="video", desc="generating") if bar else None

    def progress(videos):
        for number, video in enumerate(videos, 1):
            yield video
            if counted is not None:
                counted.update(made.videos - len(videos) if number == 1 else 0)
                counted.update(1)

    write_synthetic(root, made, progress, workers)
    if counted is not None:
        counted.close()
    contact_sheet(root, root / "contact_sheet.png")
    return prepare("synthetic", root, output, size or (made.height, made.width), encoding, workers, bar)


def _check(size: tuple[int, int], encoding: str) -> None:
    if encoding not in ENCODINGS:
        raise AvsalError(f"encoding {encoding!r} is none of {', '.join(ENCODINGS)}")
    if not all(isinstance(side, int) and 0 < side <= _MAX_SIDE for side in size):
        raise AvsalError(f"height and width are 1 to {_MAX_SIDE} pixels; got {size[0]}x{size[1]}")


def _all_videos(dataset: str, root) -> tuple[list[VideoEntry], Lists, list[str]]:
    """Returns the videos of all splits and folds once each, the lists over them, and what could not be had.

    Videos without files are left out, with a line among the problems.
    """
    known = find_dataset(dataset)
    folds = (None,) if dataset == "diem" or not known.folds else known.folds
    if dataset.startswith("stavis:"):
        folds = (None, 1, 2, 3)
    opened, errors = {}, []
    for split in known.splits:
        for fold in folds:
            try:
                opened[split, fold] = open_dataset(dataset, root, split, fold)
            except AvsalError as error:
                errors.append(error)
    if not opened:
        raise errors[0]
    entries = {(e.dataset, e.name): e for part in opened.values() for e in part}
    usable = sorted(key for key, entry in entries.items() if entry.frames)
    place = {key: index for index, key in enumerate(usable)}
    lists = collections.defaultdict(dict)
    for (split, fold), part in opened.items():
        named = [place.get((e.dataset, e.name)) for e in part]
        lists[split]["" if fold is None else str(fold)] = [index for index in named if index is not None]
    lost = [e for key, e in sorted(entries.items()) if key not in place]
    problems = [str(error) for error in errors if not dataset.startswith("stavis:")]
    problems += [f"{e.dataset} {e.name} is listed, but left out: {'; '.join(e.notes)}" for e in lost]
    return [entries[key] for key in usable], dict(lists), problems


def _claim(folder: pathlib.Path, preparation: Preparation) -> None:
    """Makes the folder this preparation's, or raises AvsalError where it is another's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / FILE).exists():
            there = read_preparation(folder)
            if different := there.difference(preparation):
                raise AvsalError(f"{folder} holds another preparation: {different}; name another --output")
        elif visible_files(folder):
            raise AvsalError(f"{folder} is not empty and holds no preparation; name another --output")
        write_json(folder / FILE, {**preparation.to_json(), "complete": False})
    except OSError as error:
        raise AvsalError(f"cannot write to {folder}: {error.strerror}") from error


def _is_done(shards: ShardFolder, index: int, entry: VideoEntry) -> bool:
    """Whether the shards of a video are there, whole, and made of the files as they are now."""
    if not all(shards.path(kind, index).is_file() for kind in KINDS):
        return False
    if shards.count_records("videos", index) != 1:
        return False
    record = shards.read("videos", index, [0])[0]
    return record["identity"].decode() == _identity(entry)


def _identity(entry: VideoEntry) -> str:
    return digest([FORMAT, *entry.identity()])


def _prepare_all(shards, entries, todo, workers: int, counted) -> dict[int, Found]:
    """Prepares the videos of `todo`; the first failure of the disk, or an interrupt, stops all."""
    stopped = threading.Event()

    def tick():
        if stopped.is_set():
            raise AvsalError("stopped")
        if counted is not None:
            counted.update(1)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(_prepare_or_fail, shards, i, entries[i], tick): i for i in todo}
        try:
            return {futures[f]: f.result() for f in concurrent.futures.as_completed(futures)}
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _prepare_or_fail(shards: ShardFolder, index: int, entry: VideoEntry, tick: Callable) -> Found:
    """Prepares one video; where its files are bad it gets empty shards, so that no other video is lost."""
    try:
        return _prepare_video(shards, index, entry, tick)
    except WriteError:
        raise
    except (AvsalError, OSError) as error:
        for kind in KINDS:
            with shards.writer(kind, index):
                pass
        return Found({}, " ".join(str(error).split()))


def _prepare_video(shards: ShardFolder, index: int, entry: VideoEntry, tick: Callable) -> Found:
    findings = {"counts and files": "; ".join(entry.notes)} if entry.notes else {}
    shards.path("videos", index).unlink(missing_ok=True)  # which says that the others are whole
    with shards.writer("pictures", index) as add:
        for i in range(entry.frames):
            add({"image": _encoded(resize_frame(entry.frame(i), shards.size[0], shards.size[1]), shards)})
            tick()
    with shards.writer("targets", index) as add:
        truth = [_target(entry, i, add) for i in range(entry.frames)]
    black = np.array([is_black for is_black, _, _ in truth])
    if entry.published and black.any():
        findings["black truth"] = f"{black.sum()} of {entry.frames} frames"
    if damaged := sum(nan for _, nan, _ in truth):
        findings["NaN"] = f"{damaged} values of fixation maps"
    with shards.writer("sound", index) as add:
        sound = _sound(entry, add, findings)
    with shards.writer("videos", index) as add:
        add(
            {
                "dataset": entry.dataset,
                "name": entry.name,
                "fps": entry.fps,
                "frames": entry.frames,
                "published": int(entry.published),
                "fixated": int(entry.published and entry.fixation_maps is not None),
                "black": black,
                "size": np.array(truth[0][2], np.int32),
                "category": entry.category or "",
                "found": json.dumps(findings),
                "identity": _identity(entry),
                **sound,
            }
        )
    return Found(findings)


def _encoded(image: np.ndarray, shards: ShardFolder) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if shards.encoding == "jpeg" else {"compress_level": 1}
    Image.fromarray(image).save(buffer, shards.encoding, **options)
    return buffer.getvalue()


def _target(entry: VideoEntry, i: int, add: Callable) -> tuple[bool, int, tuple[int, int]]:
    """Adds the target of a frame; returns (is black, values that are no numbers, size)."""
    if not entry.published:
        density, fixations, size = _encoded_black(), np.zeros((0, 2), np.int32), (1, 1)
        is_black, nan = True, 0
    else:
        density = entry.encoded_density(i)
        has_fixations = entry.fixation_maps is not None
        fixations = entry.fixations(i) if has_fixations else np.zeros((0, 2), np.int32)
        size, nan = entry.truth_size(i), entry.damaged_fixations(i)
        is_black = not entry.density(i).any()
    add({"density": density, "fixations": fixations, "size": np.array(size, np.int32)})
    return is_black, nan, size


def _encoded_black() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "png")
    return buffer.getvalue()


def _sound(entry: VideoEntry, add: Callable, findings: dict[str, str]) -> dict[str, int]:
    """Adds the pieces of a video's sound; returns rate, samples and the length of a piece."""
    none = {"rate": 0, "samples": 0, "piece": 0}
    if entry.sound is None:
        return none
    samples, audible, damaged, rate, piece = 0, False, 0, 0, 0
    try:
        for wave, rate in _in_pieces(entry.sound):  # noqa: B007
            piece = piece or len(wave)
            bad = ~np.isfinite(wave)
            damaged += int(bad.sum())
            audible = audible or bool((wave[~bad] != 0).any())
            samples += len(wave)
            add({"wave": np.where(bad, np.float32(0), wave)})
    except WriteError:
        raise
    except AvsalError as error:
        findings["sound"] = str(error)
    if not samples:
        findings.setdefault("sound", f"{entry.sound.name} holds no sample")
        return none
    if not audible:
        findings["silent"] = f"every sample of {entry.sound.name} is zero"
    if damaged:
        findings["NaN in sound"] = f"{damaged} samples, set to zero"
    missing = entry.frames / entry.fps - samples / rate
    if missing > 1 / entry.fps:
        findings["short sound"] = f"it ends {missing:.2f} s before the picture"
    return {"rate": rate, "samples": samples, "piece": piece}


def _in_pieces(path: pathlib.Path) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (samples, rate): pieces of one length, but the last."""
    left, rate = np.zeros(0, np.float32), 1
    for wave, rate, _ in mono_pieces(path):
        left = np.concatenate([left, wave.astype(np.float32)])
        length = max(1, round(_PIECE * rate))
        while len(left) >= length:
            yield left[:length], rate
            left = left[length:]
    if len(left):
        yield left, rate


def _write_report(folder, shards, entries, found, problems) -> pathlib.Path:
    """Writes report.md: what was found, over all videos, whenever they were prepared."""
    kinds = collections.defaultdict(list)
    for index, entry in enumerate(entries):
        one = found.get(index) or Found(json.loads(shards.read("videos", index, [0])[0]["found"]))
        for kind, words in {**one.findings, **({"failed": one.failed} if one.failed else {})}.items():
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
