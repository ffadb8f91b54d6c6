"""AViNet on the six audio-visual sets, fine-tuned from ViNet on DHF1K (Jain et al. 2021, tables 4, 5).

    avsal prepare --dataset diem --root DATA --output prepared         # likewise the other five
    avsal train --config avinet_av:bilinear,split1 --workdir runs/avinet_b_1    # likewise split2, split3

Starts from: runs/vinet_dhf1k/model (picture and decoder), and SoundNet in checkpoints/soundnet
(checkpoints/README.md says how to get it); the fusion is fresh.
Expected: the figures of the rows, means over the three splits (DIEM has one). To evaluate:
    avsal evaluate --dataset avad --protocol vinet --root DATA --output results/avad
        --model 1=runs/avinet_b_1/model,2=runs/avinet_b_2/model,3=runs/avinet_b_3/model
One model per split for all six sets: the public code trains on the union of the six training lists of one
split number, which the paper does not say. Validation is on the six TEST lists, as in the code; for a fair
choice: --config.data.validation=holdout. Validation clips every 2T frames.
Open in the paper: epochs, patience and rate of the fine-tuning (here the code's 40 epochs and 1e-4 for all
parts), how AViNet(C) brings sound to the clip's frames (see Concatenation). The code has B and T, no C. Its
authors found later that the network ignores the sound it is trained with.
Readings of the code (docs/papers.md): B's pooling, whose kernel the paper does not print, drops every second
column, T has a position table. The rows `literal_...` pool over pairs of columns, and have no table.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import SIX_SETS, Row, splits

START = {
    "vinet": {"path": "runs/vinet_dhf1k/model"},
    "soundnet": {"path": "checkpoints/soundnet", "slot": "audio_encoder"},
}
ROWS = {
    "bilinear": Row(
        {"model.fusion": "bilinear"},
        "mean of the three splits",
        published=("avinet:4:AViNet(B)", "avinet:5:AViNet(B)"),
    ),
    "transformer": Row(
        {"model.fusion": "transformer"},
        "mean of the three splits",
        published=("avinet:4:AViNet(T)", "avinet:5:AViNet(T)"),
    ),
    "concatenation": Row(
        {"model.fusion": "concatenation"},
        "mean of the three splits",
        published=("avinet:4:AViNet(C)", "avinet:5:AViNet(C)"),
    ),
    "literal_bilinear": Row(
        {"model.fusion": "bilinear", "model.fusion.columns": "pairs"}, "Eq. 1 after a max pooling; no figure"
    ),
    "literal_transformer": Row(
        {"model.fusion": "transformer", "model.fusion.positions": False}, "no position table; no figure"
    ),
} | splits("split", SIX_SETS)


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a fusion and a split; bilinear and the first where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system = "avinet"
    config.data.sources = tuple((name, 1) for name in SIX_SETS)
    config.data.stride = 64
    config.init = START
    config.epochs = 40
    config.evaluation.metric = "loss"
    config.evaluation.every = config.save_every = 21  # an epoch: 169 videos (168 of split 3) in batches of 8
    return recipes.apply(config, variants, ROWS)
