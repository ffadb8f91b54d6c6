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
TABLE3 = {"bare": "plain", "ms": "MS", "mrg": "MRG", "both": "MS+MRG"}
TABLE4 = {str(n): f"{n} pairs" for n in (4, 3, 2, 1, 0)}
PARTS = {"bare": ("bare", 0, 0, "none"), "ms": ("ms", 3, 0, "plain"), "mrg": ("mrg", 0, 3, "plain")}
PARTS |= {str(n): (f"pairs{n}", n, n, "plain") for n in range(5)} | {"both": ("pairs3", 3, 3, "plain")}


def row(key: str, name: str, hears: bool) -> Row:
    """Returns a network that states all its parts, after its own step on DHF1K."""
    before, pairs, gates, skips = PARTS[name]
    regulator = {"name": "gates", "gates": gates} if gates else None
    parts = {"model.regulator": regulator, "model.neck.pairs": pairs, "model.heads.saliency.skips": skips}
    first = {"visual": {"path": f"runs/avrsp_dhf1k_{before}/model"}}
    if hears:
        return Row(parts | {"model.fusion": "ravf", "init": first | SOUND}, published=(key,))
    silent = {"model.audio_encoder": None, "model.fusion": None}
    return Row(parts | silent | {"init": first}, published=(key,))


ROWS = {}
for number, numeral, table in ((3, "III", TABLE3), (4, "IV", TABLE4)):
    for mode in ("V", "AV"):
        for name, printed in table.items():
            key = f"avrsp:{numeral}:AVRSP({mode}, {printed})"
            ROWS[f"table{number}_{mode.lower()}_{name}"] = row(key, name, hears=mode == "AV")
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
