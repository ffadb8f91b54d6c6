"""Adaptation between domains without labels of the target (Fan et al. 2022, table 2).

    avsal prepare --dataset avad --root DATA --output prepared         # and diem, coutrot1
    avsal train --config dual_domain_adapt:diem_no_da --workdir runs/diem_no_da
    avsal train --config dual_domain_adapt:diem_then_da_both --workdir runs/diem_both
    avsal evaluate --dataset diem --protocol vinet --root DATA --model runs/diem_both/model
        --output results/diem
    avsal evaluate --dataset diem --list domain:nature_test --protocol vinet --root DATA
        --model runs/social_both/model --output results/nature

For use: train the row TARGET_no_da, then TARGET_then_da_both. It continues runs/TARGET_no_da/model, and the
last step counts. The rows TARGET_da_... are the paper's words: 200 steps of Adam at 1e-5 from a fresh fusion,
which move a weight by about 200 * 1e-5 = 2e-3 at most, so that the fusion remains nearly as it was drawn.
Starts from: runs/vinet_dhf1k/model (picture and decoder), and SoundNet in checkpoints/soundnet
(checkpoints/README.md says how to get it); fusion and discriminators are fresh.
Expected: the figures of the rows, on the test list of the target. diem, coutrot1: from AVAD to these. faces,
social: to Nature from YOUR OWN lists faces.txt and social.txt, one `set video` per line; the paper's are not
published. Nature is rebuilt from AVE: domain:nature_train and domain:nature_test have the paper's sizes.
From the paper: Adam, KL, unit weights; without adaptation rate 1e-4 and batch 8, with it 1e-5 and 6. This
confounds the two, so `..._no_da_slow` trains without adaptation at 1e-5 and 6.
Open in the paper: splits (here the first), epochs (40 of the source), batch (here 6 + 6), the strength of the
reversal (here 1; DANN's: --config.objective.reversal=ramp), validation (here the source's: test list, or a
tenth of a list). Reading (docs/papers.md): the max pooling; `diem_literal` keeps all columns.
"""

import ml_collections

from avsal_jax.training import adaptation, recipes
from avsal_jax.training.recipes import Row

START = {
    "vinet": {"path": "runs/vinet_dhf1k/model"},
    "soundnet": {"path": "checkpoints/soundnet", "slot": "audio_encoder"},
}
SOURCES = {"diem": "AVAD", "coutrot1": "AVAD", "faces": "Faces", "social": "Social"}
SLOW, ROWS = {"optimizer.learning_rate": 1e-5, "data.batch": 6}, {}
for name, source in SOURCES.items():
    has_list = name in ("faces", "social")
    clips = {"data.sources": (f"{name}.txt",), "data.validation": "holdout"} if has_list else {}
    target = ("domain:nature_train",) if has_list else ((name, 1),)
    dataset = "nature" if has_list else name
    keys = {
        approach: (f"dual_domain:2:Dual-domain(from {source}, {approach}):{dataset}",)
        for approach in ("w/o DA", "DA(audio)", "DA(audio + fusion)")
    }
    ROWS[f"{name}_no_da"] = Row(clips, published=keys["w/o DA"])
    ROWS[f"{name}_no_da_slow"] = Row(clips | SLOW, "rate and batch of the adapted rows; no figure")
    ROWS[f"{name}_da_audio"] = Row(
        clips | SLOW | {"objective": adaptation(target, "audio")}, published=keys["DA(audio)"]
    )
    ROWS[f"{name}_da_both"] = Row(
        clips | SLOW | {"objective": adaptation(target, "audio", "fused")},
        published=keys["DA(audio + fusion)"],
    )
    after = {"init": {"no_da": {"path": f"runs/{name}_no_da/model"}}, "evaluation.export": "last"}
    for row in ("da_audio", "da_both"):
        changes = ROWS[f"{name}_{row}"].changes | after
        ROWS[f"{name}_then_{row}"] = Row(changes, f"from {name}_no_da; no figure")
PAIRS = {"model.fusion.columns": "pairs"}
ROWS["diem_literal"] = Row(ROWS["diem_da_both"].changes | PAIRS, "diem_da_both with all columns; no figure")


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; without one, AVAD alone."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system = "dual_domain"
    config.data.sources = (("avad", 1),)
    config.data.stride = 64
    config.init = START
    config.epochs = 40
    config.evaluation.metric = "loss"
    config.evaluation.every = config.save_every = 5  # an epoch of AVAD: 30 videos in batches of 6
    return recipes.apply(config, variants, ROWS)
