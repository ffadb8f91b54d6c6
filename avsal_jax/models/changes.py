"""Applies changes, given as nested data, to the description of a model.

- `{"fusion": {"name": "ravf", "heads": 4}}` chooses a part and sets its fields.
- `{"fusion": {"heads": 4}}` changes a field of the current part.
- `{"fusion": None}` removes the part.

Keys may be dotted: `{"fusion.heads": 4}`. A name alone chooses a part: `{"fusion": "ravf"}`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.models.network import SALIENCY
from avsal_jax.models.renamings import refuse_old_setting
from avsal_jax.models.slots import HEADS, SLOTS
from avsal_jax.spec.input import InputSpec

INPUT_FIELDS = tuple(field.name for field in dataclasses.fields(InputSpec))


def merged(model: Mapping, changes: Mapping) -> dict:
    """Applies `changes` to a model, or to earlier changes, and returns the result.

    A removed head is None in it.

    Raises:
      AvsalError: an unknown slot or input field, a field of an empty slot, or a setting of an earlier
        version (with its current name).
    """
    result = copied(model)
    for key, value in _nested(changes).items():
        if key == HEADS:
            result[key] = _merged_heads(result.get(key, {}), value)
        elif key in SLOTS or key == "audio":
            result[key] = _merged_part(result.get(key, {}), value, key)
        elif key in INPUT_FIELDS:
            groups = isinstance(value, Mapping) and isinstance(result.get(key, {}), Mapping)
            result[key] = _merged_fields(result.get(key, {}), value) if groups else value
        else:
            raise _unknown(key)
    return result


def dotted(changes: Mapping, path: str = "") -> dict[str, object]:
    """Returns {"fusion.heads": 8} for {"fusion": {"heads": 8}}; the key of a part's name is its slot."""
    flat = {}
    for key, value in changes.items():
        name = path if path and key == "name" else f"{path}.{key}" if path else key
        flat |= dotted(value, name) if isinstance(value, Mapping) else {name: value}
    return flat


def copied(model: Mapping) -> dict:
    """Returns a deep copy of a nested mapping, as dicts."""
    return {key: copied(value) if isinstance(value, Mapping) else value for key, value in model.items()}


def _unknown(key) -> AvsalError:
    settings = (*SLOTS, HEADS, *INPUT_FIELDS)
    slots, fields = ", ".join((*SLOTS, HEADS)), ", ".join(INPUT_FIELDS)
    return AvsalError(
        f"unknown setting {key!r}{did_you_mean(key, settings)}; settings are the slots {slots} (as slot or "
        f"slot.field) and {fields}"
    )


def _nested(changes: Mapping) -> dict:
    """Returns {"fusion": {"heads": 8}} for {"fusion.heads": 8}."""
    tree: dict = {}
    for key in changes:
        if not isinstance(key, str):
            raise _unknown(key)
    for key, value in sorted(changes.items(), key=lambda item: item[0].count(".")):
        if key.partition(".")[0] not in (*SLOTS, HEADS, "audio"):
            refuse_old_setting(key)
        *groups, last = key.split(".")
        place, path = tree, ""
        for group in groups:
            path += f".{group}" if path else group
            inner = _as_mapping(place.setdefault(group, {}))
            if inner is None and path == HEADS:
                inner = {SALIENCY: None}
            if inner is None:
                raise _empty(path, [key.removeprefix(f"{path}.")])
            place[group] = place = dict(inner)
        place[last] = copied(value) if isinstance(value, Mapping) else value
    return tree


def _as_mapping(value) -> Mapping | None:
    """Returns a part as a mapping; None if it is removed."""
    if value is None or value == "none":
        return None
    return value if isinstance(value, Mapping) else {"name": value}


def _merged_heads(heads: Mapping, changes) -> dict:
    if changes is None or changes == "none":
        return dict.fromkeys((*heads, SALIENCY))
    if not isinstance(changes, Mapping):
        raise AvsalError(f"heads are parts by name, as heads.{SALIENCY}.name; got {changes!r}")
    parts = {
        name: _merged_part(heads.get(name, {}), value, f"{HEADS}.{name}") for name, value in changes.items()
    }
    return {**heads, **parts}


def _merged_part(current: Mapping | None, value, path: str) -> dict | None:
    """Returns a part with changes: a name replaces the current part, fields alone change it."""
    value = _as_mapping(value)
    if value is None or "name" in value:
        return value if value is None else dict(value)
    if current is None and value:
        raise _empty(path, value)
    return _merged_fields(current, value) if current is not None else None


def _merged_fields(current: Mapping, changes: Mapping) -> dict:
    result = dict(current)
    for name, value in changes.items():
        groups = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = _merged_fields(result[name], value) if groups else value
    return result


def _empty(path: str, fields) -> AvsalError:
    if path == "audio":
        return AvsalError("this network takes no audio: set audio_encoder before the fields of its sound")
    return AvsalError(f"{path} is none and takes no field; got {', '.join(fields)}")
