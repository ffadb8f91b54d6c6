"""AViNet on AVE, fine-tuned from ViNet on DHF1K (Jain et al. 2021, table 6).

    avsal prepare --dataset ave --root DATA --output prepared
    avsal train --config avinet_ave:bilinear --workdir runs/avinet_ave
    avsal evaluate --dataset ave --protocol vinet --root DATA --model runs/avinet_ave/model
        --output results/avinet_ave

Starts from: runs/vinet_dhf1k/model (picture and decoder), and SoundNet in checkpoints/soundnet
(checkpoints/README.md); the fusion is fresh.
Expected: the figures of the rows (avsal train --list), on the test list (29 videos); the paper does not say
of which fusion.
From the paper: trained on AVE's training list, early stopping on its validation list.
Open in the paper: epochs, patience and rate of the fine-tuning; here 40 epochs and 1e-4, and validation clips
every 2T frames, as the code for the six audio-visual sets. As the code, not the paper (docs/papers.md): what
avinet_av says of B's pooling and T's position table.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

START = {
    "vinet": {"path": "runs/vinet_dhf1k/model"},
    "soundnet": {"path": "checkpoints/soundnet", "slot": "audio_encoder"},
}
PAPER = {"about": "the paper does not say of which fusion", "published": ("avinet:6:AViNet:ave",)}
ROWS = {
    "bilinear": Row({"model.fusion": "bilinear"}, **PAPER),
    "transformer": Row({"model.fusion": "transformer"}, **PAPER),
    "concatenation": Row({"model.fusion": "concatenation"}, **PAPER),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a fusion; bilinear where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system = "avinet"
    config.data.sources = (("ave", None),)
    config.data.stride = 64
    config.init = START
    config.epochs = 40
    config.evaluation.metric = "loss"
    config.evaluation.every = config.save_every = 12  # an epoch: 93 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
