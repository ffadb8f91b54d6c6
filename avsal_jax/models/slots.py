"""The slots of a network, and the module that fills one, from its name and fields."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.models.layers import Runtime
from avsal_jax.models.part import settable_fields
from avsal_jax.spec.fields import checked, field_types

SLOTS = ("visual_encoder", "neck", "audio_encoder", "fusion", "regulator")  # each holds one part
HEADS = "heads"  # holds many, by name
PART_KINDS = (*SLOTS, "head")  # of `registry.KINDS`


def build_part(kind: str, part: Mapping | None, runtime: Runtime, path: str = "") -> nn.Module | None:
    """Returns the module that a part describes, or None for None.

    Args:
      kind: `fusion`, `head`, ...; one of `PART_KINDS`.
      part: its `name`, registered or a class, and its fields.
      runtime: how it is run.
      path: of the part in the model, for errors: `heads.saliency`; by default its kind.

    Raises:
      AvsalError: an unknown name or field (with what is allowed), or a value that a field does not take.
    """
    if part is None:
        return None
    path, fields = path or kind, dict(part)
    if "name" not in fields:
        raise AvsalError(f"{path} needs a name, one of {', '.join(registry.table(kind))}; got {fields}")
    cls = part_class(kind, fields.pop("name"))
    hints = settable_fields(cls)
    values = checked(fields, hints=hints, owner=f"{path} {name_of(kind, cls)!r}", path=f"{path}.")
    run = {"runtime": runtime} if "runtime" in field_types(cls) else {}
    return cls(**values, **run)


def part_class(kind: str, name: str | type[nn.Module]) -> type[nn.Module]:
    """Returns the module class that is registered as `name`; a class is returned as it is."""
    if isinstance(name, type) and issubclass(name, nn.Module):
        return name
    cls = registry.lookup(kind, name)
    if cls is None:
        names = registry.table(kind)
        hint = did_you_mean(name, names)
        raise AvsalError(f"unknown {kind} {name!r}{hint}; it is none, or one of {', '.join(names)}")
    return cls


def name_of(kind: str, cls: type[nn.Module]) -> str:
    """Returns the registered name of a class; of any other its own."""
    return registry.name_of(kind, cls) or cls.__name__
