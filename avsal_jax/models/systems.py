"""The systems of the papers as presets: a choice for each slot, and the clip they take."""

from __future__ import annotations

import dataclasses

from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.models.encoders.soundnet import SoundNet
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import SaliencyNetwork
from avsal_jax.models.registry import SLOTS, build_part, part_class
from avsal_jax.specs import AudioSpec, InputSpec


@dataclasses.dataclass(frozen=True)
class Preset:
    """What changes the function of a network; `model.json` stores exactly this.

    Attributes:
      system: the name it started from.
      slots: slot -> {"name": part, "fields": {field: value}}.
      input: the clip it takes.
      kind: `system`, or `part` for an encoder on its own.
    """

    system: str
    slots: dict[str, dict]
    input: InputSpec
    kind: str = "system"


def _slots(**parts: str) -> dict[str, dict]:
    return {slot: {"name": parts.get(slot, "none"), "fields": {}} for slot in SLOTS}


def _hearing(system: str, fusion: str) -> Preset:
    """S3D, SoundNet and ViNet's decoder with a fusion."""
    slots = _slots(visual_encoder="s3d", audio_encoder="soundnet", fusion=fusion, decoder="vinet")
    return Preset(system, slots, InputSpec(audio=SoundNet.default_sound))


SYSTEMS: dict[str, Preset] = {
    "vinet": Preset("vinet", _slots(visual_encoder="s3d", decoder="vinet"), InputSpec()),
    "avinet": _hearing("avinet", "bilinear"),
    "dual_domain": _hearing("dual_domain", "cross_modal"),
}
# Parts that are published and stored on their own, with the clip they were trained on.
PARTS: dict[str, Preset] = {
    "s3d": Preset(
        "s3d", _slots(visual_encoder="s3d"), InputSpec(64, 224, 224, pixel_norm="signed"), kind="part"
    ),
    "soundnet": Preset(
        "soundnet", _slots(audio_encoder="soundnet"), InputSpec(audio=SoundNet.default_sound), kind="part"
    ),
}


def resolve(system: str, overrides: dict | None = None) -> Preset:
    """Returns the preset of `system` with overrides.

    Args:
      system: a name in `SYSTEMS` or `PARTS`.
      overrides: `slot` -> part name (its fields start from their defaults), `slot.field` -> value, a
        field of `InputSpec` -> value, or `audio.field` -> value for a field of its `AudioSpec`. Slots are
        replaced before their fields are set: another audio encoder brings its default sound, `none` takes
        the sound away.

    Raises:
      AvsalError: an unknown name, with the known ones.
    """
    known = {**SYSTEMS, **PARTS}
    if system not in known:
        hint = did_you_mean(system, known)
        raise AvsalError(
            f"unknown system {system!r}{hint}; systems are {', '.join(SYSTEMS)}, parts {', '.join(PARTS)}"
        )
    preset = known[system]
    slots = {slot: {"name": p["name"], "fields": dict(p["fields"])} for slot, p in preset.slots.items()}
    spec_fields = [f.name for f in dataclasses.fields(InputSpec)]
    changes, sound = {}, {}
    for key, value in sorted((overrides or {}).items(), key=lambda item: "." in item[0]):
        slot, _, field = key.partition(".")
        if key in spec_fields:
            changes[key] = value
        elif slot == "audio":
            sound[field] = value
        elif slot not in slots:
            hint = did_you_mean(key, [*slots, *spec_fields])
            raise AvsalError(
                f"unknown setting {key!r}{hint}; settings are the slots "
                f"{', '.join(slots)} (as slot or slot.field), {', '.join(spec_fields)} and audio.field"
            )
        elif field:
            slots[slot]["fields"][field] = value
        else:
            cls = part_class(slot, value)
            slots[slot] = {"name": value, "fields": {}}
            if slot == "audio_encoder":
                changes.setdefault("audio", cls and cls.default_sound)
    spec = dataclasses.replace(preset.input, **changes)
    if sound:
        spec = dataclasses.replace(spec, audio=_with_fields(spec.audio, sound))
    return dataclasses.replace(preset, slots=slots, input=spec)


def _with_fields(audio: AudioSpec | None, fields: dict) -> AudioSpec:
    known = [f.name for f in dataclasses.fields(AudioSpec)]
    for name in fields:
        if name not in known:
            hint = did_you_mean(name, known)
            raise AvsalError(f"audio has no field {name!r}{hint}; it has {', '.join(known)}")
    if audio is None:
        raise AvsalError("this network does not hear: set audio_encoder before the fields of its sound")
    return dataclasses.replace(audio, **fields)


def build(preset: Preset, runtime: Runtime | None = None) -> SaliencyNetwork:
    """Returns the network that `preset` describes."""
    runtime = runtime or Runtime()
    parts = {
        slot: build_part(slot, part["name"], part["fields"], runtime) for slot, part in preset.slots.items()
    }
    return SaliencyNetwork(**parts)


def create_model(
    system: str, runtime: Runtime | None = None, **overrides
) -> tuple[SaliencyNetwork, InputSpec]:
    """Returns a network without weights, and the clip it takes.

    Example: `create_model("vinet", frames=16, **{"decoder.hierarchy": 2})`.

    Args:
      system: one of `avsal_jax.models.systems.SYSTEMS`.
      runtime: how it is run (dtype, remat, batch norm, lowering); see `layers.Runtime`.
      **overrides: see `resolve`.

    Raises:
      AvsalError: an unknown system, slot, part or field, or a value of a wrong type.
    """
    preset = resolve(system, overrides)
    return build(preset, runtime), preset.input
