"""The config.json of runs that the first version began, as today's plain values."""

from __future__ import annotations

import json

from avsal_jax.errors import AvsalError
from avsal_jax.models.renamings import renamed_pattern, renamed_settings, renamed_slot
from avsal_jax.spec.parsing import parse_setting
from avsal_jax.training.schema import RUN_FIELDS, ModelConfig


def is_earlier(values: dict) -> bool:
    """Whether the plain values of a config are of the first version, where the model was a text."""
    return isinstance(values.get("model"), dict) and "set" in values["model"]


def todays_values(values: dict) -> dict:
    """Returns the plain values of a config of the first version as `schema.plain_values` gives them.

    The sources of `init` had no names, and are numbered.

    Raises:
      AvsalError: values that are of no version.
    """
    try:
        model = {name: value for name, value in values["model"].items() if name in RUN_FIELDS}
        changes = renamed_settings(_settings(values["model"]["set"]))
        groups = [
            {**group, "pattern": renamed_pattern(group["pattern"])} for group in values["optimizer"]["groups"]
        ]
        init = [{**source, "slot": renamed_slot(source["slot"])} for source in values["init"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AvsalError(f"it is of no version of avsal_jax: {type(error).__name__}: {error}") from error
    return values | {
        "model": ModelConfig.from_values({**model, **changes}, "model").to_values(),
        "optimizer": values["optimizer"] | {"groups": groups},
        "init": numbered(init),
    }


def numbered(sources) -> dict:
    """Returns the sources of `init` by number, for comparing them whatever their names and order."""
    return {str(number): source for number, source in enumerate(sorted(sources, key=json.dumps))}


def _settings(text: str) -> dict:
    """Returns {"frames": 16, "decoder.hierarchy": 2} of `frames=16,decoder.hierarchy=2`."""
    pairs = (pair.strip().partition("=") for pair in text.split(",") if pair.strip())
    return {key: parse_setting(value) for key, _, value in pairs}
