"""The systems of the papers as presets: a choice for each slot, and the clip they take."""

from __future__ import annotations

import dataclasses

from avsal_jax.errors import AvsalError, did_you_mean
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


SYSTEMS: dict[str, Preset] = {
    "casp_net": Preset(
        "casp_net",
        _slots(visual_encoder="s3d", neck="aspp", audio_encoder="vggish", fusion="casp_net", decoder="sal"),
        InputSpec(16, label_frame="middle", audio=AudioSpec("logmel")),
    ),
    "vinet": Preset("vinet", _slots(visual_encoder="s3d", decoder="vinet"), InputSpec()),
}
# Parts that are published and stored on their own, with the clip they were trained on.
PARTS: dict[str, Preset] = {
    "vggish": Preset(
        "vggish", _slots(audio_encoder="vggish"), InputSpec(16, audio=AudioSpec("logmel")), kind="part"
    ),
    "s3d": Preset(
        "s3d", _slots(visual_encoder="s3d"), InputSpec(64, 224, 224, pixel_norm="signed"), kind="part"
    ),
}


def resolve(system: str, overrides: dict | None = None) -> Preset:
    """Returns the preset of `system` with overrides.

    Args:
      system: a name in `SYSTEMS` or `PARTS`.
      overrides: `slot` -> part name (its fields start from their defaults), `slot.field` -> value, or
        a field of `InputSpec` -> value, or `audio.field` -> value of its `AudioSpec`. Slots are replaced
        before their fields are set.

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
    changes = {}
    for key, value in sorted((overrides or {}).items(), key=lambda item: "." in item[0]):
        slot, _, field = key.partition(".")
        if key in spec_fields:
            changes[key] = value
        elif slot == "audio" and field:
            changes["audio"] = _heard(changes.get("audio", preset.input.audio), field, value)
        elif slot not in slots:
            hint = did_you_mean(key, [*slots, *spec_fields])
            raise AvsalError(
                f"unknown setting {key!r}{hint}; settings are the slots "
                f"{', '.join(slots)} (as slot or slot.field) and {', '.join(spec_fields)} (audio.field)"
            )
        elif field:
            slots[slot]["fields"][field] = value
        else:
            part_class(slot, value)
            slots[slot] = {"name": value, "fields": {}}
    return dataclasses.replace(preset, slots=slots, input=dataclasses.replace(preset.input, **changes))


def _heard(audio: AudioSpec | None, field: str, value) -> AudioSpec:
    """Returns the sound of a clip with one field changed."""
    known = [f.name for f in dataclasses.fields(AudioSpec)]
    if audio is None:
        raise AvsalError(f"audio.{field} cannot be set: this clip has no sound")
    if field not in known:
        raise AvsalError(
            f"audio has no field {field!r}{did_you_mean(field, known)}; it has {', '.join(known)}"
        )
    return dataclasses.replace(audio, **{field: value})


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
