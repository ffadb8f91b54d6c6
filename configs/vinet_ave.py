"""ViNet, video only, on AVE, fine-tuned from DHF1K (Jain et al. 2021, table 6).

    avsal prepare --dataset ave --root DATA --output prepared
    avsal train --config vinet_ave --workdir runs/vinet_ave
    avsal evaluate --dataset ave --protocol vinet --root DATA --model runs/vinet_ave/model
        --output results/vinet_ave

Starts from: S3D (Kinetics-400) -> runs/vinet_dhf1k/model, the whole network. To start from the authors' DHF1K
weights, convert them and add --config.init.vinet.path=checkpoints/vinet_dhf1k.
Expected: the figures of the row (avsal train --list), on the test list (29 videos).
From the paper: trained on AVE's training list, early stopping on its validation list.
Open in the paper: epochs, patience and rate of the fine-tuning; here 40 epochs and 1e-4, and validation clips
every 2T frames, as the code for the six audio-visual sets. Where paper and code differ: docs/papers.md.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

ROWS = {
    "table6": Row({}, published=("avinet:6:ViNet:ave",)),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.data.sources = (("ave", None),)
    config.data.stride = 64
    config.init = {"vinet": {"path": "runs/vinet_dhf1k/model"}}
    config.epochs = 40
    config.evaluation.metric = "loss"
    config.evaluation.every = config.save_every = 12  # an epoch: 93 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
