"""The base of all modules that fill a slot."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn

from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import checked, field_types

_NOT_SET = ("parent", "name", "runtime")  # fields that say nothing about the function


class Limit(NamedTuple):
    """A value of a part that should not exceed a bound; `advice` is for a value above it, or empty."""

    value: float
    bound: float
    advice: str


class Part(nn.Module):
    """A module that fills a slot of the network.

    Its fields have types that say which values they take (`spec.fields`). They are checked when it is made.

    A head whose class has `sees_medium` is called with `medium=` of the clips (`Clip.medium`) in addition.
    Its parameters must be the same for each medium, since initialisation is for `video`.

    Raises:
      AvsalError: a value that a field does not take.
    """

    sees_medium: ClassVar[bool] = False

    def __post_init__(self):
        hints, name = self.field_types(), type(self).__name__
        checked({field: getattr(self, field) for field in hints}, hints=hints, owner=name, path=f"{name}.")
        super().__post_init__()

    @property
    def frozen_parameters(self) -> tuple[str, ...]:
        """Patterns of the paths, below the part, of parameters that training leaves unchanged."""
        return ()

    def limits(self, params: dict) -> dict[str, Limit]:
        """Returns what training records of the part's parameters, and warns of, by name."""
        return {}

    def idle_fields(self) -> dict[str, str]:
        """Returns the fields that change nothing with certain values of other fields, and these values.

        Such a field must keep its default in a network that is described by its settings
        (`systems.resolve`); a stored model may have another value.
        """
        return {}

    @property
    def stem_is_frozen(self) -> bool:
        """Of a visual encoder: whether its stem is the same function in each step of training."""
        return False

    @classmethod
    def field_types(cls) -> dict[str, object]:
        """Returns the types of the fields that can be set by name."""
        return settable_fields(cls)


def refuse_idle_fields(part: Part, path: str) -> None:
    """Raises AvsalError for a field that changes nothing, and is not at its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(part)}
    for name, values in part.idle_fields().items():
        if (value := getattr(part, name)) != defaults[name]:
            raise AvsalError(
                f"{path}.{name}={value} changes nothing with {values}; leave it at {defaults[name]}"
            )


def settable_fields(cls: type[nn.Module]) -> dict[str, object]:
    """Returns the types of the fields of a module that say which function it is."""
    return {name: hint for name, hint in field_types(cls).items() if name not in _NOT_SET}
