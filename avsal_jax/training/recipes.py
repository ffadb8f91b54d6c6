"""Recipes of training runs: finds config files, reads their values, and applies rows of papers' tables.

A config file has a function `get_config`, which returns an `ml_collections.ConfigDict` of fields of
`schema.TrainConfig`. Files of the project also have a docstring and `ROWS` (name -> `Row`), and their
`get_config` takes variants. Config files are Python code: run only files that you trust.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import pathlib
import runpy
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

from avsal_jax import published, registry
from avsal_jax.bundled import shipped_folder
from avsal_jax.data.sets.dataset import SIX, group_names
from avsal_jax.errors import AvsalError, did_you_mean, failing_lines
from avsal_jax.models.part import settable_fields
from avsal_jax.models.slots import part_class
from avsal_jax.plugins import load_plugins
from avsal_jax.spec.fields import plain
from avsal_jax.synthetic.generated_set import NAME as SYNTHETIC
from avsal_jax.training.choices import completed, keys_of, put
from avsal_jax.training.earlier_configs import refuse_earlier_key, with_objective
from avsal_jax.training.schema import RUN_FIELDS, ModelConfig, TrainConfig, changed_model

_folder: contextvars.ContextVar[pathlib.Path | None] = contextvars.ContextVar("folder", default=None)


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant of a recipe.

    Attributes:
      changes: dotted path -> value; paths that begin with `model.` as in `models.changes`. A name, such as
        `optimizer.name` or `objective`, chooses a class, whose fields other keys may set.
      about: what is special about this variant, in addition to its figures; or that there is no figure.
      width: set for every part that has this field; None for no change.
      published: keys of the rows of papers with its figures, see `published.rows_of_key`.
    """

    changes: dict[str, object]
    about: str = ""
    width: float | None = None
    published: tuple[str, ...] = ()


_ON_SYNTHETIC = {
    "data.sources": ((SYNTHETIC, None),),
    "data.validation": "published",
    "data.stride": 0,
    "objective.sources": ((SYNTHETIC, None),),  # for objectives that have such fields
    "objective.root": "prepared_b",
    "objective.sets": ("prepared/synthetic-source",),
    "init": {},
    "epochs": 0,
    "model.norm_momentum": 0.99,  # from scratch
    "model.unbiased_variance": False,  # existing results use Flax's
    "evaluation.metric": "cc",
}
# For every recipe. `smoke` and `mini` keep the row's structure and clip length, and train on the output of
# `avsal prepare --dataset synthetic --size 64x96`.
COMMON: dict[str, Row] = {
    "public_start": Row({"model.start": "torch"}, "the initial values of the public code: torch's defaults"),
    "smoke": Row(
        _ON_SYNTHETIC
        | {
            "model.height": 64,
            "model.width": 96,
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
            "model.height": 64,
            "model.width": 96,
            "data.batch": 8,
            "optimizer.learning_rate": 1e-3,
            "optimizer.schedule": {"name": "cosine", "warmup_steps": 20},
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
      name: of the file, without folder and suffix.
      about: its docstring.
      rows: its variants, in addition to `COMMON`.
      get_config: variants, such as `table2_t16,smoke` -> ConfigDict.
    """

    name: str
    about: str
    rows: dict[str, Row]
    get_config: Callable[[str], typing.Any]


def defaults(**model) -> dict:
    """Returns the default fields of a `TrainConfig` as nested values.

    A recipe must set `data.sources`, and `steps` or `epochs`, which are both 0 here.

    Args:
      **model: values of fields of the model, of `RUN_FIELDS`.
    """
    values = plain(TrainConfig(epochs=1)) | {"epochs": 0}  # a TrainConfig needs a length
    return values | {"model": {name: values["model"][name] for name in RUN_FIELDS} | model}


def apply(config, variants: str, rows: Mapping[str, Row]):
    """Applies comma-separated variants to a ConfigDict: rows of the recipe first, those of `COMMON` last.

    Returns:
      `config`, changed.

    Raises:
      AvsalError: an unknown variant, or two that set a key to different values.
    """
    table = {**rows, **COMMON}
    names = list(filter(None, (name.strip() for name in variants.split(","))))
    for name in names:
        if name not in table:
            raise AvsalError(
                f"unknown variant {name!r}{did_you_mean(name, table)}; variants are {', '.join(table)}"
            )
    values = _complete(config.to_dict())
    for group in ([n for n in names if n not in COMMON], [n for n in names if n in COMMON]):
        _refuse_clashes(group, table)
        for name in group:
            changes = dict(table[name].changes)
            for model in (_of_model(changes), _widths(values, table[name].width)):
                values["model"] = changed_model(values["model"], model)
            for key in sorted(changes, key=choices_first):
                if name not in COMMON or _applies(key, values):
                    _set(values, key, changes[key])
    with config.ignore_type():
        for name in set(config) - set(values):  # fields of an earlier version
            del config[name]
        for name, value in values.items():
            config[name] = type(config)(value) if isinstance(value, Mapping) else value
    return config


def _complete(values: Mapping) -> dict:
    """Loads the plugins of a config, and returns its plain values with defaults for missing fields."""
    values = with_objective(values)
    load_plugins(values.get("plugins") or (), _folder.get())
    model = values.pop("model", {})
    before = defaults()
    return {
        **completed(TrainConfig, changes=values, before=before),
        "model": changed_model(before["model"], model),
    }


def _applies(key: str, values: Mapping) -> bool:
    """Whether a key of `COMMON` applies to the objective."""
    if key.startswith("objective."):
        return key in _keys(values)
    objective = registry.find("objective", values["objective"]["name"])
    return objective.on_videos or key not in ("data.sources", "evaluation.metric")


def _keys(values: Mapping) -> dict[str, object]:
    return dict(keys_of(TrainConfig, values))


def choices_first(key: str) -> tuple[bool, int]:
    """Returns a sort key: keys that choose a class first, outer before inner, then keys of their fields."""
    chooses = key.rpartition(".")[2] in ("name", "objective", "optimizer", "schedule")
    return not chooses, key.count(".") if chooses else 0


def _of_model(changes: dict[str, object]) -> dict[str, object]:
    """Removes the changes of the model from `changes`; returns them without `model.`."""
    names = [key for key in changes if key.startswith("model.")]
    return {key.removeprefix("model."): changes.pop(key) for key in names}


def _set(values: dict, key: str, value) -> None:
    """Sets a field by its dotted name; a mapping resets the other fields to their defaults."""
    keys = _keys(values)
    if key not in keys:
        refuse_earlier_key(key)
        group, _, last = key.rpartition(".")
        near = [name.removeprefix(f"{group}.") for name in keys if name.rpartition(".")[0] == group]
        raise AvsalError(f"unknown key {key!r} in a row{did_you_mean(last, near)}")
    put(TrainConfig, values, key=key, value=value)


def splits(prefix: str, sets: Sequence[str], every: int = 0, **changes) -> dict[str, Row]:
    """Returns rows `PREFIX1` to `PREFIX3`: the three folds of sets on which one network is trained.

    Args:
      prefix: of the names of rows.
      sets: names; a set without folds, such as DIEM, accepts any fold.
      every: steps between validations and checkpoints; 0 for no change.
      **changes: other changes of all rows.
    """
    if every:
        changes |= {"evaluation.every": every, "save_every": every}
    name = "the six sets" if tuple(sets) == SIX_SETS else ", ".join(sets)
    folds = {n: {"data.sources": tuple((dataset, n) for dataset in sets)} for n in (1, 2, 3)}
    return {f"{prefix}{n}": Row(fold | changes, f"a split of {name}") for n, fold in folds.items()}


def _widths(values: Mapping, width: float | None) -> dict[str, float]:
    """Returns {`SLOT.width`: width} for every part of the network that has this field."""
    if width is None:
        return {}
    preset = ModelConfig.from_values(values["model"], "model").preset()
    classes = {path: part_class(kind, part["name"]) for path, kind, part in preset.named_parts()}
    return {f"{path}.width": width for path, cls in classes.items() if "width" in settable_fields(cls)}


def recipe(name: str) -> Recipe:
    """Returns the recipe of a file, or of the shipped config of that name.

    A file has `get_config`, which takes variants or no arguments, and `ROWS` if it has variants.

    Raises:
      AvsalError: the config does not exist (with the nearest name), or the file is not a config.
    """
    path, configs = pathlib.Path(name), shipped()
    if path.name == name and not (path.suffix == ".py" and path.is_file()):
        path = configs.get(name.removesuffix(".py"), path)
    if path.suffix != ".py" and path.with_name(f"{path.name}.py").is_file():
        path = path.with_name(f"{path.name}.py")
    if path.suffix != ".py" or not path.is_file():
        problem = f"there is no config {name!r}{did_you_mean(path.stem, configs)}"
        if path.exists():
            problem = f"{name} is {'a folder' if path.is_dir() else 'not a .py file'}"
        raise AvsalError(f"{problem}; give a .py file or one of {', '.join(configs)}")
    with _config_errors(path):
        content = runpy.run_path(str(path))
    get_config = content.get("get_config")
    if not callable(get_config):
        raise AvsalError(
            f"{path} is not a config: it has no function get_config, which returns an "
            "ml_collections.ConfigDict with fields of the config, as steps and data.sources"
        )
    rows = content.get("ROWS", {})
    build = functools.partial(_build_config, path, get_config, rows)
    return Recipe(path.stem, about=content["__doc__"] or "", rows=rows, get_config=build)


def config(text: str):
    """Returns the complete ConfigDict of `FILE_OR_NAME[:variant,...]`.

    Raises:
      AvsalError: as `recipe` and `apply`; the file's `get_config` does not return a config.
    """
    name, variants = _parts(text)
    return recipe(name).get_config(variants)


def label(text: str) -> str:
    """Returns a short name of what `config` takes: a path is replaced by the name of its file."""
    name, variants = _parts(text)
    stem = pathlib.Path(name).name.removesuffix(".py")
    return f"{stem}:{variants}" if variants else stem


def _parts(text: str) -> tuple[str, str]:
    """Returns (name, variants) of `FILE_OR_NAME[:variant,...]`."""
    name, _, variants = text.partition(":")
    if (parts := text.rpartition(":"))[1] and pathlib.Path(parts[0]).is_file():  # a colon in the path
        name, _, variants = parts
    return name, variants


def _build_config(path: pathlib.Path, get_config: Callable, rows: Mapping[str, Row], variants: str = ""):
    """Returns the ConfigDict from a file's `get_config`, with defaults for missing fields.

    Variants are passed to a `get_config` that takes them, and otherwise applied to its result.
    """
    from ml_collections import ConfigDict

    with _config_errors(path):
        parameters = inspect.signature(get_config).parameters.values()
        positional = [
            parameter
            for parameter in parameters
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        required = any(parameter.default is parameter.empty for parameter in positional)
        values = get_config(variants) if positional and (variants or required) else get_config()
    if hasattr(values, "to_dict"):
        values = values.to_dict()
    if not isinstance(values, Mapping):
        raise AvsalError(f"{path} is not a config: get_config must return a ConfigDict; got {values!r}")
    with _config_errors(path):
        try:
            config = ConfigDict(_complete(values))
        except AvsalError as error:
            raise AvsalError(f"{path}: {error}") from error
        return config if positional else apply(config, variants, rows)


@contextlib.contextmanager
def _config_errors(path: pathlib.Path) -> Iterator[None]:
    """Converts errors of a config file's code to AvsalError; resolves plugins relative to the file."""
    before = _folder.set(path.parent)
    try:
        yield
    except AvsalError:
        raise
    except SyntaxError as error:
        raise AvsalError(f"{path} is not a config: line {error.lineno} is not Python: {error.msg}") from error
    except ImportError as error:
        raise AvsalError(f"{path} is not a config: an import fails: {error}") from error
    except (Exception, SystemExit) as error:
        lines = failing_lines(error, path)
        location = f"line {lines[-1]} fails with" if lines else "its code fails with"
        raise AvsalError(f"{path} is not a config: {location} {type(error).__name__}: {error}") from error
    finally:
        _folder.reset(before)


def shipped() -> dict[str, pathlib.Path]:
    """Returns the shipped config files, by name."""
    return {path.stem: path for path in sorted(shipped_folder("configs", "configs").glob("*.py"))}


def listing() -> str:
    """Returns a list of all shipped configs and rows, with the figures of the papers as printed."""
    groups = [(f"{r.name}: {r.about.splitlines()[0]}", r.rows) for r in map(recipe, shipped())]
    lines = []
    for title, rows in [*groups, ("after every config and row, as vinet_dhf1k:table2_t16,smoke:", COMMON)]:
        lines.append(title)
        for name, row in rows.items():
            first, *rest = _about(row)
            lines += [f"  {name:<22} {first}", *(f"{'':<24} {line}" for line in rest)]
    return "\n".join(lines)


def _about(row: Row) -> list[str]:
    """Returns a row's `about`, then a line for each published row, with its key for `avsal compare`."""
    figures = [
        f"{r.dataset} {r.split}: {r.figures} ({r.source}; published:{key})"
        for key in row.published
        for r in published.rows_of_key(key)
    ]
    return [row.about, *figures] if row.about else figures or [""]


def _refuse_clashes(names: Sequence[str], rows: Mapping[str, Row]) -> None:
    settings: dict[str, tuple[str, object]] = {}
    for name in names:
        for key, value in rows[name].changes.items():
            other, before = settings.setdefault(key, (name, value))
            if before != value:
                raise AvsalError(
                    f"the variants {other} and {name} set {key} to different values; use one of them"
                )


# Last: reading the registry loads plugins of the environment, which may import this module.
SIX_SETS = group_names(SIX)
