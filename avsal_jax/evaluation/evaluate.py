"""`avsal evaluate`: from the names on the command line to units, parts and tables."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

from avsal_jax import registry
from avsal_jax.data.gaze.stimuli import DEFAULT_OPTIONS, GazeOptions
from avsal_jax.data.sets.datasets import find_dataset, open_dataset, open_entire
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.sets.video_lists import shipped_domain
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation import priors, runner, tables
from avsal_jax.evaluation.baseline import Baseline, BaselineRequest
from avsal_jax.evaluation.baselines import centre_maps
from avsal_jax.evaluation.map_sources import MapSource, ModelMaps
from avsal_jax.evaluation.protocols import Protocol, protocol_for
from avsal_jax.evaluation.results import OVERRIDES
from avsal_jax.evaluation.saved_maps import SavedMaps
from avsal_jax.evaluation.sound_assignment import AUTO, SoundAssignment
from avsal_jax.evaluation.submission import write_submission
from avsal_jax.evaluation.units import Settings, Unit
from avsal_jax.inference.predictor import load_model
from avsal_jax.metrics import default_metrics, find_metric, metrics_over_priors
from avsal_jax.runtime.cluster import share
from avsal_jax.storage import model_label


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of an evaluation.

    Attributes:
      dataset, root, split, fold, list_file: the videos; see `data.sets.datasets.open_dataset`.
      model: a model directory or bundled model, `1=DIR,2=DIR,3=DIR` for pooled folds, a prior's file, or the
        name of a registered baseline.
      predictions: a folder of saved maps. Set either this or `model`.
      observers: raw fixations, for the baseline `human`; see the module `human`.
      protocol: the name of a registered protocol; None for the default of the set.
      postprocess: how maps of a model are stored, see `pictures.to_grey`; None for the protocol's own.
      metrics: names of registered metrics; empty for the default metrics.
      shard: (I, N): the I-th of N shares, from 1.
      seed: of all random draws.
      batch: windows per call of a network; None for a default that depends on the device.
      label: the method's name in tables; None for that of the maps, see `storage.model_label` for a model.
      gaze: options for reading recorded gaze.
      allow_seen: whether a prior or mean map may be scored on the stimuli that it was fitted on.
      smoothing: of a network's maps, in seconds; None for the model's default.
      prior: a file of `fit-prior`, the reference of metrics that need a prior; adds these metrics unless
        `metrics` has one of them. Without a file, the reference is the centre prior.
      audio: the sound of each video, for a model that takes audio; see `sound_assignment.SoundAssignment`.
      coding_iterations: number of predictive coding iterations; None for the model's default.
    """

    dataset: str
    root: pathlib.Path
    split: str = "test"
    fold: int | None = None
    list_file: pathlib.Path | None = None
    model: str | None = None
    predictions: pathlib.Path | None = None
    observers: str | pathlib.Path | None = None
    protocol: str | None = None
    postprocess: str | None = None
    metrics: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None
    seed: int = 0
    batch: int | None = None
    label: str | None = None
    gaze: GazeOptions = DEFAULT_OPTIONS
    allow_seen: bool = False
    smoothing: float | None = None
    prior: pathlib.Path | None = None
    audio: str = AUTO
    coding_iterations: int | None = None


def evaluate(
    request: Request,
    output,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable = lambda units: units,
) -> dict:
    """Evaluates a set, and resumes an interrupted evaluation.

    Returns:
      The content of `summary.json` with `failed`, a line for each video of this share that failed. While
      other shares are incomplete: {"videos", "of", "failed"}. If the truth of no video is published, maps are
      written for submission: {"videos", "submission", "failed"}.

    Raises:
      AvsalError: the set, the model or the predictions cannot be read, or a setting is unknown.
    """
    output = pathlib.Path(output)
    settings = _settings(request)
    units = _units(request)
    stimuli, notes = open_entire(request.dataset, request.root, request.gaze)
    for note in notes:
        say(f"note: {request.dataset}: {note}")
    pool = [Unit(entry, units[0].source) for entry in stimuli] or units
    own_units = share(units, request.shard)
    for problem in runner.check(own_units, settings):  # reads sound; other processes report their own shares
        say(f"note: {problem}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AvsalError(f"cannot write to {output}: {error.strerror}") from error
    if not any(unit.entry.published for unit in units if unit.entry.frames):
        return write_submission(
            own_units, protocol=settings.protocol, output=output, say=say, progress=progress
        )
    jobs = runner.Jobs(settings)
    failed = runner.evaluate_units(
        own_units, settings=settings, output=output, say=say, progress=progress, pool=pool, jobs=jobs
    )
    parts = [runner.read_part(output, unit, jobs) for unit in units]
    attempts = sum(part is not None for part in parts)
    scored = [
        (part, unit.fold)
        for part, unit in zip(parts, units, strict=True)
        if part is not None and "failed" not in part
    ]
    complete = [part for part, _ in scored]
    if attempts < len(units) or not complete:
        return {"videos": len(complete), "of": len(units), "failed": failed}
    about = {
        "method": request.label or _label(units),
        "dataset": _shown_dataset(request),
        "split": request.split,
        "fold": request.fold,
        "missing": [unit.key for unit, part in zip(units, parts, strict=True) if "failed" in part],
        "not_scored": {
            unit.label: part["failed"] for unit, part in zip(units, parts, strict=True) if "failed" in part
        },
        "seed": request.seed,
        **_configs(units),
        **_overrides(request),
        **_grid_words(settings.protocol),
        **({} if settings.prior is None else {"prior": settings.prior.label}),
        "source": {
            "root": str(request.root),
            "dataset": request.dataset,
            "split": request.split,
            "fold": request.fold,
            "list": str(request.list_file) if request.list_file else None,
        },
    }
    try:
        summary = tables.write_results(
            output,
            parts=complete,
            folds=[fold for _, fold in scored],
            metrics=settings.metrics,
            protocol=settings.protocol,
            about=about,
        )
    except OSError as error:
        raise AvsalError(f"cannot write to {output}: {error.strerror}") from error
    return {**summary, "failed": failed}


def _settings(request: Request) -> Settings:
    """Returns the settings of the evaluation; a prior adds the metrics that need one."""
    protocol = _protocol(request)
    names = registry.choose("metric", request.metrics or default_metrics())
    over_prior = metrics_over_priors()
    if request.prior is not None and not set(names) & set(over_prior):
        names = (*names, *over_prior)
    if protocol.grid is None and (wrong := [name for name in names if find_metric(name).grid_only]):
        grids = [name for name, row in registry.table("protocol").items() if row.grid is not None]
        raise AvsalError(
            f"{wrong[0]} is a metric of the protocol {' or '.join(grids)}, not of {protocol.name}"
        )
    prior = None
    if set(names) & set(over_prior):
        file = request.prior
        prior = centre_maps() if file is None else priors.read_prior(file, request.allow_seen)
    return Settings(protocol, names, seed=request.seed, prior=prior)


def _protocol(request: Request) -> Protocol:
    """Returns the protocol; with a grid, its blur is that of the options of recorded gaze."""
    protocol, gaze = protocol_for(request.protocol, request.dataset), request.gaze
    if request.postprocess is not None:
        protocol = protocol.with_postprocess(request.postprocess)
    if protocol.grid is None:
        return protocol
    grid = dataclasses.replace(protocol.grid, sigma=gaze.sigma, pixels_per_degree=gaze.pixels_per_degree)
    return dataclasses.replace(protocol, grid=grid)


def _label(units: Sequence[Unit]) -> str:
    """Returns the label of the maps; for folds of several models, that of the first and how many follow."""
    first, *rest = dict.fromkeys(unit.source.label for unit in units)
    return f"{first} and {len(rest)} more" if rest else first


def _configs(units: Sequence[Unit]) -> dict:
    """Returns the field of a summary that names the configs of the networks; empty if they are unknown."""
    names = dict.fromkeys(unit.source.config for unit in units if unit.source.config)
    return {"config": " and ".join(names)} if names else {}


def _overrides(request: Request) -> dict:
    """Returns the settings that override those of the model or the protocol, for the summary."""
    values = {name: getattr(request, name) for name in OVERRIDES}
    return {name: value for name, value in values.items() if value not in (AUTO, None)}


def _grid_words(protocol: Protocol) -> dict:
    """Returns the fields of a summary for a grid: its rows, and the blur of fixations."""
    if protocol.grid is None:
        return {}
    return {"grid_rows": protocol.grid.rows, "sigma": str(protocol.grid.sigma)}


def _shown_dataset(request: Request) -> str:
    """Returns `nature` for the list `domain:nature_test`, whose videos are of several sets; else the set."""
    domain = shipped_domain(str(request.list_file or ""))
    return request.dataset if domain is None else domain.partition("_")[0]


def _units(request: Request) -> list[Unit]:
    folds = _folds(request.model)
    if folds:
        entries = {fold: _entries(request, request.split, fold) for fold in folds}
        videos = [entry for of_fold in entries.values() for entry in of_fold]
        sources = {fold: _model_maps(path, request, videos) for fold, path in folds.items()}
        return [Unit(entry, sources[fold], fold) for fold in folds for entry in entries[fold]]
    entries = _entries(request, request.split, request.fold)
    source, mixed = _source(request, entries), len({entry.dataset for entry in entries}) > 1
    return [Unit(entry, source, mixed=mixed) for entry in entries]


def _entries(request: Request, split: str, fold: int | None) -> tuple[VideoEntry, ...]:
    entries = open_dataset(
        request.dataset,
        root=request.root,
        split=split,
        fold=fold,
        list_file=request.list_file,
        gaze=request.gaze,
    )
    if not entries:
        raise AvsalError(f"{request.dataset} {split} has no videos in {request.root}")
    return entries


def _source(request: Request, entries: Sequence[VideoEntry]) -> MapSource:
    if (request.model is None) == (request.predictions is None):
        raise AvsalError("give either --model or --predictions")
    baseline = None if request.model is None else registry.lookup("baseline", request.model)
    source = _source_without_network(request, baseline, entries)
    if source is None:
        return _model_maps(request.model, request, entries)
    of_networks = {
        "--smoothing": request.smoothing is not None,
        "--audio": request.audio != AUTO,
        "--coding-iterations": request.coding_iterations is not None,
    }
    for flag, is_set in of_networks.items():
        if is_set:
            raise AvsalError(f"{flag} applies only to a network: remove it for saved maps and baselines")
    is_stored = request.predictions is None and (baseline is None or baseline.is_stored)
    if request.postprocess is not None and not is_stored:
        raise AvsalError(
            "--postprocess applies only to maps of a model or baseline: remove it for saved maps, which are "
            "scored unchanged, and for people"
        )
    return source


def _source_without_network(
    request: Request, baseline: Baseline | None, entries: Sequence[VideoEntry]
) -> MapSource | None:
    if request.predictions is not None:
        return SavedMaps(request.predictions, len(entries) == 1)
    if baseline is not None:
        training = functools.partial(_training, request, entries)
        return baseline.maps(
            BaselineRequest(entries, training, observers=request.observers, allow_seen=request.allow_seen)
        )
    if request.model.endswith(priors.SUFFIX):
        return priors.read_prior(pathlib.Path(request.model), request.allow_seen)
    return None


def _training(request: Request, entries: Sequence[VideoEntry]) -> Sequence[VideoEntry]:
    """Returns the training videos that match `entries`, the scored videos.

    With a list: the training videos of all sets in the list, except the videos in the list. For
    `domain:nature_test`, the videos of `domain:nature_train`.
    """
    unlisted = dataclasses.replace(request, list_file=None)
    if request.list_file is None or find_dataset(request.dataset).packaging.has_observers:
        return _entries(unlisted, "train", request.fold)
    domain = shipped_domain(str(request.list_file))
    if domain is not None:
        train = pathlib.Path(f"domain:{domain.partition('_')[0]}_train")
        return _entries(dataclasses.replace(request, list_file=train), "train", request.fold)
    scored = {(entry.dataset, entry.name): entry for entry in entries}
    training = [
        entry
        for name in dict.fromkeys(dataset for dataset, _ in scored)
        for entry in _entries(dataclasses.replace(unlisted, dataset=name), "train", request.fold)
        if (entry.dataset, entry.name) not in scored
    ]
    if not training:
        raise AvsalError(f"{request.list_file} excludes every training video, which the mean map needs")
    return training


def _model_maps(path: str, request: Request, entries: Sequence[VideoEntry]) -> ModelMaps:
    """Returns the source for a model; `entries` are all videos of the evaluation."""
    model = load_model(path, smoothing=request.smoothing, coding_iterations=request.coding_iterations)
    if request.audio != AUTO and model.spec.audio is None:
        raise AvsalError(f"{path} takes no audio: --audio {request.audio} has no effect; remove it")
    sound = SoundAssignment.of(request.audio, entries, request.seed)
    return ModelMaps(model, model_label(path), batch=request.batch, sound=sound)


def _folds(model: str | None) -> dict[int, str]:
    """Reads `1=DIR,2=DIR,3=DIR`; {} for anything else."""
    if model is None or "=" not in model or pathlib.Path(model).exists():
        return {}
    folds = {}
    for part in model.split(","):
        number, equals, path = part.partition("=")
        if not equals or not (number.isascii() and number.isdecimal()) or int(number) in folds:
            raise AvsalError(f"--model {model!r} is not of the form 1=DIR,2=DIR,3=DIR")
        folds[int(number)] = path
    return folds
