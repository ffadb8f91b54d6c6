"""CASP-Net on the six audio-visual sets, directly or after DHF1K (Xiong et al. 2023, tables 4, 5).

    avsal prepare --dataset diem --root DATA --output prepared         # likewise the other five
    avsal train --config casp_net_av:audio_visual,split1 --workdir runs/casp_net_1   # and split2, split3

Starts from: S3D (Kinetics-400) in checkpoints/s3d_kinetics400 and VGGish (AudioSet) in checkpoints/vggish
(checkpoints/README.md): what the paper calls from scratch. The rows `..._dhf1k` take encoder, neck and
decoder from runs/casp_net_dhf1k/model; interaction and predictive coding are always fresh.
Expected: the figures of the rows, means over the three splits (DIEM has one). To evaluate:
    avsal evaluate --dataset avad --protocol stavis --root DATA --output results/avad
        --model 1=runs/casp_net_1/model,2=runs/casp_net_2/model,3=runs/casp_net_3/model
From the paper: 16 frames, batch 8, Adam, 1e-4, KL - 0.1 CC - 0.1 SIM, evaluation as STAViS.
Open in it: epochs (here 200 of one clip of each video, of which the lowest validation loss counts), splits
(one model per split, on the union of the sets), validation (the TEST lists, as ViNet's code; for a fair
choice --config.data.validation=holdout), label frame and pixels (see casp_net_dhf1k), sound of 0.64 s for a
patch of 0.96 s (in the middle of silence; audio.pad=context for what is around it).
Departures (docs/papers.md): normalizer=elements (Eq. 4 has none), reduction=sum and update=both (Eq. 7: the
MSE of one error). `literal` and `literal_text` have Eqs. 4 and 7 as printed, `literal_loss` the sign of CC
that Eqs. 9 and 11 give together.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import SIX_SETS, Row, splits

S3D = {"s3d": {"path": "checkpoints/s3d_kinetics400", "slot": "visual_encoder"}}
VGGISH = {"vggish": {"path": "checkpoints/vggish", "slot": "audio_encoder"}}
VISUAL = {"visual": {"path": "runs/casp_net_dhf1k/model"}}


def literal(update: str) -> dict:
    """Returns Eq. 4 without a normalizer, and Eq. 7 with the mean of squares."""
    return {"model.fusion": {"normalizer": "none", "coding": {"update": update, "reduction": "mean"}}}


DEAF = {"model.audio_encoder": None, "model.fusion": None}
PAPER = "test, CC, NSS, AUC-J and SIM: "
# fmt: off
ROWS = {
    "visual": Row(DEAF | {"init": S3D}, PAPER + "DIEM 0.638 2.54 0.902 0.529, "
        "Coutrot1 0.555 2.65 0.882 0.449, Coutrot2 0.756 6.01 0.961 0.566, AVAD 0.671 3.67 0.931 0.515, "
        "ETMD 0.613 3.30 0.938 0.471, SumMe 0.481 2.50 0.901 0.374"),
    "audio_visual": Row({"init": S3D | VGGISH}, PAPER + "DIEM 0.649 2.58 0.904 0.536, "
        "Coutrot1 0.560 2.66 0.887 0.453, Coutrot2 0.766 6.11 0.963 0.573, AVAD 0.685 3.77 0.932 0.528, "
        "ETMD 0.616 3.31 0.939 0.476, SumMe 0.486 2.52 0.904 0.377"),
    "visual_dhf1k": Row(DEAF | {"init": VISUAL}, PAPER + "DIEM 0.649 2.59 0.904 0.538, "
        "Coutrot1 0.559 2.64 0.888 0.445, Coutrot2 0.756 6.07 0.963 0.567, AVAD 0.681 3.75 0.931 0.526, "
        "ETMD 0.616 3.31 0.938 0.471, SumMe 0.485 2.52 0.904 0.382"),
    "audio_visual_dhf1k": Row({"init": VISUAL | VGGISH}, PAPER + "DIEM 0.655 2.61 0.906 0.543, "
        "Coutrot1 0.561 2.65 0.889 0.456, Coutrot2 0.788 6.34 0.963 0.585, AVAD 0.691 3.81 0.933 0.528, "
        "ETMD 0.620 3.34 0.940 0.478, SumMe 0.499 2.60 0.907 0.387"),
    "literal": Row(literal("own"), "Eqs. 4 and 7 as printed: mu_i by its own error; no figure"),
    "literal_text": Row(literal("above"), "the same by the text below Eq. 7: the activity above; no figure"),
    "literal_loss": Row({"loss.cc": 0.1}, "Eqs. 9 and 11 as printed, which punish correlation; no figure"),
} | splits("split", SIX_SETS)
# fmt: on


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row and a split; audio_visual and the first where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system, config.model.norm_momentum = "casp_net", 0.99
    config.data.sources = tuple((name, 1) for name in SIX_SETS)
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="casp_net")
    config.init = S3D | VGGISH
    config.epochs, config.evaluation.metric = 200, "loss"
    config.evaluation.every = config.save_every = 105  # five epochs: 169 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
