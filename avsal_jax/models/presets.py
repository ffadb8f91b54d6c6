"""Registers the systems of the papers and of the project, and encoders that are stored as models."""

from __future__ import annotations

from avsal_jax.models.encoders.efficientnet import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
)
from avsal_jax.models.encoders.soundnet import SoundNet
from avsal_jax.models.encoders.vggish import VGGish
from avsal_jax.models.systems import System
from avsal_jax.registry import register
from avsal_jax.spec.input import SIGNED, InputSpec

_HEARING = InputSpec(audio=SoundNet.default_sound)

register("system", "vinet")(
    System(
        "ViNet: video only (Jain et al., section 3.1)",
        {"visual_encoder": "s3d", "heads": {"saliency": "vinet"}},
        InputSpec(),
    )
)
register("system", "avinet")(
    System(
        "AViNet: ViNet with SoundNet and a fusion: B, C or T (Jain et al., section 3.2)",
        {
            "visual_encoder": "s3d",
            "audio_encoder": "soundnet",
            "fusion": "bilinear",
            "heads": {"saliency": "vinet"},
        },
        _HEARING,
    )
)
register("system", "avrsp")(
    System(
        "AVRSP: relevance-guided fusion, regulator gates and a synergy neck (sections III-A to III-D)",
        {
            "visual_encoder": "s3d",
            "neck": "synergy",
            "audio_encoder": "soundnet",
            "fusion": "ravf",
            "regulator": "gates",
            "heads": {"saliency": "avrsp"},
        },
        _HEARING,
    )
)
register("system", "dual_domain")(
    System(
        "The network of dual domain-adversarial learning, with cross-modal attention (section 3.2)",
        {
            "visual_encoder": "s3d",
            "audio_encoder": "soundnet",
            "fusion": "cross_modal",
            "heads": {"saliency": "vinet"},
        },
        _HEARING,
    )
)
register("system", "casp_net")(
    System(
        "CASP-Net: audio-visual interaction and predictive coding (sections 3.2 and 3.3)",
        {
            "visual_encoder": "s3d",
            "neck": "aspp",
            "audio_encoder": "vggish",
            "fusion": "casp_net",
            "heads": {"saliency": "sal"},
        },
        InputSpec(16, label_frame="middle", audio=VGGish.default_sound),
    )
)
register("system", "gaze")(
    System(
        "The project's own: an encoder of single frames, and a head that sees motion over .3 seconds",
        {
            "visual_encoder": {"name": "efficientnet_lite0", "luminance": True},
            "heads": {"saliency": {"name": "gaze", "motion": 12}},
        },
        InputSpec(4, interval=0.1, fit="aspect", smoothing=0.2, **EfficientNetLite0.default_input),
    )
)

# Parts that are published and stored by themselves, with the clip they were trained on.
register("system", "s3d")(
    System(
        "S3D of Kinetics-400, with or without its classifier",
        {"visual_encoder": "s3d"},
        InputSpec(64, 224, 224, pixels=SIGNED),
        kind="part",
    )
)
register("system", "soundnet")(
    System("SoundNet of Flickr videos", {"audio_encoder": "soundnet"}, _HEARING, kind="part")
)
register("system", "vggish")(
    System(
        "VGGish of AudioSet", {"audio_encoder": "vggish"}, InputSpec(audio=VGGish.default_sound), kind="part"
    )
)


def _image_encoder(name: str, cls: type[EfficientNetLite0], side: int) -> None:
    """A part that was trained on single pictures of `side` pixels; it takes any other size."""
    side += -side % cls.default_input["divisor"]
    spec = InputSpec(1, side, side, **cls.default_input)
    register("system", name)(
        System("EfficientNet-Lite of ImageNet", {"visual_encoder": name}, spec, kind="part")
    )


_image_encoder("efficientnet_lite0", EfficientNetLite0, side=224)
_image_encoder("efficientnet_lite1", EfficientNetLite1, side=240)
_image_encoder("efficientnet_lite2", EfficientNetLite2, side=260)
