"""The dual domain-adversarial model, unadapted, on the six audio-visual sets (Fan et al. 2022, tables 3, 4).

    avsal prepare --dataset diem --root DATA --output prepared         # likewise the other five
    avsal train --config dual_domain_av:cross_modal,split1 --workdir runs/dual_1    # likewise split2, split3

Starts from: runs/vinet_dhf1k/model (picture and decoder), and SoundNet in checkpoints/soundnet
(checkpoints/README.md says how to get it); the fusion is fresh.
Expected: the figures of the rows, unweighted means of the six sets. To evaluate each set, and to compare:
    avsal evaluate --dataset avad --protocol vinet --root DATA --output results/avad
        --model 1=runs/dual_1/model,2=runs/dual_2/model,3=runs/dual_3/model
    avsal compare results/* --output compared
From the paper: Adam, 1e-4, batch 8, KL. Open in it: splits (here one model per split, on the union of the
sets, as AViNet's code), epochs (40, of which the lowest validation loss counts), validation (the TEST lists,
as that code; for a fair choice --config.data.validation=holdout).
Table 3's rows C and B, and table 4's AViNet, are the means of what the AViNet paper prints for its fusions C,
B and T, whose networks these are; the CC of C, 0.6167, is a misprint (that mean is 0.6100).
Reading (docs/papers.md): the "max pooling layer", of which 42 outputs are printed, is that of AViNet's code,
and drops every second column; `literal` has pooling over pairs of columns (columns=pairs).
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import SIX_SETS, Row, splits

START = {
    "vinet": {"path": "runs/vinet_dhf1k/model"},
    "soundnet": {"path": "checkpoints/soundnet", "slot": "audio_encoder"},
}
ROWS = {
    "cross_modal": Row(
        {"model.fusion": "cross_modal"},
        published=("dual_domain:3:Dual-domain(CM)", "dual_domain:4:Dual-domain(CM)"),
    ),
    "bilinear": Row({"model.fusion": "bilinear"}, published=("dual_domain:3:Dual-domain(B)",)),
    "concatenation": Row(
        {"model.fusion": "concatenation"},
        "its CC is a misprint: the mean of AViNet(C) is 0.6100",
        published=("dual_domain:3:Dual-domain(C)",),
    ),
    "avinet": Row({"model.fusion": "transformer"}, published=("dual_domain:4:AViNet(T)",)),
    "literal": Row(
        {"model.fusion": "cross_modal", "model.fusion.columns": "pairs"},
        "max pooling that keeps all columns; no figure",
    ),
} | splits("split", SIX_SETS)


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a fusion and a split; cross_modal and the first where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system = "dual_domain"
    config.data.sources = tuple((name, 1) for name in SIX_SETS)
    config.data.stride = 64
    config.init = START
    config.epochs = 40
    config.evaluation.metric = "loss"
    config.evaluation.every = config.save_every = 21  # an epoch: 169 videos (168 of split 3) in batches of 8
    return recipes.apply(config, variants, ROWS)
