"""Scores models, baselines and people on recorded gaze, and writes docs/benchmark.md.

  python tools/gaze_benchmark.py --gaze GAZE --results RESULTS --models RUNS --image-model MODEL [MODEL ...]

GAZE holds the folders hevc, osie and eyecrowd, each as its page in docs/datasets describes it. RUNS holds
fold1/model to fold5/model, each a model directory that was trained without the clips of its fold; or
seed0/fold1/model and so on for several seeds. MODEL has seen no clip: it is scored on all clips and on the
test thirds of the photographs; with several seeds, name one for each. Without --models or --image-model the
page lacks their rows.

RESULTS holds the results of `avsal evaluate` for each method, seed and fold, with frames of the sets: keep it
outside the repository. Rerun the same command after an interruption; finished stimuli are skipped.
"""

import argparse
import json
import pathlib
import shlex
import sys

import numpy as np
import tqdm
from gaze_page import CAUSAL, IMAGE, PEOPLE, PRIOR, SMOOTHED, Content, page
from gaze_picture import draw_worst
from gaze_scores import (
    CAUSAL_MAPS,
    CLIPS,
    FOLDERS,
    PHOTOGRAPHS,
    SMOOTHED_MAPS,
    Bench,
    Method,
    Row,
    check_training,
    clip_folds,
    fold_models,
)
from measure import machine

from avsal_jax.bundled import model_directory
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.errors import AvsalError
from avsal_jax.files import write_text
from avsal_jax.runtime.compile_cache import use_compile_cache

WORST_CLIPS = 5
MACHINE = ("device", "processor", "cores", "python", "jax")


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    use_compile_cache()
    try:
        content = benchmark(args)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.output, page(content))
    except AvsalError as error:
        print(f"gaze_benchmark: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gaze_benchmark: cannot write {args.output}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"the benchmark is in {args.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--gaze", required=True, type=pathlib.Path, metavar="GAZE", help="folder of recorded gaze")
    add("--results", required=True, type=pathlib.Path, metavar="RESULTS", help="where evaluations are kept")
    add("--models", type=pathlib.Path, metavar="RUNS", help="models of the folds")
    add(
        "--image-model",
        type=pathlib.Path,
        nargs="+",
        default=(),
        metavar="MODEL",
        help="the image-only network, of each seed",
    )
    add("--output", type=pathlib.Path, default=pathlib.Path("docs/benchmark.md"), metavar="FILE")
    add("--folds", type=_folds, metavar="K,L", help="score only the clips of these folds (default: all)")
    return parser


def _folds(text: str) -> tuple[int, ...]:
    if not all(part.isascii() and part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of folds, as 1,2")
    return tuple(sorted({int(part) for part in text.split(",")}))


def benchmark(args: argparse.Namespace) -> Content:
    """Evaluates everything; returns what the page shows."""
    _check(args)
    folds = clip_folds(args.gaze)
    if unknown := [fold for fold in args.folds or () if fold not in folds]:
        raise AvsalError(f"there is no clip of fold {unknown[0]} in {args.gaze}; folds: {_words(folds)}")
    bench = Bench(args.gaze, args.results, args.folds or folds, say=_say, progress=_progress)
    image = tuple(map(str, args.image_model))
    models = () if args.models is None else fold_models(args.models, bench.folds)
    fitted = {
        fold: bench.prior(f"fold{fold}", open_dataset(CLIPS, bench.root(CLIPS), "train", fold))
        for fold in bench.folds
    }
    training = [entry for name in PHOTOGRAPHS for entry in open_dataset(name, bench.root(name), "train")]
    mean_map = bench.prior("photographs", training)
    methods = _clip_methods(fitted, mean_map=str(mean_map), image=image, models=models)
    clips = {method.key: bench.row(CLIPS, method, fitted) for method in methods}
    photographs = {
        name: {
            method.key: bench.row(name, method, {0: mean_map})
            for method in _photograph_methods(str(mean_map), image)
        }
        for name in PHOTOGRAPHS
    }
    names = tuple(entry.name for entry in bench.stimuli(CLIPS))
    properties = machine()
    return Content(
        names=names,
        clips=clips,
        photographs=photographs,
        picture=_picture(bench, clips, names=names, output=args.output),
        command=_command(args),
        machine={name: str(properties[name]) for name in MACHINE},
        models=_weights(image, models),
    )


def _check(args: argparse.Namespace) -> None:
    """Refuses folders that are missing, before any work."""
    for folder in FOLDERS.values():
        if not (args.gaze / folder).is_dir():
            raise AvsalError(
                f"there is no folder {args.gaze / folder}; --gaze names a folder that holds "
                f"{_words(FOLDERS.values())}"
            )
    for model in args.image_model:
        directory = model_directory(model)
        if not (directory / "model.json").is_file():
            raise AvsalError(f"there is no model in {directory}; --image-model names a model directory")
        check_training(directory, fold=None)


def _clip_methods(fitted, mean_map, image, models) -> list[Method]:
    folds = tuple(fitted)

    def constant(key, label, model, options=None):
        return Method(key, label, ({fold: model for fold in folds},), options or {})

    methods = [
        constant("centre", "centre prior", "centre"),
        Method(PRIOR, "prior of the other folds", ({fold: str(path) for fold, path in fitted.items()},)),
        constant("mean_map", "mean map of the photographs", mean_map),
        constant("motion", "motion energy", "motion"),
        constant("spectral_residual", "spectral residual", "spectral_residual"),
    ]
    if image:
        runs = tuple({fold: model for fold in folds} for model in image)
        methods.append(Method(IMAGE, "image-only network", runs, CAUSAL_MAPS))
    if models:
        methods.append(Method(CAUSAL, "`avsal-gaze`, causal", models, CAUSAL_MAPS))
        methods.append(Method(SMOOTHED, "`avsal-gaze`, smoothed", models, SMOOTHED_MAPS))
    methods.append(constant(PEOPLE, "people (leave one out)", "human"))
    methods.append(constant("people_half", "people (half)", "human_half"))
    return methods


def _photograph_methods(mean_map, image) -> list[Method]:
    methods = [
        Method("centre", "centre prior", ({0: "centre"},)),
        Method("mean_map", "mean map of the photographs", ({0: mean_map},)),
    ]
    if image:
        runs = tuple({0: model} for model in image)
        methods.append(Method(IMAGE, "image-only network", runs, CAUSAL_MAPS))
    methods.append(Method(PEOPLE, "people (leave one out)", ({0: "human"},)))
    methods.append(Method("people_half", "people (half)", ({0: "human_half"},)))
    return methods


def _picture(bench: Bench, clips: dict[str, Row], names, output: pathlib.Path) -> tuple[str, str] | None:
    """Draws the clips where the last network is furthest below the prior; returns (file name, caption)."""
    key = next((key for key in (SMOOTHED, CAUSAL, IMAGE) if key in clips), None)
    if key is None:
        return None
    row, prior = clips[key].values("nss"), clips[PRIOR].values("nss")
    fold_of = {entry.name: fold for fold in bench.folds for entry in _of_fold(bench, fold)}
    worst = np.argsort(row - prior, kind="stable")[:WORST_CLIPS]
    panels = [
        (
            names[number],
            bench.output(CLIPS, key, fold=fold_of[names[number]]),
            f"NSS {row[number]:.2f}, prior {prior[number]:.2f}",
        )
        for number in worst
    ]
    path = output.with_name(f"{output.stem}_worst.png")
    output.parent.mkdir(parents=True, exist_ok=True)
    draw_worst(panels, path)
    caption = (
        f"The {len(panels)} clips where {clips[key].label} has the lowest NSS compared with the prior of the "
        "other folds, each at its worst frame. Dark blue: high values of the map. Orange "
        "lines: the density of fixations. Red: fixations. The NSS is the mean of the clip."
    )
    return path.name, caption


def _of_fold(bench: Bench, fold: int):
    return open_dataset(CLIPS, bench.root(CLIPS), "test", fold)


def _weights(image: tuple[str, ...], models) -> dict[str, str]:
    """Returns the first digits of the SHA-256 of the weights of each model."""
    paths = {f"image-only network, seed {number}": path for number, path in enumerate(image)}
    for number, seed in enumerate(models):
        paths |= {f"`avsal-gaze`, seed {number}, fold {fold}": path for fold, path in seed.items()}
    digits = {}
    for name, path in paths.items():
        card = json.loads((model_directory(path) / "model.json").read_text(encoding="utf-8"))
        digits[name] = (card.get("weights") or {}).get("sha256", "")[:12]
    return digits


def _command(args: argparse.Namespace) -> str:
    """Returns the command with placeholders for this machine's paths."""
    words = ["python", "tools/gaze_benchmark.py", "--gaze", "GAZE", "--results", "RESULTS"]
    words += ["--models", "RUNS"] if args.models else []
    words += ["--image-model", *["MODEL"] * len(args.image_model)] if args.image_model else []
    words += ["--folds", _words(args.folds, ",")] if args.folds else []
    return shlex.join(words)


def _words(values, comma: str = ", ") -> str:
    return comma.join(map(str, values))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _progress(stimuli):
    return tqdm.tqdm(stimuli, unit="stimulus", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
