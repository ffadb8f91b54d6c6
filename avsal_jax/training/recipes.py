"""Recipes of training runs: a config file's values, the rows of the papers' tables, and where the files lie.

A config file has a docstring, `ROWS` (name -> `Row`) and `get_config(variants)`, which gives an
`ml_collections.ConfigDict` of the fields of `schema.TrainConfig`. It is Python: run only what you trust.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import runpy
import typing
from collections.abc import Callable, Mapping, Sequence

import avsal_jax
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.models.registry import part_class
from avsal_jax.models.systems import resolve
from avsal_jax.training.domain_adversarial import AdaptConfig, AdaptedFeature
from avsal_jax.training.schedules import ScheduleConfig
from avsal_jax.training.schema import TrainConfig, overrides_of

_OVERRIDE = re.compile(r"--config\.([a-z0-9_]+(?:\.[a-z0-9_]+)*)=(.*)", re.DOTALL)
SIX_SETS = ("diem", "coutrot1", "coutrot2", "avad", "etmd", "summe")


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant of a recipe.

    Attributes:
      changes: dotted path -> value; `model.set` is added to what is there, the rest replaces it.
      paper: what the paper prints for it, or that it prints nothing.
      width: set for every part that has this field; None leaves all as they are.
    """

    changes: dict[str, object]
    paper: str
    width: float | None = None


_ON_SYNTHETIC = {
    "data.sources": (("synthetic", None),),
    "data.validation": "published",
    "data.stride": 0,
    "adapt.sources": (("synthetic", None),),  # what is set in `adapt` is for recipes that adapt
    "adapt.root": "prepared_b",
    "init": (),
    "epochs": 0,
    "model.norm_momentum": 0.99,  # from scratch
    "evaluation.metric": "cc",
}
# For every recipe: the row's structure and clip length, on `avsal prepare --dataset synthetic --size 64x96`.
COMMON: dict[str, Row] = {
    "smoke": Row(
        _ON_SYNTHETIC
        | {
            "model.set": "height=64,width=96",
            "data.batch": 2,
            "optimizer.schedule.warmup_steps": 0,
            "steps": 4,
            "evaluation.every": 4,
            "evaluation.pictures": 1,
            "save_every": 2,
            "log_every": 1,
        },
        "4 steps at a sixteenth of the width on the synthetic set: does it run at all",
        width=1 / 16,
    ),
    "mini": Row(
        _ON_SYNTHETIC
        | {
            "model.set": "height=64,width=96",
            "data.batch": 8,
            "optimizer.learning_rate": 1e-3,
            "optimizer.schedule": dataclasses.asdict(ScheduleConfig("cosine", warmup_steps=20)),
            "steps": 400,
            "evaluation.every": 100,
            "save_every": 100,
            "log_every": 20,
        },
        "400 steps from scratch at a quarter of the width on the synthetic set `experiment`",
        width=1 / 4,
    ),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A config file.

    Attributes:
      name: without folder and suffix.
      about: its docstring.
      rows: its own variants, beside `COMMON`.
      get_config: variants, as `table2_t16,smoke` -> ConfigDict.
    """

    name: str
    about: str
    rows: dict[str, Row]
    get_config: Callable[[str], typing.Any]


def defaults() -> dict:
    """Returns the fields of a `TrainConfig` as nested values; a recipe names `data.sources` at least."""
    return dataclasses.asdict(TrainConfig(epochs=1))


def apply(config, variants: str, rows: Mapping[str, Row]):
    """Applies variants, joined by commas, to a ConfigDict: a recipe's rows first, those of `COMMON` last.

    Returns:
      `config`, changed.

    Raises:
      AvsalError: an unknown variant, or two that set the same differently.
    """
    known = {**rows, **COMMON}
    names = list(filter(None, (name.strip() for name in variants.split(","))))
    for name in names:
        if name not in known:
            raise AvsalError(
                f"unknown variant {name!r}{did_you_mean(name, known)}; variants are {', '.join(known)}"
            )
    for group in ([n for n in names if n not in COMMON], [n for n in names if n in COMMON]):
        _refuse_clashes(group, known)
        for name in group:
            changes = dict(known[name].changes)
            if config.adapt is None:
                changes = {key: value for key, value in changes.items() if not key.startswith("adapt.")}
            for settings in (changes.pop("model.set", ""), _widths(config, known[name].width)):
                config.model.set = joined_settings(config.model.set, settings)
            config.update_from_flattened_dict(changes)
    return config


def adaptation(sources: tuple, *features: str, **others) -> dict:
    """Returns what a row sets `adapt` to: a target domain, features with unit weights, and other fields."""
    chosen = tuple(map(AdaptedFeature, features))
    return dataclasses.asdict(AdaptConfig(sources=sources, features=chosen, **others))


def splits(prefix: str, sets: Sequence[str], every: int = 0, **changes) -> dict[str, Row]:
    """Returns rows `PREFIX1` to `PREFIX3`: the three folds of sets, which one network is trained on.

    Args:
      prefix: of the rows' names.
      sets: names; one without folds, as DIEM, takes any number.
      every: steps between validations and checkpoints, where these change too.
      **changes: what else does.
    """
    if every:
        changes |= {"evaluation.every": every, "save_every": every}
    name = "the six sets" if tuple(sets) == SIX_SETS else ", ".join(sets)
    folds = {n: {"data.sources": tuple((one, n) for one in sets)} for n in (1, 2, 3)}
    return {f"{prefix}{n}": Row(fold | changes, f"a split of {name}") for n, fold in folds.items()}


def _widths(config, width: float | None) -> str:
    """Returns `SLOT.width=WIDTH` for every part of the network that has this field."""
    if width is None:
        return ""
    preset = resolve(config.model.system, overrides_of(config.model.set))
    parts = {slot: part_class(slot, part["name"]) for slot, part in preset.slots.items()}
    return ",".join(f"{slot}.width={width}" for slot, part in parts.items() if hasattr(part, "width"))


def joined_settings(first: str, then: str) -> str:
    """Returns two texts like `model.set` as one, without what `then` sets anew, or replaces the slot of."""
    new = overrides_of(then)
    pairs = [pair.strip() for pair in first.split(",") if pair.strip()]
    kept = [pair for pair in pairs if not {key := pair.partition("=")[0], key.partition(".")[0]} & set(new)]
    return ",".join(kept + [pair.strip() for pair in then.split(",") if pair.strip()])


def recipe(name: str) -> Recipe:
    """Returns the recipe of a file, or of the shipped one of that name.

    Raises:
      AvsalError: there is none (with the nearest name), or the file is no config.
    """
    path, known = pathlib.Path(name), shipped()
    if path.name == name and not (path.suffix == ".py" and path.is_file()):
        path = known.get(name.removesuffix(".py"), path)
    if path.suffix != ".py" or not path.is_file():
        raise AvsalError(
            f"there is no config {name!r}{did_you_mean(path.stem, known)}; give a .py file or one of "
            f"{', '.join(known)}"
        )
    with _running(path):
        found = runpy.run_path(str(path))
        return Recipe(path.stem, found["__doc__"] or "", found["ROWS"], found["get_config"])


def config(text: str):
    """Returns the ConfigDict of `FILE_OR_NAME[:variant,...]`; AvsalError as `recipe` and `apply`."""
    name, _, variants = text.partition(":")
    found = recipe(name)
    with _running(name):
        made = found.get_config(variants)
    if not hasattr(made, "update_from_flattened_dict"):
        raise AvsalError(f"{name} is no config: get_config must return a ConfigDict; got {made!r}")
    return made


@contextlib.contextmanager
def _running(path):
    """Turns whatever a config file's code raises into one line."""
    try:
        yield
    except AvsalError:
        raise
    except Exception as error:
        raise AvsalError(f"{path} is no config: {type(error).__name__}: {error}") from error


def shipped() -> dict[str, pathlib.Path]:
    """Returns the config files that come with the project, by name."""
    package = pathlib.Path(avsal_jax.__file__).parent
    folder = package / "configs"  # in a wheel
    folder = folder if folder.is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def listing() -> str:
    """Returns every shipped config with its rows and what the papers print for them."""
    groups = [(f"{r.name}: {r.about.splitlines()[0]}", r.rows) for r in map(recipe, shipped())]
    lines = []
    for title, rows in [*groups, ("after every config and row, as vinet_dhf1k:table2_t16,smoke:", COMMON)]:
        lines += [title, *(f"  {name:<19} {row.paper}" for name, row in rows.items())]
    return "\n".join(lines)


def overrides(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (key, value as text) of arguments like `--config.data.batch=4`; AvsalError for others."""
    pairs = []
    for argument in arguments:
        matched = _OVERRIDE.fullmatch(argument)
        if matched is None:
            raise AvsalError(
                f"{argument!r} is no flag of avsal train; values of the config are set by "
                "--config.KEY=VALUE, as --config.data.batch=4"
            )
        pairs.append((matched[1], matched[2]))
    return pairs


def settable(config, keys: Sequence[str], placeholder: Callable[[type], object]) -> dict[str, str]:
    """Makes `keys` of a ConfigDict settable, also where the value is None now.

    Args:
      config: changed: None becomes `placeholder(kind)` for a number, and the group with its defaults where a
        key names one of its fields, as `early_stop.patience`.
      keys: dotted paths.

    Returns:
      Key -> the name of its type.

    Raises:
      AvsalError: a key that is not in the config (with the nearest one), or is a group.
    """
    kinds = {key: type(value).__name__ for key, value in _flat(config.to_dict())}
    for path, kind in _optional(TrainConfig):
        if kinds[path] == "NoneType" and any(f"{key}.".startswith(f"{path}.") for key in keys):
            group = dataclasses.is_dataclass(kind)
            config.update_from_flattened_dict(
                {path: dataclasses.asdict(kind()) if group else placeholder(kind)}
            )
            kinds[path] = kind.__name__
    known = dict(_flat(config.to_dict()))
    for key in keys:
        if key not in known:
            raise AvsalError(f"unknown key {key!r} in the config{did_you_mean(key, known)}")
        if isinstance(known[key], dict):
            raise AvsalError(f"{key} is a group of the config; set a field: {', '.join(known[key])}")
    return {key: kinds.get(key) or type(known[key]).__name__ for key in keys}


def _refuse_clashes(names: Sequence[str], known: Mapping[str, Row]) -> None:
    taken: dict[str, tuple[str, object]] = {}
    for name in names:
        changes = dict(known[name].changes)
        changes |= overrides_of(str(changes.pop("model.set", "")))
        for key, value in changes.items():
            other, before = taken.setdefault(key, (name, value))
            if before != value:
                raise AvsalError(f"the variants {other} and {name} set {key} differently; take one of them")


def _optional(kind: type, path: str = ""):
    """Yields (dotted path, type) of the fields that may be None."""
    for name, hint in typing.get_type_hints(kind).items():
        inner = [t for t in typing.get_args(hint) if t is not type(None)]
        if type(None) in typing.get_args(hint):
            yield path + name, inner[0]
        elif dataclasses.is_dataclass(hint):
            yield from _optional(hint, f"{path}{name}.")


def _flat(values: Mapping, path: str = ""):
    for name, value in values.items():
        yield path + name, value
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
