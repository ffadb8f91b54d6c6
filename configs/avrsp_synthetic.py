"""AVRSP at a quarter of the width on the synthetic set: does the network use the sound?

    avsal prepare --dataset synthetic --set objects=2 --set videos=800 --output prepared
    avsal train --config sound_classes --workdir runs/soundnet_synthetic
    avsal train --config avrsp_synthetic:ravf --workdir runs/ravf
    python tools/sound_report.py --model runs/ravf/model --root prepared/synthetic-source
    avsal evaluate --dataset synthetic --protocol vinet --root prepared/synthetic-source
        --model runs/ravf/model --output results/ravf
    avsal prepare --dataset synthetic --set objects=2 --set seed=2 --set inconsistent=0.2
        --output prepared_mixed
    python tools/sound_report.py --model runs/ravf/model --root prepared_mixed/synthetic-source

Starts from: SoundNet trained on the classes of sound of the training list, the same as avinet_synthetic's;
the rest is fresh. Clips of 8 frames of 64x96, two tokens of sound. Expected: nothing is published. The rate
is avinet_synthetic's; another: --config.optimizer.learning_rate=RATE. `picture` has synergy and gates, no
sound. The last report's lines on Ret_A are those of relevant and irrelevant sound. Departures from the paper:
SIM in the loss, as avrsp_av; rate, schedule, widths and clips (docs/papers.md).
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

NARROW = {"width": 0.25}
ROWS = {
    "picture": Row(
        {"model.audio_encoder": None, "model.fusion": None, "model.audio": None, "init": {}},
        "nothing published",
    ),
    "concatenation": Row({"model.fusion": "concatenation"}, "nothing published"),
    "ravf": Row({"model.fusion": "ravf", "model.fusion.width": 0.25}, "nothing published"),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; of ravf where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.system, config.model.norm_momentum = "avrsp", 0.99
    config.model.update(frames=8, height=64, width=96, audio={"samples": 12766})
    config.model.update(visual_encoder=NARROW, neck=NARROW, audio_encoder=NARROW, heads={"saliency": NARROW})
    config.model.fusion = {"name": "ravf", "width": 0.25}
    config.data.sources = (("synthetic", None),)
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="avrsp")
    config.init = {"soundnet": {"path": "runs/soundnet_synthetic/model", "slot": "audio_encoder"}}
    config.optimizer.update(name="adamw", weight_decay=1e-5, learning_rate=4e-4)
    config.optimizer.schedule.name = "cosine"
    config.steps = 3000
    config.evaluation.every = config.save_every = 250
    return recipes.apply(config, variants, ROWS)
