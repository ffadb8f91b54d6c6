"""AVRSP with other fusions, on DIEM and AVAD (Yu et al. 2024, table V).

    avsal prepare --dataset diem --root DATA --output prepared         # and avad
    avsal train --config avrsp_fusions:mbt,split1 --workdir runs/mbt_1
    avsal evaluate --dataset avad --fold 1 --protocol vinet --root DATA --model runs/mbt_1/model
        --output results/mbt_1

Starts from: runs/avrsp_dhf1k_pairs3/model (encoder, neck, gates, decoder), and where it hears SoundNet in
checkpoints/soundnet (checkpoints/README.md says how to get it); the fusion is fresh.
Expected: the figures of the rows. `visual` and `ravf` are table III's `both` in avrsp_synergy, one recipe
each; the SIM of `visual` on DIEM is 0.545 there.
Open in the paper: as avrsp_synergy; and each fusion beyond its name (see the fusions' docstrings).
Departures (docs/papers.md): as avrsp_av (SIM in the loss, blur of the protocol). `bilinear` is AViNet(B)'s,
whose pooling drops every second column.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import SIX_SETS, Row, splits

VISUAL = {"visual": {"path": "runs/avrsp_dhf1k_pairs3/model"}}
SOUND = {"soundnet": {"path": "checkpoints/soundnet", "slot": "audio_encoder"}}
REST = {"model.regulator": {"name": "gates", "gates": 3}, "model.neck.pairs": 3}
REST |= {"model.heads.saliency.skips": "plain"}
TABLE5 = {
    "addition": "add",
    "multiplication": "multiply",
    "concatenation": "concatenate",
    "bilinear": "bilinear",
    "mbt": "MBT",
    "ravf": "RAVF",
}
ROWS = {
    "visual": Row(
        REST | {"model.audio_encoder": None, "model.fusion": None, "init": VISUAL},
        published=("avrsp:V:AVRSP(V, baseline)",),
    ),
}
for name, printed in TABLE5.items():
    ROWS[name] = Row(REST | {"model.fusion": name}, published=(f"avrsp:V:AVRSP(AV, {printed})",))
ROWS |= splits("split", ("diem", "avad")) | splits("six", SIX_SETS, 21)


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a fusion and a split; ravf and the first where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system = "avrsp"
    config.data.sources = (("diem", 1), ("avad", 1))
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="avrsp")
    config.optimizer.update(name="adamw", weight_decay=1e-5)
    config.optimizer.schedule.update(name="plateau", factor=0.5)
    config.init = VISUAL | SOUND
    config.epochs, config.evaluation.metric = 100, "loss"
    config.evaluation.every = config.save_every = 12  # an epoch: 94 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
