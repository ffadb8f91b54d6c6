"""ViNet on DHF1K, and its ablations (Jain et al. 2021, tables 1 and 2, section 4.4).

    avsal prepare --dataset dhf1k --root DATA --output prepared
    avsal train --config vinet_dhf1k --workdir runs/vinet_dhf1k
    avsal evaluate --dataset dhf1k --split val --root DATA --model runs/vinet_dhf1k/model
        --protocol dhf1k --postprocess vinet --output results/vinet_dhf1k
    avsal compare results/vinet_dhf1k "published:avinet:2:ViNet(T=32)" --output compared/vinet_dhf1k

Starts from: S3D trained on Kinetics-400, in checkpoints/s3d_kinetics400 (checkpoints/README.md says how to
get it); the decoder is fresh. Frames are normalised as for ImageNet, though S3D was trained on [-1, 1].
Expected: the figures of the rows (avsal train --list), on the validation list; of the recipe also table 3, on
the test list.
From the paper: 224x384, batch 8, Adam, rate 1e-4, KL, early stopping on the validation list.
From the public code, where the paper is silent: one random clip of each video an epoch, no augmentation, 40
epochs of which the one with the lowest validation loss counts (no patience), batch norm momentum 0.999,
validation clips every 4T frames. Open in both: the layers of `transposed` and `join_channels`
(see ViNetDecoder). Eqs. 2 to 4 are as printed (docs/papers.md). One departure from both: no clip with black
truth is drawn, as in the code for the audio-visual sets.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

ROWS = {
    "table1_hierarchy": Row(
        {}, "the recipe itself", published=("avinet:1:ViNet(with hierarchy)", "avinet:3:ViNet:dhf1k")
    ),
    "table1_no_hierarchy": Row(
        {"model.heads.saliency.hierarchy": 0}, published=("avinet:1:ViNet(without hierarchy)",)
    ),
    "hierarchy1": Row({"model.heads.saliency.hierarchy": 1}, "one level, a class of the code; no figure"),
    "hierarchy2": Row({"model.heads.saliency.hierarchy": 2}, "two levels, a class of the code; no figure"),
    "table2_t8": Row({"model.frames": 8}, published=("avinet:2:ViNet(T=8)",)),
    "table2_t16": Row({"model.frames": 16}, published=("avinet:2:ViNet(T=16)",)),
    "table2_t32": Row({"model.frames": 32}, published=("avinet:2:ViNet(T=32)",)),
    "table2_t48": Row({"model.frames": 48}, published=("avinet:2:ViNet(T=48)",)),
    "trilinear": Row(
        {"model.heads.saliency.upsample": "trilinear"}, published=("avinet:4.4:ViNet(trilinear)",)
    ),
    "transposed": Row(
        {"model.heads.saliency.upsample": "transposed"}, published=("avinet:4.4:ViNet(transposed)",)
    ),
    "join_time": Row(
        {"model.heads.saliency.join": "time"}, "the recipe itself", published=("avinet:2:ViNet(T=32)",)
    ),
    "join_channels": Row(
        {"model.heads.saliency.join": "channels"},
        "DHF1K val: 'a similar performance', no figure (section 4.4)",
    ),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row, or of several that go together."""
    config = ml_collections.ConfigDict(recipes.defaults(unbiased_variance=True))
    config.data.sources = (("dhf1k", None),)
    config.init = {"s3d": {"path": "checkpoints/s3d_kinetics400", "slot": "visual_encoder"}}
    config.epochs = 40
    config.evaluation.metric = "loss"
    config.evaluation.every = config.save_every = 75  # an epoch: 600 videos in batches of 8
    return recipes.apply(config, variants, ROWS)
