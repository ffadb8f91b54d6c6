"""The base class of the parts of a network: encoders, necks, fusions, regulators and heads."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn

from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import checked, field_types

_NOT_SET = ("parent", "name", "runtime")  # fields that a config cannot set


class Limit(NamedTuple):
    """A value of a part, with its bound.

    Attributes:
      value: now.
      bound: that it should not exceed.
      advice: added to the warning if it does; may be empty.
    """

    value: float
    bound: float
    advice: str


class Part(nn.Module):
    """A module that fills a slot of the network.

    Its fields are validated by their types (see `spec.fields`) when it is constructed.

    A head whose class sets `sees_medium` is also called with `medium=`, the medium of the clips
    (`Clip.medium`). Its parameters must not depend on the medium: they are initialised for `video`.

    Raises:
      AvsalError: the value of a field is invalid.
    """

    sees_medium: ClassVar[bool] = False

    def __post_init__(self):
        hints, name = self.field_types(), type(self).__name__
        checked({field: getattr(self, field) for field in hints}, hints=hints, owner=name, path=f"{name}.")
        super().__post_init__()

    @property
    def frozen_parameters(self) -> tuple[str, ...]:
        """Patterns of the paths, below the part, of parameters that are not trained."""
        return ()

    def limits(self, params: dict) -> dict[str, Limit]:
        """Returns the values that training logs for this part, by name, with their bounds.

        Training warns if a value exceeds its bound.
        """
        return {}

    def idle_fields(self) -> dict[str, str]:
        """Returns the fields without effect at the current values of other fields: name -> these values.

        A config must leave such a field at its default (`systems.resolve` refuses other values); a stored
        model may have another value.
        """
        return {}

    @property
    def stem_is_frozen(self) -> bool:
        """Whether the stem of a visual encoder is constant during training."""
        return False

    @classmethod
    def field_types(cls) -> dict[str, object]:
        """Returns the types of the fields that can be set by name."""
        return settable_fields(cls)


def refuse_idle_fields(part: Part, path: str) -> None:
    """Raises AvsalError for a field without effect that is not at its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(part)}
    for name, values in part.idle_fields().items():
        if (value := getattr(part, name)) != defaults[name]:
            raise AvsalError(
                f"{path}.{name}={value} changes nothing with {values}; leave it at {defaults[name]}"
            )


def settable_fields(cls: type[nn.Module]) -> dict[str, object]:
    """Returns the types of the fields of a module that a config can set."""
    return {name: hint for name, hint in field_types(cls).items() if name not in _NOT_SET}
