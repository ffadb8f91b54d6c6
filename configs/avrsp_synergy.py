"""AVRSP's ablations of synergy (MS) and gates (MRG), on DIEM and AVAD (Yu et al. 2024, tables III, IV).

    avsal prepare --dataset diem --root DATA --output prepared         # and avad
    avsal train --config avrsp_dhf1k:pairs2 --workdir runs/avrsp_dhf1k_pairs2
    avsal train --config avrsp_synergy:table4_av_2,split1 --workdir runs/av_2_1
    avsal evaluate --dataset avad --fold 1 --protocol vinet --root DATA --model runs/av_2_1/model
        --output results/av_2_1

Starts from: runs/avrsp_dhf1k_ROW/model with the same synergy and gates (bare, ms, mrg, pairs0 to pairs4);
rows with audio also from SoundNet in checkpoints/soundnet (checkpoints/README.md). The fusion is fresh.
Expected: the figures of the rows. Rows that the paper prints twice (`both`, 3 pairs) are one recipe.
Open in the paper, with what avrsp_av says: whether DHF1K comes first here too, as in table I, whose rows
the whole network's are (of the six sets: `six1` to `six3`). Table IV names no set: by its rows of 3 it is
DIEM. Its rows of 0 differ from table III's without MS and MRG: here, as a guess, III reads the coarsest level
alone ("only fused features serve as the primary input"), IV all of them. Departures: docs/papers.md.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import SIX_SETS, Row, splits

SOUND = {"soundnet": {"path": "checkpoints/soundnet", "slot": "audio_encoder"}}
TABLE3 = {  # video only; with audio
    "bare": ("DIEM 0.519 0.628 2.38 0.901, AVAD 0.514 0.673 3.56 0.927",
             "DIEM 0.539 0.663 2.57 0.905, AVAD 0.528 0.683 3.69 0.922"),
    "ms": ("DIEM 0.533 0.654 2.66 0.904, AVAD 0.529 0.687 3.74 0.932",
           "DIEM 0.551 0.676 2.72 0.908, AVAD 0.540 0.696 3.77 0.932"),
    "mrg": ("DIEM 0.538 0.647 2.53 0.902, AVAD 0.526 0.691 3.69 0.930",
            "DIEM 0.546 0.673 2.73 0.907, AVAD 0.544 0.692 3.72 0.930"),
    "both": ("DIEM 0.545 0.668 2.67 0.907, AVAD 0.533 0.697 3.75 0.933",
             "DIEM 0.559 0.685 2.78 0.911, AVAD 0.549 0.704 3.84 0.933"),
}  # fmt: skip
TABLE4 = {
    "4": ("0.665 2.68 0.905 0.540", "0.683 2.75 0.909 0.556"),
    "3": ("0.668 2.67 0.907 0.545", "0.685 2.78 0.911 0.559"),
    "2": ("0.669 2.64 0.904 0.541", "0.681 2.80 0.907 0.554"),
    "1": ("0.661 2.60 0.904 0.536", "0.676 2.73 0.908 0.554"),
    "0": ("0.652 2.54 0.900 0.528", "0.670 2.64 0.903 0.547"),
}
PARTS = {"bare": ("bare", 0, 0, "none"), "ms": ("ms", 3, 0, "plain"), "mrg": ("mrg", 0, 3, "plain")}
PARTS |= {str(n): (f"pairs{n}", n, n, "plain") for n in range(5)} | {"both": ("pairs3", 3, 3, "plain")}


def row(paper: str, name: str, hears: bool) -> Row:
    """Returns a network that states all its parts, after its own step on DHF1K."""
    before, pairs, gates, skips = PARTS[name]
    regulator = {"name": "gates", "gates": gates} if gates else None
    parts = {"model.regulator": regulator, "model.neck.pairs": pairs, "model.heads.saliency.skips": skips}
    first = {"visual": {"path": f"runs/avrsp_dhf1k_{before}/model"}}
    if hears:
        return Row(parts | {"model.fusion": "ravf", "init": first | SOUND}, paper)
    return Row(parts | {"model.audio_encoder": None, "model.fusion": None, "init": first}, paper)


ROWS = {}
for number, title, table in ((3, "SIM, CC, NSS, AUC-J", TABLE3), (4, "CC, NSS, AUC-J, SIM", TABLE4)):
    for place, mode in enumerate(("v", "av")):
        for name, printed in table.items():
            ROWS[f"table{number}_{mode}_{name}"] = row(f"{title}: {printed[place]}", name, mode == "av")
ROWS |= splits("split", ("diem", "avad")) | splits("six", SIX_SETS, 21)


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row and a split; table3_av_both and the first where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system = "avrsp"
    config.data.sources = (("diem", 1), ("avad", 1))
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="avrsp")
    config.optimizer.update(name="adamw", weight_decay=1e-5)
    config.optimizer.schedule.update(name="plateau", factor=0.5)
    config.init = {"visual": {"path": "runs/avrsp_dhf1k_pairs3/model"}} | SOUND
    config.epochs, config.evaluation.metric = 100, "loss"
    config.evaluation.every = config.save_every = 12  # an epoch: 94 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
