"""Converts configs of earlier versions to current plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping

from avsal_jax import registry
from avsal_jax.errors import AvsalError
from avsal_jax.models.renamings import renamed_pattern, renamed_settings, renamed_slot
from avsal_jax.spec.fields import field_types
from avsal_jax.spec.parsing import parse_setting
from avsal_jax.training.objectives import domain_adversarial
from avsal_jax.training.schema import RUN_FIELDS, ModelConfig


def is_earlier(values: dict) -> bool:
    """Whether the plain values of a config are of the first version, which stored the model as text."""
    return isinstance(values.get("model"), dict) and "set" in values["model"]


def todays_values(values: dict) -> dict:
    """Converts the plain values of a config of the first version to those of `schema.plain_values`.

    The sources of `init` had no names; their names are numbers.

    Raises:
      AvsalError: the values do not match any version.
    """
    try:
        model = {name: value for name, value in values["model"].items() if name in RUN_FIELDS}
        changes = renamed_settings(_settings(values["model"]["set"]))
        groups = [
            {**group, "pattern": renamed_pattern(group["pattern"])} for group in values["optimizer"]["groups"]
        ]
        init = [{**source, "slot": renamed_slot(source["slot"])} for source in values["init"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AvsalError(
            f"it does not match any version of avsal_jax: {type(error).__name__}: {error}"
        ) from error
    return values | {
        "model": ModelConfig.from_values({**model, **changes}, "model").to_values(),
        "optimizer": values["optimizer"] | {"groups": groups},
        "init": numbered(init),
    }


def numbered(sources) -> dict:
    """Returns the sources of `init` by number, to compare them regardless of names and order."""
    return {str(number): source for number, source in enumerate(sorted(sources, key=json.dumps))}


def _settings(text: str) -> dict:
    """Returns {"frames": 16, "decoder.hierarchy": 2} of `frames=16,decoder.hierarchy=2`."""
    pairs = (pair.strip().partition("=") for pair in text.split(",") if pair.strip())
    return {key: parse_setting(value) for key, _, value in pairs}


_ADAPTATION = "adapt"  # the former group of the config


def with_objective(values: Mapping) -> dict:
    """Replaces the former group `adapt` of plain values by an `objective`."""
    values = dict(values)
    adapted = values.pop(_ADAPTATION, None)
    if adapted is not None:
        values["objective"] = {"name": domain_adversarial.NAME, **adapted}
    return values


def refuse_earlier_key(key: str) -> None:
    """Raises AvsalError, with the current key, for a key of an earlier version."""
    group, _, field = key.partition(".")
    if group == _ADAPTATION:
        words = f" and objective.{field}" if field else ""
        raise AvsalError(
            f"{key!r} is now a field of the objective: set objective={domain_adversarial.NAME}{words}, or "
            "objective=supervised to train without a target domain"
        )


def with_chosen_fields(values: Mapping) -> dict:
    """Returns plain values without fields that the chosen optimizer and schedule do not have.

    Earlier versions stored the fields of all optimizers and schedules, with their defaults.
    """
    values = dict(values)
    if isinstance(optimizer := values.get("optimizer"), Mapping):
        optimizer = dict(optimizer)
        if isinstance(schedule := optimizer.get("schedule"), Mapping):
            optimizer["schedule"] = _chosen_fields("schedule", schedule)
        values["optimizer"] = _chosen_fields("optimizer", optimizer)
    return values


def _chosen_fields(kind: str, values: Mapping) -> dict:
    classes = registry.table(kind)
    cls = classes.get(values.get("name"))
    if cls is None:
        return dict(values)
    foreign = {field for row in classes.values() for field in field_types(row)} - {*field_types(cls)}
    return {field: value for field, value in values.items() if field not in foreign}
