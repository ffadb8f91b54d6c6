"""Model directories: `model.json` and `weights.safetensors`; reading them never executes code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re

import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from avsal_jax import registry
from avsal_jax.bundled import RETIRED, bundled_models, model_directory
from avsal_jax.errors import AvsalError, damage_reason
from avsal_jax.files import complete_folder
from avsal_jax.models.changes import merged
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import Network, abstract_variables
from avsal_jax.models.renamings import model_of_format1, renamed_path
from avsal_jax.models.systems import Preset, build, preset_of

FORMAT = "avsal_jax model 2"
EARLIER_FORMATS = ("avsal_jax model 1",)
CARD, WEIGHTS = "model.json", "weights.safetensors"
EXPORT_FOLDER = "model"  # of a training run, in its workdir
_MAX_CARD_BYTES = 1_000_000
WRONG_VALUES = (
    "a damaged file, or a run that diverged, has such values; take another checkpoint, or save it as float32 "
    "where its type alone is wrong"
)


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """The content of a model directory: the network, its variables, and `model.json` as a dict."""

    preset: Preset
    network: Network
    variables: dict
    card: dict


def write_model(
    path, preset: Preset, variables: dict, provenance: dict | None = None, replace: bool = False
) -> pathlib.Path:
    """Writes a model directory atomically.

    Args:
      path: the directory to create; must be absent or empty, unless `replace`.
      preset: the configuration of the network.
      variables: `params` and `batch_stats`.
      provenance: the origin of the weights; JSON values.
      replace: whether to replace an existing directory; no other process may write to it.

    Raises:
      AvsalError: the directory is not empty, or cannot be written.
    """
    path = pathlib.Path(path)
    if not replace and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise AvsalError(f"{path} exists already; remove it or choose another output")
    flat = {name: np.asarray(value) for name, value in flatten(variables).items()}
    blob = safetensors.numpy.save(flat)
    card = {
        "format": FORMAT,
        "kind": preset.kind,
        "model": preset.to_dict(),
        **({"plugins": plugins} if (plugins := _plugins_of(preset)) else {}),
        "provenance": provenance or {},
        "weights": {
            "file": WEIGHTS,
            "bytes": len(blob),
            "sha256": hashlib.sha256(blob).hexdigest(),
            "parameters": sum(v.size for k, v in flat.items() if k.startswith("params/")),
        },
    }
    try:
        text = json.dumps(card, indent=2) + "\n"
    except TypeError as error:  # a part, or a front end, that is given as a class
        raise AvsalError(f"cannot write {path}: its parts need names, and one is a class: {error}") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with complete_folder(path, replace) as partial:
            (partial / WEIGHTS).write_bytes(blob)
            (partial / CARD).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AvsalError(f"cannot write {path}: {error.strerror}") from error
    return path


def read_model(path, runtime: Runtime | None = None) -> StoredModel:
    """Reads and checks a model directory.

    Args:
      path: the directory, or the name of a bundled model if there is no such directory.
      runtime: how the network is run.

    Raises:
      AvsalError: it is missing or damaged (with the file), its weights do not fit its network (with the
        tensors that differ), or a weight has an invalid value (with the tensor).
    """
    path = model_directory(path)
    card = _read_card(path)
    try:
        _check_plugins(card, path)
        with registry.without_installed_plugins():
            preset = _preset(card)
            network = build(preset, runtime)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else damage_reason(error)
        raise AvsalError(f"{path / CARD} does not describe a model of this version: {reason}") from error
    flat = _read_weights(path, card)
    try:
        expected = flatten(abstract_variables(network))
    except Exception as error:  # of flax or jax, where a damaged card names parts that do not fit together
        reason = damage_reason(error)
        raise AvsalError(f"{path / CARD} describes parts that make no network: {reason}") from error
    problems = differences({k: v.shape for k, v in flat.items()}, {k: v.shape for k, v in expected.items()})
    if problems:
        raise AvsalError(f"the weights in {path} do not fit its network: {'; '.join(problems)}")
    for name, value in flat.items():
        if fault := value_fault(value, name):
            raise AvsalError(f"{path / WEIGHTS}: {name} {fault}: {WRONG_VALUES}")
    variables = traverse_util.unflatten_dict({k: v.astype(np.float32) for k, v in flat.items()}, sep="/")
    return StoredModel(preset, network=network, variables=variables, card=card)


def model_label(path) -> str:
    """Returns the name of a model in tables: that of its folder, or of the run for `runs/NAME/model`."""
    folder = pathlib.Path(os.path.abspath(path))  # which keeps the names of links
    if folder.name == EXPORT_FOLDER:
        return folder.parent.name or folder.name
    return folder.name


def flatten(variables: dict) -> dict:
    """Returns `variables` as {'params/visual_encoder/...': leaf}."""
    return traverse_util.flatten_dict(variables, sep="/")


def value_fault(values: np.ndarray, name: str) -> str | None:
    """Returns a description of what is wrong with the values of a leaf, or None.

    Args:
      values: as stored, of any type of number.
      name: of our leaf; running variances end in `/var`.
    """
    if values.dtype.kind != "f" and "float" not in values.dtype.name:  # bfloat16 is of kind V
        return f"is of type {values.dtype.name}, where floating point is expected"
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32, copy=False)
    wrong = ~np.isfinite(single)
    if wrong.any():
        large = wrong & np.isfinite(values.astype(np.float64, copy=False))
        fault = "beyond float32" if large.any() else "not finite (NaN or infinite)"
        return f"has {int(wrong.sum()):,} of {values.size:,} values that are {fault}"
    if name.endswith("/var") and (single < 0).any():
        return f"has {int((single < 0).sum()):,} of {values.size:,} values below 0, and is a variance"
    return None


def differences(actual: dict, expected: dict, limit: int = 4) -> list[str]:
    """Describes the differences of two {name: shape}; at most `limit` names for each kind of difference."""
    rows = {
        "missing": sorted(set(expected) - set(actual)),
        "not known": sorted(set(actual) - set(expected)),
        "of another shape": [
            f"{k} is {tuple(actual[k])}, not {tuple(expected[k])}"
            for k in sorted(set(actual) & set(expected))
            if tuple(actual[k]) != tuple(expected[k])
        ],
    }
    return [
        f"{len(names)} {problem}: {', '.join(names[:limit])}{' ...' if len(names) > limit else ''}"
        for problem, names in rows.items()
        if names
    ]


def _read_card(path: pathlib.Path) -> dict:
    if path.is_file():
        raise AvsalError(
            f"{path} is a file, and a model is a directory; turn a checkpoint into one first: "
            f"avsal convert --system NAME --input {path} --output DIR"
        )
    if not path.is_dir():
        bundled = f"there is no model directory {path}; the bundled ones are {', '.join(bundled_models())}"
        raise AvsalError(RETIRED.get(str(path), bundled))
    card_path = path / CARD
    if not card_path.is_file():
        raise AvsalError(f"{path} is not a model directory: it has no {CARD}")
    if card_path.stat().st_size > _MAX_CARD_BYTES:
        raise AvsalError(f"{card_path} is too large to be a model card")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AvsalError(f"{card_path} is damaged: {error}") from error
    if not isinstance(card, dict) or card.get("format") not in (FORMAT, *EARLIER_FORMATS):
        version = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise AvsalError(f"{card_path} {_about_format(version)}")
    groups = ("model",) if card["format"] == FORMAT else ("slots", "input")
    for field in ("provenance", "weights", *groups):
        if not isinstance(card.get(field), dict):
            raise AvsalError(f"{card_path} does not describe a model: {field!r} is not an object")
    return card


def _registered_names(preset: Preset) -> list[tuple[str, str]]:
    """Returns (kind, name) of all that a model is made of."""
    names = [(kind, part["name"]) for _, kind, part in preset.named_parts() if "name" in part]
    if preset.input.audio is not None:
        names.append(("front_end", registry.name_of("front_end", type(preset.input.audio))))
    return [(kind, name) for kind, name in names if isinstance(name, str)]


def _plugins_of(preset: Preset) -> list[dict]:
    """Returns name and version of the plugins that a model needs, and what each registers for it."""
    plugins: dict[str, dict] = {}
    for kind, name in _registered_names(preset):
        origin = registry.origin_of(kind, name)
        if origin is not None and origin != registry.PACKAGE:
            row = {"name": origin.name, "version": origin.version, "registers": []}
            plugins.setdefault(origin.name, row)["registers"].append(f"{kind} {name}")
    return list(plugins.values())


def _check_plugins(card: dict, path: pathlib.Path) -> None:
    """Raises AvsalError if a plugin is missing that a model needs; only the user may load plugins."""
    rows = card.get("plugins", [])
    for row in rows if isinstance(rows, list) else []:
        plugin = row if isinstance(row, dict) else {}
        registers = plugin.get("registers") if isinstance(plugin.get("registers"), list) else []
        parts = [str(text).partition(" ")[::2] for text in registers]
        missing = [f"{kind} {name!r}" for kind, name in parts if not registry.is_registered(kind, name)]
        if missing:
            name = str(plugin.get("name"))
            name = name if re.fullmatch(r"[\w.-]{1,100}", name) else "FILE"
            raise AvsalError(
                f"{path} needs the plugin {name} {plugin.get('version') or ''}".rstrip()
                + f", which registers {', '.join(missing)}: if you trust its code, name its file or module "
                "with --plugin, or in Python with load_model(path, plugins=[...])"
            )


def _about_format(version) -> str:
    number = re.fullmatch(r"avsal_jax model (\d{1,6})", str(version))
    readable = ", ".join(map(repr, (*EARLIER_FORMATS, FORMAT)))
    if number and int(number[1]) > int(FORMAT.rsplit(maxsplit=1)[-1]):
        return (
            f"has format {version!r}, of a newer avsal_jax; this version reads {readable}: update avsal_jax"
        )
    return f"has format {version!r}; this version reads {readable}"


def _preset(card: dict) -> Preset:
    """Returns the model that a card of any format describes."""
    if card["format"] == FORMAT:
        return preset_of(card["model"], str(card["kind"]))
    model = {"system": card["system"], **merged({}, model_of_format1(card))}
    return preset_of(model, str(card["kind"]))


def _read_weights(path: pathlib.Path, card: dict) -> dict[str, np.ndarray]:
    weights = path / WEIGHTS
    if not weights.is_file():
        raise AvsalError(f"{path} has no {WEIGHTS}")
    blob = weights.read_bytes()
    recorded = card.get("weights")
    digest = recorded.get("sha256") if isinstance(recorded, dict) else None
    if hashlib.sha256(blob).hexdigest() != digest:
        raise AvsalError(
            f"{weights} is damaged: its sha256 is not the one in {CARD}; fetch or convert it again"
        )
    try:
        flat = safetensors.numpy.load(blob)
        return {renamed_path(name): value for name, value in flat.items()}
    except KeyError as error:
        raise AvsalError(f"{weights} has tensors of type {error}; a model directory holds float32") from error
    except (safetensors.SafetensorError, ValueError) as error:
        raise AvsalError(f"{weights} is not a safetensors file: {error}") from error
