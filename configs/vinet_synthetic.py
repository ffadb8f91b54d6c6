"""ViNet, video only, on the synthetic set: no licence, no download, small enough for a CPU.

    avsal prepare --dataset synthetic --output prepared
    avsal train --config vinet_synthetic:mini --workdir runs/vinet_synthetic
    avsal evaluate --dataset synthetic --protocol vinet --root prepared/synthetic-source
        --model runs/vinet_synthetic/model --output results/vinet_synthetic

and to check that everything runs:

    avsal prepare --dataset synthetic --set preset=tiny --size 64x96 --output prepared_tiny
    avsal train --config vinet_synthetic:smoke --workdir runs/smoke --config.data.root=prepared_tiny

The row `avsal_mini` makes the bundled model, on silent scenes (checkpoints/avsal-mini/README.md):

    avsal prepare --dataset synthetic --set preset=avsal_mini --output prepared_mini
    avsal train --config vinet_synthetic:avsal_mini --workdir runs/avsal_mini --config.data.root=prepared_mini

Starts from: nothing. Clips of 8 frames at 64x96; validation is on the set's own validation list.
Expected: nothing is published; a trained network should beat the centre prior and the motion rule
(docs/synthetic.md has their figures). The network is the paper's for clips of 8 frames (docs/papers.md).
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

ROWS = {
    "t8": Row({"model.frames": 8}, "nothing published"),
    "t16": Row({"model.frames": 16}, "nothing published"),
    "avsal_mini": Row(
        {
            "model.visual_encoder.width": 0.25,
            "model.heads.saliency.width": 0.25,
            "data.sampling.flip": True,
            "data.sampling.reverse": True,
            "loss.cc": -1.0,
            "optimizer.schedule.name": "cosine",
            "optimizer.schedule.warmup_steps": 100,
            "epochs": 0,
            "steps": 5000,
            "evaluation.every": 500,
            "save_every": 500,
        },
        "nothing published: the bundled checkpoint, a quarter of the width on the synthetic set `avsal_mini`",
    ),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of full width, or of variants."""
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.update(frames=8, height=64, width=96)
    config.model.norm_momentum = 0.99
    config.data.sources = (("synthetic", None),)
    config.optimizer.learning_rate = 1e-3
    config.epochs = 40
    config.evaluation.every = config.save_every = 100
    return recipes.apply(config, variants, ROWS)
