"""The targets: for each kind of file and command, a folder of inputs, the file to damage, and the call."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from tests.fuzz import corpus
from tests.fuzz.corpus import NAMES


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A call with undamaged inputs.

    Attributes:
      call: the arguments of `avsal`, or a function that does what a command does with its input.
      victim: the file to damage; a copy of its own.
      output: where the results go.
      variant: results of the same variant are the same while nothing is damaged.
      settle: corrects checksums in other files, after the damage.
    """

    call: list[str] | Callable[[], None]
    victim: pathlib.Path
    output: pathlib.Path
    variant: str = ""
    settle: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of file and a command that reads it; `arrange(corpus, folder, kind, rng)` sets an attempt up."""

    kind: str
    command: str
    arrange: Callable[[pathlib.Path, pathlib.Path, str, np.random.Generator], Attempt]

    def attempt(self, source: pathlib.Path, folder: pathlib.Path, rng) -> Attempt:
        folder.mkdir(parents=True)
        attempt = self.arrange(source, folder, self.kind, rng)
        content = attempt.victim.read_bytes()
        attempt.victim.unlink()  # it may be a hard link to the undamaged file
        attempt.victim.write_bytes(content)
        return attempt


def _tree(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """A copy of a folder that takes no time; the program only reads it."""
    return shutil.copytree(source, target, copy_function=os.link)


def _choose(paths, rng) -> pathlib.Path:
    paths = sorted(paths)
    return paths[rng.integers(len(paths))]


_ALL = "maps,overlay,npz,report"


def _predict(inputs, folder: pathlib.Path, *options: str) -> list[str]:
    return ["predict", *map(str, inputs), "--output", str(folder / "out"), *options]


def film(source, folder, kind, rng) -> Attempt:
    """`predict` of a film, alone or together with an undamaged one."""
    victim = shutil.copy(source / "films" / f"clip.{kind}", folder)
    model = ["picture", "hearing"][rng.integers(2)]
    with_second = rng.random() < 0.25
    inputs = [victim]
    if with_second:
        inputs.append(shutil.copy(source / "films" / "clip.mp4", folder / "good.mp4"))
    call = _predict(inputs, folder, "--model", model, "--save", _ALL)
    return Attempt(call, pathlib.Path(victim), folder / "out", f"{model} {with_second}")


def film_again(source, folder, kind, rng) -> Attempt:
    """`predict` into a folder that has a result of the same film, whose summary is damaged."""
    shutil.copytree(source / "predicted", folder / "out")
    call = _predict([source / "films/clip.mp4"], folder, "--model", "picture", "--save", "maps,npz")
    return Attempt(call, folder / "out" / "summary.json", folder / "out")


def sound(source, folder, kind, rng) -> Attempt:
    """`predict --audio`."""
    clip, victim = shutil.copy(source / "films/clip.mp4", folder), shutil.copy(source / "tone.wav", folder)
    call = _predict([clip], folder, "--model", "hearing", "--audio", str(victim), "--save", _ALL)
    return Attempt(call, pathlib.Path(victim), folder / "out")


def frames(source, folder, kind, rng) -> Attempt:
    """`predict` of a folder of images."""
    images = _tree(source / f"frames_{kind}", folder / "frames")
    call = _predict([images], folder, "--model", "picture", "--save", _ALL)
    return Attempt(call, _choose(images.iterdir(), rng), folder / "out")


def photographs(source, folder, kind, rng) -> Attempt:
    """`predict --stills` of a folder of pictures."""
    images = _tree(source / f"frames_{kind}", folder / "pictures")
    call = _predict([images], folder, "--stills", "--model", "picture", "--save", _ALL)
    return Attempt(call, _choose(images.iterdir(), rng), folder / "out")


def model_card(source, folder, kind, rng) -> Attempt:
    """`predict --model` with a damaged model.json."""
    model, clip = _tree(source / "model", folder / "model"), shutil.copy(source / "films/clip.mp4", folder)
    call = _predict([clip], folder, "--model", str(model), "--save", "maps,npz")
    return Attempt(call, model / "model.json", folder / "out")


def weights(source, folder, kind, rng) -> Attempt:
    """`predict --model` with damaged weights whose digest in the card is correct."""
    attempt = model_card(source, folder, kind, rng)
    victim, card = folder / "model" / "weights.safetensors", folder / "model" / "model.json"

    def settle():
        content, description = victim.read_bytes(), json.loads(card.read_text())
        description["weights"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        card.unlink()
        card.write_text(json.dumps(description))

    return dataclasses.replace(attempt, victim=victim, settle=settle)


def _evaluate(folder: pathlib.Path, dataset: str, root, *options: str) -> list[str]:
    return ["evaluate", "--dataset", dataset, "--root", str(root), "--output", str(folder / "out"), *options]


def scored_maps(source, folder, kind, rng) -> Attempt:
    """`evaluate --predictions`, where a saved map, a frame or the truth is damaged."""
    maps = _tree(source / f"maps_{kind}", folder / "maps")
    name, place = ("dhf1k:OWN", "shots") if kind == "png" else ("diem", "stavis")
    root = _tree(source / place, folder / "data")
    candidates = [*maps.rglob(f"*.{kind}"), *(p for p in root.rglob(f"*.{kind}") if "train" not in p.parts)]
    call = _evaluate(folder, name, root, "--predictions", str(maps), "--protocol", "vinet")
    return Attempt(call, _choose(candidates, rng), folder / "out")


def scored_npz(source, folder, kind, rng) -> Attempt:
    """`evaluate --predictions` of the arrays that `predict` saves."""
    maps = _tree(source / "maps_npz", folder / "maps")
    root = _tree(source / "stavis", folder / "data")
    call = _evaluate(folder, "diem", root, "--predictions", str(maps), "--protocol", "vinet")
    return Attempt(call, maps / NAMES[0] / "maps.npz", folder / "out")


def scored_truth(source, folder, kind, rng) -> Attempt:
    """`evaluate` with a damaged fixation map or sound of the set."""
    root = _tree(source / "stavis", folder / "data")
    files = [p for p in root.rglob(f"*.{kind}") if p.name != "eye_tracks.mat"]
    call = _evaluate(folder, "diem", root, "--predictions", str(source / "maps_jpg"), "--protocol", "vinet")
    return Attempt(call, _choose(files, rng), folder / "out")


def scored_list(source, folder, kind, rng) -> Attempt:
    """`evaluate` of a list: the user's, or a list in the set."""
    root = _tree(source / "stavis", folder / "data")
    in_set = rng.random() < 0.5
    victim = root / "fold_lists" / "DIEM_list_test_fps.txt" if in_set else folder / "user.list"
    options = []
    if not in_set:
        shutil.copy(source / "user.list", victim)
        options = ["--list", str(victim)]
    maps = str(source / "maps_jpg")
    call = _evaluate(folder, "diem", root, "--predictions", maps, "--protocol", "vinet", *options)
    return Attempt(call, victim, folder / "out", str(in_set))


def scored_again(source, folder, kind, rng) -> Attempt:
    """`evaluate` that resumes from the parts of an earlier run."""
    shutil.copytree(source / "results" / "ours", folder / "out")
    call = _evaluate(
        folder, "diem", source / "stavis", "--predictions", str(source / "maps_png"), "--protocol", "vinet",
        "--label", "ours",
    )  # fmt: skip
    return Attempt(call, _choose((folder / "out").glob("parts/*.json"), rng), folder / "out")


def observers(source, folder, kind, rng) -> Attempt:
    """`evaluate --model human` with raw fixations."""
    if kind == "mat":
        raw = victim = pathlib.Path(shutil.copy(source / "coutrot.mat", folder))
        call = _evaluate(folder, "coutrot1", source / "coutrot", "--fold", "1")
    else:
        raw = _tree(source / "events", folder / "events")
        victim = _choose(raw.rglob("*.txt"), rng)
        call = _evaluate(folder, "diem", source / "stavis")
    call += ["--model", "human", "--observers", str(raw), "--protocol", "vinet"]
    return Attempt(call, victim, folder / "out", "human")


def _gaze(source, folder, name: str, place: str, *options: str) -> tuple[list[str], pathlib.Path]:
    root = _tree(source / corpus.GAZE / place, folder / "data")
    return _evaluate(folder, name, root, "--split", "all", "--metrics", "nss", *options), root


def gaze_table(source, folder, kind, rng) -> Attempt:
    """`evaluate --model human` of recordings: a damaged table of fixations, or of samples."""
    name = ["fixations", "samples"][rng.integers(2)]
    call, root = _gaze(source, folder, "gaze:own", name, "--model", "human", "--pixels-per-degree", "8")
    return Attempt(call, next(root.glob("*.csv")), folder / "out", name)


def gaze_mat(source, folder, kind, rng) -> Attempt:
    """`evaluate --model human` of OSIE, or of the HEVC clips."""
    name, place = ("osie", "osie") if kind == "mat" else ("hevc_gaze", "hevc")
    call, root = _gaze(source, folder, name, place, "--model", "human")
    return Attempt(call, next(root.rglob("*.mat")), folder / "out")


def gaze_clip(source, folder, kind, rng) -> Attempt:
    """`evaluate --model centre` of the HEVC clips, of which one is damaged."""
    call, root = _gaze(source, folder, "hevc_gaze", "hevc", "--model", "centre")
    return Attempt(call, _choose(root.glob("videos/*"), rng), folder / "out", "centre")


def gaze_prior(source, folder, kind, rng) -> Attempt:
    """`evaluate --model` with a prior's file."""
    prior = pathlib.Path(shutil.copy(source / corpus.GAZE / "prior.npz", folder))
    call, _ = _gaze(source, folder, "gaze:own", "fixations", "--model", str(prior))
    return Attempt(call, prior, folder / "out")


def prepared_files(source, folder, kind, rng) -> Attempt:
    """`prepare` of a set with a damaged file."""
    name, place = ("dhf1k:OWN", "shots") if kind == "png" else ("diem", "stavis")
    root = _tree(source / place, folder / "data")
    pattern = "*_fps.txt" if kind == "list" else f"*.{kind}"
    files = [p for p in root.rglob(pattern) if p.name != "eye_tracks.mat"]
    return Attempt(_prepare(folder, name, root), _choose(files, rng), folder / "out")


def _prepare(folder, name, root) -> list[str]:
    size = "x".join(map(str, corpus.SIZE))
    output = ["--output", str(folder / "out"), "--size", size, "--workers", "1"]
    return ["prepare", "--dataset", name, "--root", str(root), *output]


def doctor(source, folder, kind, rng) -> Attempt:
    """`doctor --root`, which lists the available data sets."""
    root = _tree(source / "stavis", folder / "data")
    victim = root / "fold_lists" / "DIEM_list_test_fps.txt"
    return Attempt(["doctor", "--root", str(root)], victim, folder / "out")


def prepared_again(source, folder, kind, rng) -> Attempt:
    """`prepare` that resumes in a folder whose description or a shard is damaged."""
    shutil.copytree(source / "prepared", folder / "out")
    call = _prepare(folder, "diem", source / "stavis")
    return Attempt(call, _prepared_victim(folder / "out" / "diem", kind, rng), folder / "out", kind)


def _prepared_victim(folder: pathlib.Path, kind: str, rng) -> pathlib.Path:
    if kind == "json":
        return folder / "preparation.json"
    return _choose((p for p in folder.rglob("*array_record*") if p.stat().st_size), rng)


def checkpoint(source, folder, kind, rng) -> Attempt:
    """`convert`."""
    names = {"pt": ("zip.pt", "legacy.pt"), "safetensors": ("vinet.safetensors",)}[kind]
    name = names[rng.integers(len(names))]
    victim = pathlib.Path(shutil.copy(source / name, folder))
    settings = [f"{key}={corpus.TINY[key]}" for key in corpus.TINY if "." in key and "hierarchy" not in key]
    settings += ["height=32", "width=32"]
    call = ["convert", "--system", "vinet", "--input", str(victim), "--output", str(folder / "out")]
    for setting in settings:
        call += ["--set", setting]
    return Attempt(call, victim, folder / "out", name)


def compared(source, folder, kind, rng) -> Attempt:
    """`compare` of two results."""
    results = _tree(source / "results", folder / "results")
    files = {
        "json": [*results.rglob("*_fixations.json"), *results.rglob("sound.json")],
        "csv": [*results.glob("*/*.csv")],
        "png": [*results.glob("*/examples/*/*.png")],
        "jpg": [*results.glob("*/examples/*/*.jpg")],
    }[kind]  # fmt: skip
    if kind == "json" and rng.random() < 0.5:
        files = [*results.glob("*/summary.json")]
    call = ["compare", str(results / "ours"), str(results / "theirs"), "--output", str(folder / "out")]
    return Attempt(call, _choose(files, rng), folder / "out")


def workdir(source, folder, kind, rng) -> Attempt:
    """What `train` reads of its workdir: config.json, metrics.jsonl, pictures, the records of checkpoints."""
    from tests.fuzz import reading  # which loads TensorFlow

    place = pathlib.Path(shutil.copytree(source / "workdir", folder / "out"))
    files = {
        "json": [place / "config.json", *(p for p in (place / "checkpoints").rglob("*") if _is_json(p))],
        "jsonl": [place / "metrics.jsonl"],
        "png": [*place.glob("pictures/*.png")],
    }[kind]
    return Attempt(lambda: reading.read_workdir(place), _choose(files, rng), place)


def _is_json(path: pathlib.Path) -> bool:
    return path.is_file() and path.read_bytes()[:1] == b"{"


def streamed(source, folder, kind, rng) -> Attempt:
    """What `train` reads of prepared data."""
    from tests.fuzz import reading

    place = _tree(source / "prepared", folder / "prepared")
    victim = _prepared_victim(place / "diem", kind, rng)
    return Attempt(lambda: reading.stream(place, folder / "out"), victim, folder / "out", "data")


TARGETS: tuple[Target, ...] = (
    *(Target(kind, "predict", film) for kind in ("mp4", "mkv", "avi", "webm", "gif", "webp")),
    Target("json", "predict again", film_again),
    Target("wav", "predict", sound),
    *(Target(kind, "predict", frames) for kind in ("png", "jpg")),
    *(Target(kind, "predict stills", photographs) for kind in ("png", "jpg")),
    Target("json", "predict", model_card),
    Target("safetensors", "predict", weights),
    *(Target(kind, "evaluate", scored_maps) for kind in ("png", "jpg")),
    Target("npz", "evaluate", scored_npz),
    *(Target(kind, "evaluate", scored_truth) for kind in ("mat", "wav")),
    Target("list", "evaluate", scored_list),
    Target("json", "evaluate", scored_again),
    *(Target(kind, "evaluate human", observers) for kind in ("mat", "txt")),
    Target("csv", "evaluate gaze", gaze_table),
    *(Target(kind, "evaluate gaze", gaze_mat) for kind in ("mat", "hdf5")),
    Target("avi", "evaluate gaze", gaze_clip),
    Target("npz", "evaluate gaze", gaze_prior),
    *(Target(kind, "prepare", prepared_files) for kind in ("png", "jpg", "mat", "wav", "list")),
    *(Target(kind, "prepare again", prepared_again) for kind in ("json", "shard")),
    Target("list", "doctor", doctor),
    *(Target(kind, "convert", checkpoint) for kind in ("pt", "safetensors")),
    *(Target(kind, "compare", compared) for kind in ("json", "csv", "png", "jpg")),
    *(Target(kind, "train", workdir) for kind in ("json", "jsonl", "png")),
    *(Target(kind, "train data", streamed) for kind in ("json", "shard")),
)
BY_NAME = {(target.kind, target.command): target for target in TARGETS}
