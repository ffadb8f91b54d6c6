"""AVRSP's visual branch on DHF1K: the first of its two steps (Yu et al. 2024, section IV-B).

    avsal prepare --dataset dhf1k --root DATA --output prepared
    avsal train --config avrsp_dhf1k:pairs3 --workdir runs/avrsp_dhf1k_pairs3
    avsal evaluate --dataset dhf1k --split val --root DATA --model runs/avrsp_dhf1k_pairs3/model
        --protocol dhf1k --output results/avrsp_dhf1k_pairs3

A row for each network from which avrsp_av (pairs3) and avrsp_synergy start; these configs read it from
runs/avrsp_dhf1k_ROW/model.

Starts from: S3D trained on Kinetics-400, in checkpoints/s3d_kinetics400 (checkpoints/README.md says how to
get it); neck, gates and decoder are fresh. The slot of sound is empty (zeros would have features).
Expected: nothing is printed for this step.
From the paper: 32 frames of 224x384, 80 epochs, AdamW, rate 1e-4, weight decay 1e-5, the rate halved when the
validation loss does not fall, KL - 0.1 CC - 0.1 SIM.
Open in it: batch (here 8), patience (torch's 10 validations, one an epoch), batch norm momentum (0.99: most
is fresh), and channels. The 256 of the neck make AVRSP 22 times the work of ViNet; with half of them
(--config.model.neck.width=0.5, here and in the step after) a clip takes 732 instead of 2,535 GMAC.
Departures (docs/papers.md): SIM stretches maps first; as Eq. 18 has it: --config.loss.sim_form=sums. The
start from Kinetics-400, and pixels normalised as for ImageNet, are ours: the paper says neither.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row


def row(about: str, pairs: int, gates: int, skips: str = "plain") -> Row:
    """Returns a network; all is stated, so that rows of one network are equal."""
    regulator = {"name": "gates", "gates": gates} if gates else None
    parts = {"model.regulator": regulator, "model.neck.pairs": pairs, "model.heads.saliency.skips": skips}
    return Row(parts | {"model.audio_encoder": None, "model.fusion": None}, about)


ROWS = {
    "bare": row("table III without MS and MRG", 0, 0, "none"),
    "ms": row("table III with MS", 3, 0),
    "mrg": row("table III with MRG", 0, 3),
} | {f"pairs{n}": row(f"table IV, {n} pairs" + " (the recipe itself)" * (n == 3), n, n) for n in range(5)}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; pairs3 where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system, config.model.norm_momentum = "avrsp", 0.99
    config.model.update(audio_encoder=None, fusion=None)
    config.data.sources = (("dhf1k", None),)
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="avrsp")
    config.optimizer.update(name="adamw", weight_decay=1e-5)
    config.optimizer.schedule.update(name="plateau", factor=0.5)
    config.init = {"s3d": {"path": "checkpoints/s3d_kinetics400", "slot": "visual_encoder"}}
    config.epochs, config.evaluation.metric = 80, "loss"
    config.evaluation.every = config.save_every = 75  # an epoch: 600 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
