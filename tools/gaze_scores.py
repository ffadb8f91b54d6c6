"""The evaluations of tools/gaze_benchmark.py: methods, folds and seeds, and their values per stimulus."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from avsal_jax import registry
from avsal_jax.data.gaze.gaze_sets import placements
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.compare import bootstrap_interval
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.evaluation.priors import fit_prior
from avsal_jax.evaluation.results import read_result
from avsal_jax.identity import digest
from avsal_jax.metrics import default_metrics

CLIPS = "hevc_gaze"
PHOTOGRAPHS = ("osie", "eyecrowd")
FOLDERS = {CLIPS: "hevc", "osie": "osie", "eyecrowd": "eyecrowd"}  # in the folder of recorded gaze
FIRST = "nss"  # the metric of the worst frames and of deficits
COLUMNS = (FIRST, *(name for name in default_metrics() if name != FIRST))
SCORED = (*COLUMNS, *(name for name, metric in registry.table("metric").items() if metric.grid_only))

# Fields of `Request` for the maps of a network: without smoothing over time, or with that of its model.json.
CAUSAL_MAPS: dict = {"smoothing": 0.0}
SMOOTHED_MAPS: dict = {}


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the benchmark.

    Attributes:
      key: name of its folder of results.
      label: in tables.
      runs: for each seed, what `--model` is for each fold (0 for sets without folds).
      options: further fields of `Request`.
    """

    key: str
    label: str
    runs: tuple[dict[int, str], ...]
    options: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """The values of a method.

    Attributes:
      label: in tables.
      seeds: float64 [stimuli] by metric, for each seed; NaN where there is no value.
      groups: of the stimuli.
    """

    label: str
    seeds: tuple[dict[str, np.ndarray], ...]
    groups: tuple[str, ...]

    def values(self, metric: str) -> np.ndarray:
        """Returns float64 [stimuli]: the mean over seeds."""
        return np.mean([seed[metric] for seed in self.seeds], 0)

    def spread(self, metric: str) -> float:
        """Returns the standard deviation (of N - 1) of the means of the seeds; NaN for one seed."""
        means = [np.nanmean(seed[metric]) for seed in self.seeds if not np.isnan(seed[metric]).all()]
        return float(np.std(means, ddof=1)) if len(means) > 1 else np.nan

    def minus(self, other: "Row") -> "Row":
        """Returns paired differences, whose intervals are of the same resamples."""
        metrics = self.seeds[0].keys() & other.seeds[0].keys()
        difference = {metric: self.values(metric) - other.values(metric) for metric in metrics}
        return Row(f"{self.label} minus {other.label}", (difference,), self.groups)

    def summary(self, metric: str) -> tuple[float, float, float]:
        """Returns (mean over stimuli, low, high) with the 95 % bootstrap interval over groups."""
        values = self.values(metric)
        if np.isnan(values).all():
            return np.nan, np.nan, np.nan
        return float(np.nanmean(values)), *bootstrap_interval(values, self.groups)


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where the sets are, and where results go.

    Attributes:
      gaze: the folder of recorded gaze.
      results: the folder of results.
      folds: of the clips, to score.
      say: prints a line.
      progress: shows how far a list of stimuli is done.
    """

    gaze: pathlib.Path
    results: pathlib.Path
    folds: tuple[int, ...]
    say: Callable[[str], None]
    progress: Callable

    def root(self, dataset: str) -> pathlib.Path:
        """Returns the folder of a set."""
        return self.gaze / FOLDERS[dataset]

    def stimuli(self, dataset: str) -> tuple[VideoEntry, ...]:
        """Returns what is scored of a set: clips of `folds`, or the test third of photographs."""
        if dataset != CLIPS:
            return tuple(entry for entry in open_dataset(dataset, self.root(dataset)) if entry.frames)
        places = placements(CLIPS)
        return tuple(
            entry
            for entry in open_dataset(CLIPS, self.root(CLIPS), "all")
            if entry.frames and entry.name in places and places[entry.name].part in self.folds
        )

    def prior(self, name: str, stimuli: Sequence[VideoEntry]) -> pathlib.Path:
        """Returns the file of a prior; it is fitted unless the file of the same stimuli exists."""
        usable = [entry for entry in stimuli if entry.frames]
        content = digest([[entry.dataset, entry.name, *entry.identity()] for entry in usable])
        path = self.results / "priors" / f"{name}-{content}.npz"
        if not path.is_file():
            self.say(f"fitting {path.name} on {len(usable)} stimuli")
            fit_prior(usable, path, self.progress)
        return path

    def row(self, dataset: str, method: Method, priors: dict[int, pathlib.Path]) -> Row:
        """Evaluates a method on a set; AvsalError with the reasons if a stimulus fails.

        Args:
          dataset: its name.
          method: with a model for each fold of `priors`.
          priors: what the information gain is over, for each fold; 0 for sets without folds.
        """
        stimuli, seeds = self.stimuli(dataset), []
        for number, models in enumerate(method.runs, 1):
            tables = [
                self._evaluate(
                    dataset, method=method, seed=number, fold=fold, model=models[fold], prior=prior
                )
                for fold, prior in priors.items()
            ]
            seeds.append(
                {
                    metric: np.array([_value(tables, metric, entry.name) for entry in stimuli])
                    for metric in tables[0]
                }
            )
        return Row(method.label, tuple(seeds), tuple(entry.group for entry in stimuli))

    def _evaluate(
        self, dataset: str, method: Method, seed: int, fold: int, model: str, prior: pathlib.Path
    ) -> dict[str, dict[str, float]]:
        """Returns metric -> stimulus -> value of one model on one fold (0 for sets without folds)."""
        self.say(f"{dataset}, {method.label}, seed {seed} of {len(method.runs)}, fold {fold}")
        request = Request(
            dataset,
            self.root(dataset),
            fold=fold or None,
            model=model,
            metrics=SCORED,
            prior=prior,
            label=method.label,
            **method.options,
        )
        output = self.output(dataset, method.key, seed=seed, fold=fold)
        if failures := evaluate(request, output, progress=self.progress)["failed"]:
            lines = "\n".join(failures)
            raise AvsalError(f"{method.label} on {dataset}: {lines}\nrerun: what is done is skipped")
        return read_result(output).per_video

    def output(self, dataset: str, key: str, seed: int = 1, fold: int = 0) -> pathlib.Path:
        """Returns the folder of results of one model on one fold."""
        return self.results / dataset / key / f"seed{seed}" / f"fold{fold}"


def _value(tables: Sequence[dict[str, dict[str, float]]], metric: str, stimulus: str) -> float:
    """Returns the value of a stimulus, which is in the table of one fold."""
    return next(table[metric][stimulus] for table in tables if stimulus in table[metric])


def clip_folds(bench_root: pathlib.Path) -> tuple[int, ...]:
    """Returns the folds that have a clip in this copy of the set."""
    places = placements(CLIPS)
    clips = open_dataset(CLIPS, bench_root / FOLDERS[CLIPS], "all")
    return tuple(sorted({places[clip.name].part for clip in clips if clip.frames and clip.name in places}))


def fold_models(runs: pathlib.Path, folds: Sequence[int]) -> tuple[dict[int, str], ...]:
    """Returns for each seed the model of each fold: RUNS/fold1/model, or RUNS/seed0/fold1/model.

    Raises:
      AvsalError: a model is missing, or its run was trained on clips that its fold tests.
    """
    seeds = sorted((path for path in runs.glob("seed*") if path.is_dir()), key=lambda path: path.name)
    models = tuple({fold: seed / f"fold{fold}" / "model" for fold in folds} for seed in seeds or [runs])
    missing = [str(path) for seed in models for path in seed.values() if not (path / "model.json").is_file()]
    if missing:
        raise AvsalError(
            f"there is no model in {', '.join(missing)}; {runs} must hold fold1/model, fold2/model, ... or "
            "seed0/fold1/model, ...: each trained by `avsal train` without the clips of its fold"
        )
    for seed in models:
        for fold, path in seed.items():
            check_training(path, fold)
    return tuple({fold: str(path) for fold, path in seed.items()} for seed in models)


def check_training(model: pathlib.Path, fold: int | None) -> None:
    """Refuses a model whose run trained on clips that it is scored on, as far as its config.json is kept.

    Args:
      model: the directory; the run's config.json is next to it.
      fold: whose clips it is scored on; None for all folds.
    """
    config = model.parent / "config.json"
    if not config.is_file():
        return
    sources = json.loads(config.read_text(encoding="utf-8")).get("data", {}).get("sources", ())
    wrong = [part for part in sources if list(part)[:1] == [CLIPS] and list(part)[1:] != [fold]]
    if wrong:
        scored = "the clips of all folds" if fold is None else f"the clips of fold {fold}"
        raise AvsalError(f"{model} was trained on {wrong[0]}, so it may have seen {scored}; train it without")
