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
ROWS = {
    "visual": Row(
        DEAF | {"init": S3D},
        published=("casp_net:4:CASP-Net(V, from scratch)", "casp_net:5:CASP-Net(V, from scratch)"),
    ),
    "audio_visual": Row(
        {"init": S3D | VGGISH},
        published=("casp_net:4:CASP-Net(AV, from scratch)", "casp_net:5:CASP-Net(AV, from scratch)"),
    ),
    "visual_dhf1k": Row(
        DEAF | {"init": VISUAL}, published=("casp_net:4:CASP-Net(V)", "casp_net:5:CASP-Net(V)")
    ),
    "audio_visual_dhf1k": Row(
        {"init": VISUAL | VGGISH}, published=("casp_net:4:CASP-Net(AV)", "casp_net:5:CASP-Net(AV)")
    ),
    "literal": Row(literal("own"), "Eqs. 4 and 7 as printed: mu_i by its own error; no figure"),
    "literal_text": Row(literal("above"), "the same by the text below Eq. 7: the activity above; no figure"),
    "literal_loss": Row({"loss.cc": 0.1}, "Eqs. 9 and 11 as printed, which punish correlation; no figure"),
} | splits("split", SIX_SETS)


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
