"""AVRSP on the six audio-visual sets, after DHF1K (Yu et al. 2024, tables I, II).

    avsal prepare --dataset diem --root DATA --output prepared         # likewise the other five
    avsal train --config avrsp_av:audio_visual,split1 --workdir runs/avrsp_1     # likewise split2, split3

Starts from: runs/avrsp_dhf1k_pairs3/model (encoder, neck, gates, decoder), and SoundNet in
checkpoints/soundnet (checkpoints/README.md says how to get it); the fusion is fresh.
Expected: the figures of the rows, means over the three splits (DIEM has one). To evaluate:
    avsal evaluate --dataset avad --protocol vinet --root DATA --output results/avad
        --model 1=runs/avrsp_1/model,2=runs/avrsp_2/model,3=runs/avrsp_3/model
From the paper: 100 epochs, AdamW, 1e-4, weight decay 1e-5, the rate halved when the validation loss does not
fall, KL - 0.1 CC - 0.1 SIM; windows as ViNet's.
Open in it: whether `visual` was trained on two or on six sets (its figures are those of one on two),
batch (8), patience (torch's 10 validations, one an epoch of one clip of each video), splits (one model per
split, on the union of the sets), validation (the TEST lists, as ViNet's code; for a fair choice
--config.data.validation=holdout), fusion: blocks, heads, channels (see RAVF).
Departures (docs/papers.md): SIM stretches maps first (Eq. 18 does not); `literal` has Eq. 18 as printed. The
protocol of the commands, `vinet`, blurs maps by 11x11, of which the paper says nothing.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import SIX_SETS, Row, splits

VISUAL = {"visual": {"path": "runs/avrsp_dhf1k_pairs3/model"}}
SOUND = {"soundnet": {"path": "checkpoints/soundnet", "slot": "audio_encoder"}}
PARTS = {"model.regulator": {"name": "gates", "gates": 3}, "model.neck.pairs": 3}
PARTS |= {"model.heads.saliency.skips": "plain"}
ROWS = {
    "visual": Row(
        PARTS | {"model.audio_encoder": None, "model.fusion": None, "init": VISUAL},
        published=("avrsp:I:AVRSP(V)", "avrsp:II:AVRSP(V)"),
    ),
    "audio_visual": Row(
        PARTS | {"model.fusion": "ravf"}, published=("avrsp:I:AVRSP(AV)", "avrsp:II:AVRSP(AV)")
    ),
    "literal": Row(PARTS | {"model.fusion": "ravf", "loss.sim_form": "sums"}, "Eq. 18 as printed; no figure"),
} | splits("split", SIX_SETS)


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row and a split; audio_visual and the first where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system = "avrsp"
    config.data.sources = tuple((name, 1) for name in SIX_SETS)
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="avrsp")
    config.optimizer.update(name="adamw", weight_decay=1e-5)
    config.optimizer.schedule.update(name="plateau", factor=0.5)
    config.init = VISUAL | SOUND
    config.epochs, config.evaluation.metric = 100, "loss"
    config.evaluation.every = config.save_every = 21  # an epoch: 169 videos (168 of split 3) in batches of 8
    return recipes.apply(config, variants, ROWS)
