"""Names of the modules that fit each slot; building one from a name and fields."""

from __future__ import annotations

import dataclasses
import math
import typing

import flax.linen as nn

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

# An audio encoder's class names the sound that it takes by default: `default_sound`, an `AudioSpec`.
SLOTS: dict[str, dict[str, type[nn.Module] | None]] = {
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
_RESERVED = {"runtime", "parent", "name"}


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers that a field takes: from `least` to `most`, or from above `least`."""

    least: float
    most: float
    above: bool = False

    def __contains__(self, value) -> bool:
        return self.least <= value <= self.most and not (self.above and value == self.least)

    def __str__(self) -> str:
        return (
            f"above {self.least} and at most {self.most}"
            if self.above
            else f"from {self.least} to {self.most}"
        )


_WIDTH, _CHANNELS, _FEW = Range(0, 16, above=True), Range(1, 4096), Range(1, 64)
# Fields that are numbers -> what they may be, in every part that has them. Parts check the rest: which
# numbers go together, and which text a field takes.
RANGES: dict[str, Range] = {
    "width": _WIDTH,
    "classes": Range(1, 100_000),
    "channels": _CHANNELS,
    "branch_channels": _CHANNELS,
    "growth": _CHANNELS,
    "dense_layers": Range(0, 16),
    "temporal": _FEW,
    "pairs": Range(0, 4),
    "lip_size": _FEW,
    "iterations": Range(0, 64),
    "rate": Range(0, 10),
    "coding_layers": _FEW,
    "stages": Range(1, 4321),
    "layers": _FEW,
    "blocks": _FEW,
    "heads": _FEW,
    "bottlenecks": _FEW,
    "expansion": Range(0, 64, above=True),
    "dropout": Range(0, 0.99),
    "gates": Range(0, 4),
    "hierarchy": Range(0, 3),
}


def build_part(slot: str, name: str, fields: dict, runtime: Runtime) -> nn.Module | None:
    """Returns the module `name` of `slot` with `fields`, or None for `none`.

    The fusion slot also takes the fields of `RegulatorGates` (`gates` and others), whatever its name:
    with `gates` above 0, the gates wrap the fusion, and they stand alone where it is `none`.

    Raises:
      AvsalError: an unknown slot, name or field (with what is allowed), or a value of a wrong type.
    """
    cls = part_class(slot, name)
    wrapping = _field_types(RegulatorGates, {*_RESERVED, "fusion"}) if slot == "fusion" else {}
    known = (_field_types(cls, _RESERVED) if cls is not None else {}) | wrapping
    if cls is None and not wrapping and fields:
        raise AvsalError(f"{slot} is 'none' and takes no field; got {', '.join(sorted(fields))}")
    for field, value in fields.items():
        if field not in known:
            hint = did_you_mean(field, known)
            raise AvsalError(f"{slot} {name!r} has no field {field!r}{hint}; it has {', '.join(known)}")
        numbers = RANGES.get(field)
        if not _fits(value, known[field]):
            more = f" {numbers}" if numbers is not None else ""
            raise AvsalError(f"{slot}.{field} takes {_type_name(known[field])}{more}; got {value!r}")
        if numbers is not None and value is not None and value not in numbers:
            raise AvsalError(f"{slot}.{field} must be {numbers}; got {value!r}")
    own = {field: value for field, value in fields.items() if field not in wrapping}
    part = cls(**own, runtime=runtime) if cls is not None else None
    outer = {field: value for field, value in fields.items() if field in wrapping}
    if not outer:
        return part
    wrapped = RegulatorGates(part, **outer, runtime=runtime)
    wrapped.check()
    return wrapped if wrapped.gates else part


def part_class(slot: str, name: str) -> type[nn.Module] | None:
    """Returns the module class called `name` in `slot`."""
    if slot not in SLOTS:
        raise AvsalError(f"unknown slot {slot!r}{did_you_mean(slot, SLOTS)}; slots are {', '.join(SLOTS)}")
    if not isinstance(name, str) or name not in SLOTS[slot]:
        hint = did_you_mean(name, SLOTS[slot])
        raise AvsalError(f"unknown {slot} {name!r}{hint}; there are {', '.join(SLOTS[slot])}")
    return SLOTS[slot][name]


def _field_types(cls, reserved: set[str]) -> dict[str, object]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.name not in reserved}


def _fits(value, hint) -> bool:
    options = (
        typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, type(int | None)) else (hint,)
    )
    for option in options:
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return abs(value) < math.inf  # not NaN either
        origin = typing.get_origin(option) or option
        if isinstance(value, origin) and not (isinstance(value, bool) and origin is int):
            return True
    return False


def _type_name(hint) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
