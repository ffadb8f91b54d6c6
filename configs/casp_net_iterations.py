"""CASP-Net with 0 to 5 iterations of predictive coding, on AVAD and DIEM (Xiong et al. 2023, figure 5).

    avsal prepare --dataset avad --root DATA --output prepared         # and diem
    avsal train --config casp_net_iterations:figure5_n3,split1 --workdir runs/n3_1
    avsal evaluate --dataset diem --protocol stavis --root DATA --output results/diem
        --model 1=runs/n3_1/model,2=runs/n3_2/model,3=runs/n3_3/model

Starts from: S3D (Kinetics-400) in checkpoints/s3d_kinetics400 and VGGish (AudioSet) in checkpoints/vggish
(checkpoints/README.md); the rest is fresh.
Expected: curves without figures, which rise up to three iterations. Whether the paper trained a network for
each number is open (figure 6 changes it in one trained network, whose weights fit any number). Here 0, where
the coding does nothing, to 5.
From the paper, open in it, and departures (docs/papers.md): as casp_net_av. With the mean of Eq. 7
(--config.model.fusion.coding.reduction=mean) all numbers of iterations give nearly the same map.
tools/coding_iterations.py draws the curves of one trained network. Epochs: 200 of 94 videos. `six1` to `six3`
train on six sets.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import SIX_SETS, Row, splits

START = {
    "s3d": {"path": "checkpoints/s3d_kinetics400", "slot": "visual_encoder"},
    "vggish": {"path": "checkpoints/vggish", "slot": "audio_encoder"},
}
ROWS = {
    f"figure5_n{number}": Row({"model.fusion.coding.iterations": number}, "a curve, no figure")
    for number in range(6)
}
ROWS |= splits("split", ("avad", "diem")) | splits("six", SIX_SETS, 105)


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a number of iterations and a split; 3 and the first where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.model.system, config.model.norm_momentum = "casp_net", 0.99
    config.data.sources = (("avad", 1), ("diem", 1))
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="casp_net")
    config.init = START
    config.epochs, config.evaluation.metric = 200, "loss"
    config.evaluation.every = config.save_every = 120  # ten epochs: 94 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
