"""Names of the modules that fit each slot; building one from a name and fields."""

from __future__ import annotations

from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.models.decoders.avrsp import AVRSPDecoder
from avsal_jax.models.decoders.fcn import FCNDecoder
from avsal_jax.models.decoders.sal_decoder import SalDecoder
from avsal_jax.models.decoders.unet import UNetDecoder
from avsal_jax.models.decoders.vinet import ViNetDecoder
from avsal_jax.models.encoders.s3d import S3D
from avsal_jax.models.encoders.soundnet import SoundNet
from avsal_jax.models.encoders.vggish import VGGish
from avsal_jax.models.fusion.bilinear import Bilinear
from avsal_jax.models.fusion.casp_net import CASPNetFusion
from avsal_jax.models.fusion.concatenation import Concatenation
from avsal_jax.models.fusion.cross_modal import CrossModal
from avsal_jax.models.fusion.elementwise import Addition, Multiplication
from avsal_jax.models.fusion.gates import RegulatorGates
from avsal_jax.models.fusion.mbt import MBT
from avsal_jax.models.fusion.ravf import RAVF
from avsal_jax.models.fusion.transformer import Transformer
from avsal_jax.models.layers import Runtime
from avsal_jax.models.necks.aspp import ASPP
from avsal_jax.models.necks.synergy import SynergyNeck
from avsal_jax.models.part import Part
from avsal_jax.spec.fields import checked

# An audio encoder's class names the sound that it takes by default: `default_sound`, an `AudioSpec`.
SLOTS: dict[str, dict[str, type[Part] | None]] = {
    "visual_encoder": {
        "none": None,
        "s3d": S3D,
    },
    "neck": {
        "none": None,
        "aspp": ASPP,
        "synergy": SynergyNeck,
    },
    "audio_encoder": {
        "none": None,
        "soundnet": SoundNet,
        "vggish": VGGish,
    },
    "fusion": {
        "none": None,
        "addition": Addition,
        "bilinear": Bilinear,
        "casp_net": CASPNetFusion,
        "concatenation": Concatenation,
        "cross_modal": CrossModal,
        "mbt": MBT,
        "multiplication": Multiplication,
        "ravf": RAVF,
        "transformer": Transformer,
    },
    "decoder": {
        "none": None,
        "avrsp": AVRSPDecoder,
        "fcn": FCNDecoder,
        "sal": SalDecoder,
        "unet": UNetDecoder,
        "vinet": ViNetDecoder,
    },
}


def build_part(slot: str, name: str, fields: dict, runtime: Runtime) -> Part | None:
    """Returns the module `name` of `slot` with `fields`, or None for `none`.

    The fusion slot also takes the fields of `RegulatorGates` (`gates` and others), whatever its name:
    with `gates` above 0, the gates wrap the fusion, and they stand alone where it is `none`.

    Raises:
      AvsalError: an unknown slot, name or field (with what is allowed), or a value of a wrong type.
    """
    cls = part_class(slot, name)
    gate_types = RegulatorGates.field_types() if slot == "fusion" else {}
    hints = (cls.field_types() if cls is not None else {}) | gate_types
    if not hints and fields:
        raise AvsalError(f"{slot} is 'none' and takes no field; got {', '.join(sorted(fields))}")
    values = checked(fields, hints, f"{slot} {name!r}", f"{slot}.")
    gates = {field: value for field, value in values.items() if field in gate_types}
    rest = {field: value for field, value in values.items() if field not in gate_types}
    part = cls(**rest, runtime=runtime) if cls is not None else None
    if not gates:
        return part
    wrapped = RegulatorGates(part, **gates, runtime=runtime)
    return wrapped if wrapped.gates else part


def part_class(slot: str, name: str) -> type[Part] | None:
    """Returns the module class called `name` in `slot`."""
    if slot not in SLOTS:
        raise AvsalError(f"unknown slot {slot!r}{did_you_mean(slot, SLOTS)}; slots are {', '.join(SLOTS)}")
    if not isinstance(name, str) or name not in SLOTS[slot]:
        hint = did_you_mean(name, SLOTS[slot])
        raise AvsalError(f"unknown {slot} {name!r}{hint}; there are {', '.join(SLOTS[slot])}")
    return SLOTS[slot][name]
