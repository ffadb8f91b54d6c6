"""Comparison of results: joined tables, the six-set mean, paired differences with bootstrap intervals."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from avsal_jax import registry
from avsal_jax.data.sets.dataset import SIX, group_names
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.results import Result
from avsal_jax.metrics import default_metrics

SIX_SET_MEAN = "six_sets"
RESAMPLES, SEED, LEVEL = 10_000, 0, 0.95


@dataclasses.dataclass(frozen=True)
class Score:
    """A row of the joined table: a method on a set (`six_sets`: the unweighted mean of the six).

    Attributes:
      folds: the folds that were averaged; empty for a set without folds.
      videos: number of scored videos over all folds; None if the paper does not report it.
      metrics: name -> mean.
      origin: paths, a table of a paper, or what was averaged.
      note: conditions and caveats of the numbers.
      printed_values: metric -> value as the paper prints it; empty for measured results and means.
      overrides: different flags of the evaluations (`results.override_flags`); empty for a published row.
    """

    method: str
    dataset: str
    split: str
    folds: tuple[int, ...]
    protocol: str
    videos: int | None
    metrics: dict[str, float]
    origin: str
    note: str
    printed_values: dict[str, str] = dataclasses.field(default_factory=dict)
    overrides: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Difference:
    """Paired difference of per-video values, `method` minus `base`, on their common videos.

    Attributes:
      mean: over the videos.
      low, high: bootstrap interval of the mean, NaN with fewer than two videos.
      videos: number of videos for which both have a value of the metric.
    """

    method: str
    base: str
    dataset: str
    split: str
    metric: str
    videos: int
    mean: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` returns; `base` is None if no result has per-video values."""

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    scores: tuple[Score, ...]
    missing: dict[str, tuple[str, ...]]
    base: str | None
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare(results: Sequence[Result]) -> Comparison:
    """Joins results of one or several methods on one or several sets.

    Results of one method on several folds of a set are averaged with equal weights per fold (as Jain et al.
    2021 report them). The six-set mean gives each set the same weight (as Fan et al. 2022, Tables 3 and 4).

    Raises:
      AvsalError: a result is given twice; a set was scored by different protocols, splits or folds; two
        methods have no common video.
    """
    _check(results)
    methods = tuple(dict.fromkeys(r.method for r in results))
    scores = [
        _score([r for r in results if (r.method, r.dataset, r.split) == key])
        for key in dict.fromkeys((r.method, r.dataset, r.split) for r in results)
    ]
    means, missing = _six_set_means(scores)
    differences = _differences(results)
    scored, usual = {metric for result in results for metric in result.metrics}, default_metrics()
    metrics = (*(m for m in usual if m in scored), *sorted(scored.difference(usual)))
    return Comparison(
        methods=methods,
        metrics=metrics,
        scores=(*scores, *means),
        missing=missing,
        base=_base(results),
        differences=tuple(differences),
        notes=(*_notes(scores, means), *_unknown_metrics(metrics)),
    )


def _check(results: Sequence[Result]) -> None:
    by_key: dict[tuple, Result] = {}
    for result in results:
        key = (result.method, result.dataset, result.split, result.fold)
        if key in by_key:
            first, place = by_key[key].origin, result.dataset + _fold(result.fold)
            raise AvsalError(
                f"{first} and {result.origin} both contain {result.method!r} on {place}; "
                "rename one of them: LABEL=FOLDER"
            )
        by_key[key] = result
    measured = [r for r in results if r.per_video is not None]
    for dataset in dict.fromkeys(r.dataset for r in measured):
        of_set = [r for r in measured if r.dataset == dataset]
        for field in ("protocol", "split"):
            _check_equal(of_set, dataset=dataset, field=field, value=lambda r, field=field: getattr(r, field))
        if not _is_single_split(dataset):  # otherwise every fold number means the same split
            folds = {
                m: sorted({r.fold for r in of_set if r.method == m}, key=str)
                for m in {r.method for r in of_set}
            }
            _check_equal(
                of_set,
                dataset=dataset,
                field="folds",
                value=lambda r, folds=folds: ", ".join(map(str, folds[r.method])),
            )


def _is_single_split(dataset: str) -> bool:
    """Whether a registered set has a single split. Other sets, such as lists of several sets, have folds."""
    row = registry.lookup("dataset", dataset)
    return row is not None and row.single_split


def _check_equal(results: list[Result], dataset: str, field: str, value: Callable[[Result], str]) -> None:
    first = results[0]
    for other in results[1:]:
        if value(other) != value(first):
            raise AvsalError(
                f"{first.origin} has {field} {value(first)} on {dataset}, {other.origin} has {value(other)}: "
                "their numbers are not comparable; evaluate both in the same way"
            )


def _fold(fold: int | None) -> str:
    return "" if fold is None else f", fold {fold}"


def _score(results: list[Result]) -> Score:
    first = results[0]
    names = dict.fromkeys(metric for result in results for metric in result.metrics)
    counts = [r.videos for r in results]
    return Score(
        method=first.method,
        dataset=first.dataset,
        split=first.split,
        folds=tuple(sorted(r.fold for r in results if r.fold is not None)),
        protocol=first.protocol,
        videos=None if None in counts else sum(counts),
        metrics={m: float(np.mean([r.metrics.get(m, np.nan) for r in results])) for m in names},
        origin="; ".join(r.origin for r in results),
        note="; ".join(dict.fromkeys(r.note for r in results if r.note)),
        printed_values=first.printed_values if len(results) == 1 else {},
        overrides=_distinct(r.overrides for r in results if r.per_video is not None),
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _six_set_means(scores: list[Score]) -> tuple[list[Score], dict[str, tuple[str, ...]]]:
    """Returns the means of methods with all six sets, and the missing sets of methods with only some."""
    means, missing, sets = [], {}, group_names(SIX)
    for method, split in dict.fromkeys((s.method, s.split) for s in scores):
        of_sets = {
            s.dataset: s for s in scores if (s.method, s.split) == (method, split) and s.dataset in sets
        }
        if not of_sets:
            continue
        lacking = tuple(name for name in sets if name not in of_sets)
        if lacking:
            missing[method] = lacking
            continue
        six = [of_sets[name] for name in sets]
        names = [m for m in six[0].metrics if all(m in s.metrics for s in six)]
        counts = [s.videos for s in six]
        protocols = _distinct(s.protocol for s in six)
        overrides = _distinct(flags for s in six for flags in s.overrides)
        notes = {"scored by several protocols": protocols, "evaluated with several overrides": overrides}
        means.append(
            Score(
                method=method,
                dataset=SIX_SET_MEAN,
                split=split,
                folds=(),
                protocol=" and ".join(protocols),
                videos=None if None in counts else sum(counts),
                metrics={m: float(np.mean([s.metrics[m] for s in six])) for m in names},
                origin="unweighted mean of the six sets",
                note="; ".join(note for note, values in notes.items() if len(values) > 1),
                overrides=overrides,
            )
        )
    return means, missing


def _notes(scores: list[Score], means: list[Score]) -> list[str]:
    notes = [f"{s.method} on {s.dataset}: {s.note}" for s in (*scores, *means) if s.note]
    for dataset in dict.fromkeys(s.dataset for s in scores):
        of_set = [s for s in scores if s.dataset == dataset]
        counts = {s.method: s.videos for s in of_set if s.videos is not None}
        if len(set(counts.values())) > 1:
            text = ", ".join(f"{method} {count}" for method, count in counts.items())
            notes.append(f"the means on {dataset} are over different numbers of videos: {text}")
        if len({flags for s in of_set for flags in s.overrides}) > 1:
            text = "; ".join(
                f"{s.method} {' and '.join(flags or 'none' for flags in s.overrides)}"
                for s in of_set
                if s.overrides
            )
            notes.append(f"the results on {dataset} were evaluated with different overrides: {text}")
        splits = dict.fromkeys(s.split for s in of_set)
        if len(splits) > 1:
            methods = {name: ", ".join(s.method for s in of_set if s.split == name) for name in splits}
            text = "; ".join(f"{name} of {of}" for name, of in methods.items())
            notes.append(f"{dataset} was scored on splits of different names: {text}")
    return notes


def _unknown_metrics(metrics: Sequence[str]) -> list[str]:
    return [
        f"whether more or less of {metric} is better is unknown, so no best value is marked: name the plugin "
        "that has this metric"
        for metric in metrics
        if not registry.is_registered("metric", metric)
    ]


def _base(results: Sequence[Result]) -> str | None:
    return next((r.method for r in results if r.per_video is not None), None)


def _differences(results: Sequence[Result]) -> list[Difference]:
    base = _base(results)
    measured = [r for r in results if r.per_video is not None]
    differences = []
    for key in dict.fromkeys((r.dataset, r.split) for r in measured):
        of_set = [r for r in measured if (r.dataset, r.split) == key]
        first = [r for r in of_set if r.method == base]
        for method in dict.fromkeys(r.method for r in of_set):
            if method != base and first:
                differences += _paired(first, [r for r in of_set if r.method == method])
    return differences


def _paired(first: list[Result], second: list[Result]) -> list[Difference]:
    names = [
        {_video(v) for r in side for table in r.per_video.values() for v in table} for side in (first, second)
    ]
    if not names[0] & names[1]:
        raise AvsalError(
            f"{first[0].origin} and {second[0].origin} have no video of {first[0].dataset} in common; "
            "evaluate both with the same --split, --list and --fold"
        )
    differences = []
    for metric in first[0].per_video:
        if any(metric not in r.per_video for r in (*first, *second)):
            continue
        base_values, method_values = _by_video(first, metric), _by_video(second, metric)
        pairs = np.array(
            [method_values[v] - base_values[v] for v in sorted(base_values.keys() & method_values.keys())]
        )
        low, high = bootstrap_interval(pairs)
        mean = float(pairs.mean()) if len(pairs) else np.nan
        labels = (second[0].method, first[0].method, first[0].dataset, first[0].split)
        differences.append(Difference(*labels, metric, len(pairs), mean, low, high))
    return differences


def _by_video(results: list[Result], metric: str) -> dict[str, float]:
    """Returns video -> value, without NaN; a video of several folds counts once, with its mean."""
    values: dict[str, list[float]] = {}
    for result in results:
        for name, value in result.per_video[metric].items():
            if not np.isnan(value):
                values.setdefault(_video(name), []).append(value)
    return {video: float(np.mean(numbers)) for video, numbers in values.items()}


def _video(name: str) -> str:
    """Removes the fold from `2:name`, the name of a video in results of several folds."""
    return re.sub(r"^\d+:(?=.)", "", name)


def bootstrap_interval(
    values,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
):
    """Returns (low, high): the percentile bootstrap interval of the mean (Efron 1979).

    Groups are drawn with replacement, each with all its videos, and the mean is over the videos drawn. The
    draws depend on the seed and the number of groups only, so rows of the same videos share their resamples.

    Args:
      values: [N], one for each video. NaN is dropped, and so are groups without any other value.
      groups: [N], one name for all videos that show nearly the same; None to draw each video separately.

    Returns:
      Two floats; NaN with fewer than two groups, for which the interval is not defined.
    """
    values = np.asarray(values, np.float64)
    names = np.arange(len(values)) if groups is None else np.asarray(groups)
    names, values = names[~np.isnan(values)], values[~np.isnan(values)]
    _, numbers = np.unique(names, return_inverse=True)
    counts = np.bincount(numbers).astype(np.float64)
    sums = np.bincount(numbers, values)
    if len(counts) < 2:
        return np.nan, np.nan
    generator, means = np.random.default_rng(seed), np.empty(resamples)
    for start in range(0, resamples, 500):  # pieces limit the memory for sets of many videos
        piece = means[start : start + 500]
        rows = generator.integers(len(counts), size=(len(piece), len(counts)))
        piece[:] = sums[rows].sum(1) / counts[rows].sum(1)
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
