"""ViNet, video only, on the six audio-visual sets, fine-tuned from DHF1K (Jain et al. 2021, tables 4, 5).

    avsal prepare --dataset diem --root DATA --output prepared         # likewise the other five
    avsal train --config vinet_av:split1 --workdir runs/vinet_av_1     # likewise split2, split3

Starts from: S3D (Kinetics-400) -> runs/vinet_dhf1k/model, the whole network. To start from the authors' DHF1K
weights, convert them and add --config.init.vinet.path=checkpoints/vinet_dhf1k.
Expected: the figures of the rows, means over the three splits (DIEM has one). To evaluate:
    avsal evaluate --dataset avad --protocol vinet --root DATA --output results/avad
        --model 1=runs/vinet_av_1/model,2=runs/vinet_av_2/model,3=runs/vinet_av_3/model
One model per split for all six sets: the public code trains on the union of the six training lists of one
split number, which the paper does not say. Validation is on the six TEST lists, as in the code; for a fair
choice: --config.data.validation=holdout. Validation clips every 2T frames; no clip with black truth is drawn.
Open in the paper: epochs, patience and rate of the fine-tuning; here the code's 40 epochs and 1e-4 again.
Where paper and code differ, and what is taken: docs/papers.md.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import SIX_SETS, Row

PAPER = ("avinet:4:ViNet", "avinet:5:ViNet")
ROWS = {
    f"split{number}": Row(
        {"data.sources": tuple((name, number) for name in SIX_SETS)},
        "mean of the three splits",
        published=PAPER,
    )
    for number in (1, 2, 3)
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a split; of the first where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.data.sources = tuple((name, 1) for name in SIX_SETS)
    config.data.stride = 64
    config.init = {"vinet": {"path": "runs/vinet_dhf1k/model"}}
    config.epochs = 40
    config.evaluation.metric = "loss"
    config.evaluation.every = config.save_every = 21  # an epoch: 169 videos (168 of split 3) in batches of 8
    return recipes.apply(config, variants, ROWS)
