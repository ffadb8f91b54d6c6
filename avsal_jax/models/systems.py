"""Systems: a choice for each slot, and the clip they take; models out of them, with changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.models.changes import INPUT_FIELDS, copied, merged
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import SALIENCY, Heads, Network
from avsal_jax.models.part import Part, refuse_idle_fields, settable_fields
from avsal_jax.models.renamings import refuse_old_setting
from avsal_jax.models.slots import HEADS, SLOTS, build_part, part_class
from avsal_jax.spec.front_ends import front_end_to_dict
from avsal_jax.spec.input import InputSpec, input_from_dict, input_to_dict


@dataclasses.dataclass(frozen=True)
class Preset:
    """What changes the function of a network; `model.json` stores exactly this.

    Attributes:
      system: the name it started from.
      parts: slot -> {"name": part, field: value} or None, and `heads`: name -> the same.
      input: the clip it takes.
      kind: `system`, or `part` for an encoder on its own.
    """

    system: str
    parts: dict
    input: InputSpec
    kind: str = "system"

    def to_dict(self) -> dict:
        """Returns the model as plain nested values, which `preset_of` and `resolve` take again."""
        parts = _plain(self.parts)
        parts[HEADS] = {SALIENCY: None, **parts[HEADS]}  # so that a system's own is not left in place
        return {"system": self.system, **input_to_dict(self.input), **parts}

    def named_parts(self) -> Iterator[tuple[str, str, dict]]:
        """Yields (path, kind, part) of all parts, as ("heads.saliency", "head", {"name": "vinet"})."""
        for slot in SLOTS:
            if self.parts[slot] is not None:
                yield slot, slot, self.parts[slot]
        for name, part in self.parts[HEADS].items():
            yield f"{HEADS}.{name}", "head", part

    def complete(self) -> Preset:
        """Returns the same model with the fields of all parts stated, also those that have their defaults."""
        parts = {slot: _complete_part(slot, self.parts[slot]) for slot in SLOTS}
        heads = {name: _complete_part("head", part) for name, part in self.parts[HEADS].items()}
        return dataclasses.replace(self, parts={**parts, HEADS: heads})


def _complete_part(kind: str, part: dict | None) -> dict | None:
    module = build_part(kind, part, Runtime())
    if module is None:
        return None
    return {"name": part["name"]} | {
        name: _plain(getattr(module, name)) for name in settable_fields(type(module))
    }


@dataclasses.dataclass(frozen=True)
class System:
    """What is registered as a system: a name for a part of each slot, and the clip that they take.

    Attributes:
      about: one line: whose it is, with the paper.
      parts: slot -> a part by name, or with fields; `heads`: name -> the same. Slots left out are empty.
      input: the clip.
      kind: `system`, or `part` for an encoder that is published and stored on its own.
    """

    about: str
    parts: dict
    input: InputSpec
    kind: str = "system"

    def preset(self, name: str) -> Preset:
        """Returns the model, all of whose slots are stated."""
        return Preset(name, merged(_EMPTY, self.parts), input=self.input, kind=self.kind)


_EMPTY = {**dict.fromkeys(SLOTS), HEADS: {}}


def systems(kind: str = "system") -> tuple[str, ...]:
    """Returns the names of the registered systems, or with `part` of the parts."""
    return tuple(name for name, system in registry.table("system").items() if system.kind == kind)


def resolve(system: str, changes: Mapping | None = None) -> Preset:
    """Returns the preset of `system` with changes.

    Args:
      system: a registered name.
      changes: by slot, `heads`, and field of `InputSpec`; see `models.changes`. An encoder that is chosen
        brings its own numbers of the input (`default_input`, `default_sound`), where these are not changed
        too; without an audio encoder there is no sound.

    Raises:
      AvsalError: an unknown name, with the known ones; a value that a field does not take; a setting that
        changes nothing with the other settings.
    """
    registered = registry.lookup("system", system)
    if registered is None:
        hint = did_you_mean(system, registry.table("system"))
        raise AvsalError(
            f"unknown system {system!r}{hint}; systems are {', '.join(systems())}, "
            f"parts {', '.join(systems('part'))}"
        )
    preset, changes = registered.preset(system), merged({}, changes or {})
    spec = {**input_to_dict(preset.input), **_defaults_of_encoders(changes)}
    parts = merged({**spec, **copied(preset.parts)}, changes)
    parts[HEADS] = {name: part for name, part in parts[HEADS].items() if part is not None}
    values = {name: parts.pop(name) for name in INPUT_FIELDS}
    resolved = dataclasses.replace(preset, parts=parts, input=input_from_dict(values))
    for path, kind, part in resolved.named_parts():
        if "name" in part:
            _refuse_old_fields(path, part, part_class(kind, part["name"]))
    _refuse_idle(resolved)
    return resolved


def _refuse_idle(preset: Preset) -> None:
    """Raises AvsalError for settings that change nothing, and for an encoder of sound that nothing uses."""
    if preset.kind == "system" and preset.parts["audio_encoder"] and not preset.parts["fusion"]:
        raise AvsalError(
            "without a fusion nothing uses the sound of the audio_encoder: set audio_encoder=none too, or "
            "choose a fusion"
        )
    for path, kind, part in preset.named_parts():
        module = build_part(kind, part, Runtime(), path=path)
        if isinstance(module, Part):
            refuse_idle_fields(module, path)


def _refuse_old_fields(path: str, part: Mapping, cls: type) -> None:
    """Raises AvsalError for a field that a part had in an earlier version, with today's name."""
    for name in set(part) - {"name", *settable_fields(cls)}:
        refuse_old_setting(f"{path}.{name}")


def _defaults_of_encoders(changes: Mapping) -> dict:
    """Returns the fields of the input that come with the encoders that changes choose."""
    fields, visual, audio = {}, changes.get("visual_encoder"), changes.get("audio_encoder", {})
    if visual is not None and "name" in visual:
        cls = part_class("visual_encoder", visual["name"])
        fields |= {name: _plain(value) for name, value in getattr(cls, "default_input", {}).items()}
    if audio is None:
        fields["audio"] = None
    elif "name" in audio:
        sound = getattr(part_class("audio_encoder", audio["name"]), "default_sound", None)
        fields["audio"] = sound and front_end_to_dict(sound)
    return fields


def _plain(value):
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    is_instance = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_instance else value


def preset_of(values: Mapping, kind: str) -> Preset:
    """Returns the model that `Preset.to_dict` described, all of whose slots are stated.

    Raises:
      AvsalError: an unknown field of the input, or a wrong value.
      KeyError, TypeError, AttributeError: values of another form.
    """
    parts = {slot: _stored_part(slot, values[slot]) for slot in SLOTS}
    heads = {name: _stored_part(f"{HEADS}.{name}", part) for name, part in values[HEADS].items()}
    parts[HEADS] = {name: part for name, part in heads.items() if part is not None}
    rest = {name: value for name, value in values.items() if name not in parts and name != "system"}
    return Preset(str(values["system"]), parts=parts, input=input_from_dict(rest), kind=kind)


def _stored_part(path: str, part) -> dict | None:
    """A part as JSON has it: lists stand for tuples."""
    if part is not None and not isinstance(part, Mapping):
        raise AvsalError(f"{path} is a part with a name and fields; got {part!r}")
    return None if part is None else _with_tuples(part)


def _with_tuples(value):
    if isinstance(value, Mapping):
        return {name: _with_tuples(inner) for name, inner in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def build(preset: Preset, runtime: Runtime | None = None) -> Network:
    """Returns the network that `preset` describes."""
    runtime = runtime or Runtime()
    slots = {slot: build_part(slot, preset.parts[slot], runtime) for slot in SLOTS}
    heads = {
        name: build_part("head", part=part, runtime=runtime, path=f"{HEADS}.{name}")
        for name, part in preset.parts[HEADS].items()
    }
    return Network(preset.input, **slots, heads=Heads.of(heads))


def create_model(system: str, runtime: Runtime | None = None, **changes) -> tuple[Network, InputSpec]:
    """Returns a network without weights, and the clip it takes.

    Example: `create_model("vinet", frames=16, heads={"saliency": {"hierarchy": 2}})`, or
    `create_model("vinet", frames=16, **{"heads.saliency.hierarchy": 2})`.

    Args:
      system: a registered system, as `vinet`.
      runtime: how it is run (dtype, remat, batch norm, lowering); see `layers.Runtime`.
      **changes: nested or dotted; see `resolve`.

    Raises:
      AvsalError: an unknown system, slot, part or field, or a value of a wrong type.
    """
    preset = resolve(system, changes)
    return build(preset, runtime), preset.input
