"""Names of the modules of each kind; building one from its name and fields."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn

from avsal_jax.errors import AvsalError, did_you_mean
from avsal_jax.models.decoders.avrsp import AVRSPDecoder
from avsal_jax.models.decoders.fcn import FCNDecoder
from avsal_jax.models.decoders.gaze import GazeHead
from avsal_jax.models.decoders.sal_decoder import SalDecoder
from avsal_jax.models.decoders.unet import UNetDecoder
from avsal_jax.models.decoders.vinet import ViNetDecoder
from avsal_jax.models.encoders.efficientnet import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
)
from avsal_jax.models.encoders.s3d import S3D
from avsal_jax.models.encoders.soundnet import SoundNet
from avsal_jax.models.encoders.vggish import VGGish
from avsal_jax.models.fusion.bilinear import Bilinear
from avsal_jax.models.fusion.casp_net import CASPNetFusion
from avsal_jax.models.fusion.concatenation import Concatenation
from avsal_jax.models.fusion.cross_modal import CrossModal
from avsal_jax.models.fusion.elementwise import Addition, Multiplication
from avsal_jax.models.fusion.mbt import MBT
from avsal_jax.models.fusion.ravf import RAVF
from avsal_jax.models.fusion.transformer import Transformer
from avsal_jax.models.layers import Runtime
from avsal_jax.models.necks.aspp import ASPP
from avsal_jax.models.necks.synergy import SynergyNeck
from avsal_jax.models.part import Part, settable_fields
from avsal_jax.models.regulators.gates import RegulatorGates
from avsal_jax.spec.fields import checked, field_types

# The class of a visual encoder may name fields of `InputSpec` that it needs: `default_input`, a dict by name;
# that of an audio encoder the sound that it takes: `default_sound`, a `spec.sound.FrontEnd`.
MODULES: dict[str, dict[str, type[Part]]] = {
    "visual_encoder": {
        "efficientnet_lite0": EfficientNetLite0,
        "efficientnet_lite1": EfficientNetLite1,
        "efficientnet_lite2": EfficientNetLite2,
        "s3d": S3D,
    },
    "neck": {
        "aspp": ASPP,
        "synergy": SynergyNeck,
    },
    "audio_encoder": {
        "soundnet": SoundNet,
        "vggish": VGGish,
    },
    "fusion": {
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
    "regulator": {
        "gates": RegulatorGates,
    },
    "head": {
        "avrsp": AVRSPDecoder,
        "fcn": FCNDecoder,
        "gaze": GazeHead,
        "sal": SalDecoder,
        "unet": UNetDecoder,
        "vinet": ViNetDecoder,
    },
}
HEADS = "heads"
SLOTS = tuple(kind for kind in MODULES if kind != "head")  # which hold one part each; `heads` holds many


def build_part(kind: str, part: Mapping | None, runtime: Runtime, path: str = "") -> nn.Module | None:
    """Returns the module that a part describes, or None for None.

    Args:
      kind: `fusion`, `head`, ...; see `MODULES`.
      part: its `name`, in `MODULES` or a class, and its fields.
      runtime: how it is run.
      path: of the part in the model, for errors: `heads.saliency`; by default its kind.

    Raises:
      AvsalError: an unknown name or field (with what is allowed), or a value that a field does not take.
    """
    if part is None:
        return None
    path, fields = path or kind, dict(part)
    if "name" not in fields:
        raise AvsalError(f"{path} needs a name, one of {', '.join(MODULES[kind])}; got {fields}")
    cls = part_class(kind, fields.pop("name"))
    hints = settable_fields(cls)
    values = checked(fields, hints=hints, owner=f"{path} {name_of(kind, cls)!r}", path=f"{path}.")
    run = {"runtime": runtime} if "runtime" in field_types(cls) else {}
    return cls(**values, **run)


def part_class(kind: str, name: str | type[nn.Module]) -> type[nn.Module]:
    """Returns the module class called `name`; a class is returned as it is."""
    if isinstance(name, type) and issubclass(name, nn.Module):
        return name
    if not isinstance(name, str) or name not in MODULES[kind]:
        hint = did_you_mean(name, MODULES[kind])
        raise AvsalError(f"unknown {kind} {name!r}{hint}; it is none, or one of {', '.join(MODULES[kind])}")
    return MODULES[kind][name]


def name_of(kind: str, cls: type[nn.Module]) -> str:
    """Returns the name of a class in `MODULES`; of any other its own."""
    return next((name for name, entry in MODULES[kind].items() if entry is cls), cls.__name__)
