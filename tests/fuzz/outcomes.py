"""Judges what a call did: its exit code, what it printed, what it left on the disk."""

from __future__ import annotations

import csv
import hashlib
import json
import pathlib
import re

import av
import numpy as np
import safetensors.numpy
from PIL import Image

from tests.fuzz import corpus
from tests.fuzz.targets import Attempt, Target

UNEXPECTED = 70  # the exit code of `avsal` for an unexpected exception
# Lines that stderr may have in addition to the line of an error.
_ORDINARY = re.compile(
    r"note: |failed: |avsal: |\[\d+/\d+\] |compiling the model|\d+ of \d+ inputs failed:$|  \S|"
    r".* is done already; |.* predicted already|(predicting|evaluating|preparing|generating): |.*\d+%\|"
)
# Words of Python exceptions that are meant for programmers.
_INTERNAL = re.compile(
    r"\b(Key|Index|Attribute|Type|Value|Runtime|Assertion|Memory|Recursion|Overflow|Name|Unicode\w+)Error\b|"
    r"NoneType|Traceback|subscriptable|has no attribute|index out of|unpack|unhashable|not iterable|"
    r"invalid literal for|"
    r"object at 0x|required positional|unexpected keyword|could not convert|ndarray|ufunc|broadcast|"
    r"out of bounds|<class |list indices|string indices"
)
_LONGEST = 2_100  # characters of the line of an error


def problems(target: Target, attempt: Attempt, code: int, errors: str, before: dict) -> list[str]:
    """Returns what is wrong with an outcome, nothing where it is right.

    Args:
      before: `snapshot(attempt.output)` of the time before the call.
    """
    faults = printed_problems(attempt, code, errors)
    faults += _leftovers(attempt.output.parent)
    if code == 0 or (code == 1 and attempt.output.exists()):
        faults += _RESULTS[target.command.split()[0]](attempt, code)
        if target.command.startswith("evaluate"):
            faults += _missing(attempt, code, errors)
    elif target.command in ("predict", "convert", "compare") and snapshot(attempt.output) != before:
        faults.append("the call failed, and its output is not what it was")
    return [*faults, *_damaged_files(attempt)]


def printed_problems(attempt: Attempt, code: int, errors: str) -> list[str]:
    lines = [line.rsplit("\r", 1)[-1] for line in errors.splitlines() if line.strip()]
    faults = []
    if code not in (0, 1, 2):
        faults.append(f"exit code {code}")
    if "Traceback (most recent call last)" in errors:
        faults.append("a traceback")
    if strange := [line for line in lines if not _ORDINARY.match(line.lstrip("\r"))]:
        faults.append(f"stderr has {strange[0][:200]!r}")
    error_lines = [line for line in lines if line.startswith("avsal: ")]
    if code == 2 and (len(error_lines) != 1 or lines[-1] != error_lines[0]):
        faults.append(f"exit code 2 with {len(error_lines)} lines of an error")
    if code == 1 and not any(line.startswith("failed: ") for line in lines):
        faults.append("exit code 1, and nothing says what failed")
    for line in lines:
        if "unexpected error: " in line:
            faults.append(f"a fault of the program: {line[:400]}")
        elif line.startswith(("avsal: ", "failed: ")):
            if inner := _INTERNAL.search(line):
                faults.append(f"a line of an exception ({inner[0]}): {line[:300]}")
            if len(line) > _LONGEST:
                faults.append(f"a line of {len(line)} characters: {line[:200]}")
            if line.startswith("avsal: ") and not _names(attempt, line):
                faults.append(f"a line that names no file: {line[:300]}")
    return faults


def _names(attempt: Attempt, line: str) -> bool:
    """Whether a line says which file or folder it is about."""
    return str(attempt.output.parent) in line or attempt.victim.name in line


def _leftovers(folder: pathlib.Path) -> list[str]:
    endings = (".tmp", ".partial", ".raw")
    left = [p for p in folder.rglob("*") if p.name.startswith(".") or p.suffix in endings]
    left = [p for p in left if p.name not in (".lock", ".dropped")]
    return [f"{left[0].relative_to(folder)} is left"] if left else []


def _damaged_files(attempt: Attempt) -> list[str]:
    """Files of the output that are not whole."""
    faults = []
    for path in sorted(attempt.output.rglob("*")) if attempt.output.is_dir() else ():
        if path == attempt.victim or not path.is_file():
            continue
        try:
            if path.suffix == ".json" and "checkpoints" not in path.parts:
                json.loads(path.read_text())
            elif path.suffix in (".png", ".jpg"):
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".npz":
                with np.load(path) as arrays:
                    _ = [arrays[name] for name in arrays]
        except Exception as error:
            faults.append(f"{path.relative_to(attempt.output)} is damaged: {type(error).__name__} {error}")
    return faults


def snapshot(folder: pathlib.Path) -> dict[str, str]:
    """Returns file -> digest."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else ()
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def _predicted(attempt: Attempt, code: int) -> list[str]:
    if attempt.victim.parent == attempt.output:
        return []  # it said that the result is there, which is not written again
    inputs = [pathlib.Path(text) for text in attempt.call[1 : attempt.call.index("--output")]]
    folders = [attempt.output] if len(inputs) == 1 else [attempt.output / path.stem for path in inputs]
    kinds = attempt.call[attempt.call.index("--save") + 1].split(",")
    faults = []
    for folder in folders:
        if folder.exists():
            faults += [f"{folder.name}: {line}" for line in _prediction(folder, kinds)]
        elif code == 0:
            faults.append(f"exit code 0 without {folder.name}")
    faults += _frames(attempt.victim, folders[0])
    if len(inputs) > 1 and not (attempt.output / inputs[-1].stem / "summary.json").is_file():
        faults.append("the good input has no result")
    return faults


def _frames(film: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Compares the number of frames with what a plain loop decodes, where it meets no damage."""
    if film.suffix not in (".mp4", ".mkv", ".avi", ".webm") or not folder.exists():
        return []
    try:
        with av.open(str(film)) as container:
            expected = sum(1 for _ in container.decode(video=0))
    except (OSError, ValueError, IndexError):  # of libav and PyAV
        return []
    count = json.loads((folder / "summary.json").read_text())["frames"]
    return [] if count == expected else [f"{count} frames of {expected}"]


def _prediction(folder: pathlib.Path, kinds: list[str]) -> list[str]:
    summary = json.loads((folder / "summary.json").read_text())
    if (folder / "overlays").is_dir():
        return _photographs(folder, summary)
    count, size, faults = summary["frames"], (summary["width"], summary["height"]), []
    images = sorted((folder / "maps").iterdir())
    if count == 1 and (folder / "overlay.jpg").is_file():  # a photograph, or an animation of one frame
        kinds = [kind for kind in kinds if kind != "overlay"]
    if [p.name for p in images] != [f"{n:06d}.png" for n in range(1, count + 1)]:
        faults.append(f"{len(images)} maps of {count} frames")
    if any((image := Image.open(path)).size != size or image.mode != "L" for path in images):
        faults.append("a map of another size or mode")
    with np.load(folder / "maps.npz") as arrays:
        maps = arrays["maps"]
    if len(maps) != count or not np.isfinite(maps).all() or maps.min() < 0 or maps.max() > 1:
        faults.append(f"maps.npz holds {maps.shape} from {maps.min()} to {maps.max()}")
    if "overlay" in kinds:
        with av.open(str(folder / "overlay.mp4")) as film:
            frames = sum(1 for _ in film.decode(video=0))
        if frames != count:
            faults.append(f"the overlay has {frames} of {count} frames")
    if "report" in kinds and "</html>" not in (folder / "report.html").read_text():
        faults.append("the report is cut off")
    return faults


def _photographs(folder: pathlib.Path, summary: dict) -> list[str]:
    """Checks the results of several photographs, which have no frames in common."""
    names, faults = sorted(entry["name"] for entry in summary["pictures"]), []
    for place in ("maps", "overlays"):
        if sorted(path.stem for path in (folder / place).iterdir()) != names:
            faults.append(f"{place} are not of the {len(names)} photographs")
    with np.load(folder / "maps.npz") as arrays:
        maps = [arrays[name] for name in names]
    if not all(np.isfinite(saliency).all() for saliency in maps):
        faults.append("maps.npz holds values that are not finite")
    page = (folder / "report.html").read_text()
    if "</html>" not in page or page.count("<img ") != 3 * len(names):
        faults.append("the report does not show each photograph")
    return faults


def _evaluated(attempt: Attempt, code: int) -> list[str]:
    if not (attempt.output / "summary.json").is_file():
        return [] if code else ["exit code 0 without summary.json"]
    summary = json.loads((attempt.output / "summary.json").read_text())
    faults = []
    for name, value in summary["metrics"].items():
        if value["mean"] is not None and not abs(value["mean"]) < 1e6:
            faults.append(f"{name} is {value['mean']}")
    with (attempt.output / "videos.csv").open() as file:
        rows = list(csv.DictReader(file))
    if len(rows) != summary["videos"]:
        faults.append(f"videos.csv has {len(rows)} of {summary['videos']} videos")
    return faults


def _missing(attempt: Attempt, code: int, errors: str) -> list[str]:
    """What a run without error left out: stimuli that the set lacks alone, each of them with a note."""
    path = attempt.output / "summary.json"
    missing = json.loads(path.read_text()).get("missing") or [] if path.is_file() and code == 0 else []
    reported = re.findall(r"note: (.*?): it cannot be scored: .* has no file in ", errors)
    silent = [name for name in missing if name not in reported]
    return [f"exit code 0, but {silent} are missing without a note"] if silent else []


def _prepared(attempt: Attempt, code: int) -> list[str]:
    from avsal_jax.data.prepared.videos import PreparedSet
    from avsal_jax.errors import AvsalError

    prepared_set = PreparedSet(next(attempt.output.iterdir()))
    failures = 0
    for index in range(len(prepared_set.names())):
        video = prepared_set.video(index)
        failures += video is None
        try:
            if video is not None and (faults := _records(video)):
                return faults
        except AvsalError:  # a shard that was there already; its checksum says that it is damaged
            if "shard" not in attempt.variant:
                raise
    return [] if (failures > 0) == (code == 1) else [f"exit code {code} with {failures} videos lost"]


def _records(video) -> list[str]:
    for kind in ("pictures", "targets"):
        video.shards.read(kind, video.index, range(video.frames))
    finite = video.sound is None or np.isfinite(video.sound.wave[:]).all()
    return [] if finite else [f"the sound of {video.name} is not finite"]


def _converted(attempt: Attempt, code: int) -> list[str]:
    from avsal_jax.convert.tables.vinet import ViNetConversion
    from avsal_jax.storage import flatten, read_model

    flat = flatten(read_model(attempt.output).variables)
    if names := [name for name, value in flat.items() if not np.isfinite(value).all()]:
        return [f"{names[0]} is not finite"]
    tensors = _tensors(attempt.victim)
    return [
        f"{row.source} is not what the checkpoint holds"
        for row in ViNetConversion().table(corpus.CONVERTED, tensors)
        if not np.array_equal(row.undo(flat[row.target]), tensors[row.source].astype(np.float32))
    ][:1]


def _tensors(checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a checkpoint of the corpus, damaged or not, by its own library."""
    if checkpoint.suffix == ".safetensors":
        return safetensors.numpy.load_file(checkpoint)
    import torch

    content = torch.load(checkpoint, weights_only=True)
    content = content.get("state_dict", content)
    return {name.removeprefix("module."): value.numpy() for name, value in content.items()}


def _compared(attempt: Attempt, code: int) -> list[str]:
    content = json.loads((attempt.output / "comparison.json").read_text())
    if "</html>" not in (attempt.output / "report.html").read_text():
        return ["the report is cut off"]
    return [] if content else ["comparison.json is empty"]


_RESULTS = {
    "predict": _predicted,
    "evaluate": _evaluated,
    "prepare": _prepared,
    "convert": _converted,
    "compare": _compared,
    "doctor": lambda attempt, code: [],
    "train": lambda attempt, code: [],
}
# What names the call's own folders or time, and so differs between runs with the same result.
_VOLATILE = {
    "summary.json",
    "report.html",
    "overlay.mp4",
    "model.json",
    "comparison.json",
    "report.md",
    "comparison.md",
}


def result(attempt: Attempt, output: str) -> dict:
    """Returns what must be the same for two inputs that mean the same."""
    numbers = {}
    for path in sorted(attempt.output.rglob("*")) if attempt.output.is_dir() else ():
        name = str(path.relative_to(attempt.output))
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                numbers[name] = {key: arrays[key].tobytes() for key in arrays}
        elif path.suffix in (".csv", ".safetensors") or (path.suffix == ".png" and "maps" in path.parts):
            numbers[name] = path.read_bytes().replace(str(attempt.output.parent).encode(), b"")
    if callable(attempt.call):
        numbers["printed"] = output
    return numbers
