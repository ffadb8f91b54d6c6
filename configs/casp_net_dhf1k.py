"""CASP-Net's visual branch on DHF1K: the first step of its second strategy (Xiong et al. 2023, 4.1.2).

    avsal prepare --dataset dhf1k --root DATA --output prepared
    avsal train --config casp_net_dhf1k:visual --workdir runs/casp_net_dhf1k
    avsal evaluate --dataset dhf1k --split val --root DATA --model runs/casp_net_dhf1k/model
        --protocol dhf1k --output results/casp_net_dhf1k

Starts from: S3D trained on Kinetics-400, in checkpoints/s3d_kinetics400 (checkpoints/README.md says how to
get it); neck and decoder are fresh.
Expected: nothing is printed for this step; what follows is casp_net_av:visual_dhf1k and audio_visual_dhf1k.
From the paper: 16 frames of 224x384, batch 8, Adam, rate 1e-4, KL - 0.1 CC - 0.1 SIM (Eq. 8 without epsilon;
Eqs. 9 and 11 together would punish correlation, which is taken as a slip).
Open in it: epochs (here 40, of which the lowest validation loss counts), schedule (none), which frame a map
is of (the middle one, as in the evaluation that it names; --config.model.label_frame=last for ViNet's),
pixels (as ImageNet), batch norm momentum (0.99: neck and decoder are fresh). Of the departures of
casp_net_av (docs/papers.md) the sign of CC is one here too; as printed: --config.loss.cc=0.1.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

ROWS = {
    "visual": Row({}, "the recipe itself; nothing printed"),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system = "casp_net"
    config.model.update(audio_encoder=None, fusion=None)
    config.model.norm_momentum = 0.99
    config.data.sources = (("dhf1k", None),)
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="casp_net")
    config.init = {"s3d": {"path": "checkpoints/s3d_kinetics400", "slot": "visual_encoder"}}
    config.epochs = 40
    config.evaluation.metric = "loss"
    config.evaluation.every = config.save_every = 75  # an epoch: 600 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
