"""What models, their variables and their settings were called in earlier versions, and are called now."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from flax import traverse_util

from avsal_jax.errors import AvsalError
from avsal_jax.spec.input import SIGNED, Pixels

# Paths of variables: before -> now, inside a collection. Regulator gates lay in the scope of the fusion.
_PATHS = (
    (re.compile(r"decoder/"), "heads/saliency/"),
    (re.compile(r"fusion/(gate\d)/"), r"regulator/\1/"),
)
_BEFORE = (
    (re.compile(r"heads/saliency/"), "decoder/"),
    (re.compile(r"regulator/(gate\d)/"), r"fusion/\1/"),
)
# Settings: before -> now. A field of a renamed part keeps its name.
_CODING = ("iterations", "rate", "update", "order", "refresh", "reduction", "stop_gradient")
SETTINGS = {
    "decoder": "heads.saliency",
    "fusion.gates": "regulator.gates",
    "fusion.gate_order": "regulator.order",
    "fusion.decoder_inputs": "regulator.returns",
    **{f"fusion.{name}": f"fusion.coding.{name}" for name in _CODING},
    "fusion.coding_layers": "fusion.coding.layers",
    "fusion.coding_target": "fusion.coding.target",
    "pixel_norm": "pixels",
    "audio.kind": "audio.name",
    "audio.sample_rate": "audio.rate",
    "audio.pad_rule": "audio.pad",
}
_PIXEL_NORMS = {"imagenet": Pixels(), "signed": SIGNED}
# Fields of the sound that were there, and said nothing, for the other kind.
_NO_FIELDS = {"logmel": ("samples", "rate", "window"), "waveform": ("patches", "hop", "pad")}


def renamed_path(path: str) -> str:
    """Returns today's path of a leaf, as `params/heads/saliency/conv1/kernel`, of one of any version."""
    collection, _, rest = path.partition("/")
    return f"{collection}/{_replaced(rest, _PATHS)}"


def earlier_path(path: str) -> str:
    """Returns the path that a leaf of today's had in the first version."""
    collection, _, rest = path.partition("/")
    return f"{collection}/{_replaced(rest, _BEFORE)}"


def renamed_slot(slot: str) -> str:
    """Returns today's path of a slot of any version."""
    return _replaced(f"{slot}/", _PATHS).removesuffix("/")


def renamed_pattern(pattern: str) -> str:
    """Returns a pattern of paths in a slot, as `decoder/.*`, with today's name of the slot."""
    return _replaced(pattern, _PATHS)


def todays_layout(tree: dict) -> dict:
    """Returns a tree of variables by slot of the first version with today's names."""
    return _relaid(tree, _PATHS)


def earlier_layout(tree: dict) -> dict:
    """Returns a tree of variables by slot with the names of the first version."""
    return _relaid(tree, _BEFORE)


def _relaid(tree: dict, table) -> dict:
    flat = traverse_util.flatten_dict(tree, keep_empty_nodes=True, sep="/")
    renamed = {_replaced(f"{path}/", table).removesuffix("/"): leaf for path, leaf in flat.items()}
    return traverse_util.unflatten_dict(renamed, sep="/")


def _replaced(path: str, table) -> str:
    for pattern, replacement in table:
        if pattern.match(path):
            return pattern.sub(replacement, path, count=1)
    return path


def renamed_setting(key: str) -> str:
    """Returns today's name of a setting of any version."""
    for before, now in SETTINGS.items():
        if key == before or key.startswith(f"{before}."):
            return now + key[len(before) :]
    return key


def refuse_old_setting(key: str) -> None:
    """Raises AvsalError for a setting of an earlier version, with today's name."""
    if (today := renamed_setting(key)) != key:
        raise AvsalError(f"{key!r} is now {today!r}")


def renamed_settings(settings: Mapping[str, object]) -> dict[str, object]:
    """Returns changes to a model (see `models.systems`) of the settings of the first version.

    Those were flat: a part by its name, as {"fusion": "ravf"}, then its fields, as {"fusion.gates": 3}. Gates
    belonged to the fusion: another one dropped them.
    """
    changes = {renamed_setting(key): _renamed_value(key, value) for key, value in settings.items()}
    gates = changes.pop("regulator.gates", None)
    if gates or (gates is None and any(key.startswith("regulator.") for key in changes)):
        changes |= {"regulator": "gates"} | ({"regulator.gates": gates} if gates else {})
    elif gates == 0 or "fusion" in settings:
        changes = {key: value for key, value in changes.items() if not key.startswith("regulator.")}
        changes["regulator"] = None
    coding = changes.pop("fusion.coding", True)
    if not coding:
        changes = {key: value for key, value in changes.items() if not key.startswith("fusion.coding.")}
        changes["fusion.coding"] = None
    return changes


def _renamed_value(key: str, value):
    """Stages were digits, and dilation rates a text."""
    if key == "fusion.stages" and isinstance(value, int | str):
        return tuple(sorted(int(digit) for digit in str(value)))
    if key == "pixel_norm" and value not in _PIXEL_NORMS:
        raise AvsalError(f"pixel_norm {value!r} is not one of {', '.join(_PIXEL_NORMS)}")
    if key == "pixel_norm":
        return dataclasses.asdict(_PIXEL_NORMS[value])
    if key == "neck.rates" and isinstance(value, int | str):
        return tuple(int(rate) for rate in str(value).split("-"))
    return value


def model_of_format1(card: Mapping) -> dict[str, object]:
    """Returns the model of a `model.json` of format 1, as changes to nothing.

    Raises:
      KeyError, TypeError, AttributeError, ValueError: a mapping of another form.
    """
    settings = {slot: part["name"] for slot, part in card["slots"].items()}
    for slot, part in card["slots"].items():
        settings |= {f"{slot}.{field}": value for field, value in part["fields"].items()}
    spec = dict(card["input"])
    if spec["audio"] is not None:
        settings |= {f"audio.{field}": value for field, value in spec["audio"].items()}
        del spec["audio"]
    changes = renamed_settings({**spec, **settings})
    unused = _NO_FIELDS.get(changes.get("audio.name"), ())
    return {key: value for key, value in changes.items() if key not in {f"audio.{name}" for name in unused}}
