"""AViNet and adaptation at a quarter of the width on the synthetic set: does the network use the sound?

    avsal prepare --dataset synthetic --set objects=2 --set videos=800 --output prepared
    avsal train --config sound_classes --workdir runs/soundnet_synthetic
    avsal train --config avinet_synthetic:concatenation --workdir runs/c
    python tools/sound_report.py --model runs/c/model --root prepared/synthetic-source
    avsal evaluate --dataset synthetic --protocol vinet --root prepared/synthetic-source
        --model runs/c/model --output results/c

and adaptation from domain a to b, which has other looks, timbres and (by its seed) scenes:

    avsal prepare --dataset synthetic --set objects=2 --set videos=800 --set domain=b --set seed=1
        --output prepared_b
    avsal train --config sound_classes:pitched --workdir runs/pitch
    avsal train --config avinet_synthetic:ROW --workdir runs/ROW    (source_only, da_both, da_again in turn)
    python tools/domain_report.py --model runs/da_again/model --source prepared/synthetic
        --target prepared_b/synthetic

Starts from: SoundNet trained on the classes of sound of the training list; the rest is fresh. Clips of 8
frames of 64x96 with a buffer of 12,766 samples, the shortest for two tokens. Expected: nothing is published.
A prototype ignored the sound at a rate of 2e-3 and used it at 4e-4. `source_only` starts from a SoundNet that
was trained on many pitches of each class, at a tenth of the learning rate: a SoundNet that recognises classes
by pitch maps the classes of b to two of a's, and adaptation then merges classes of a. Adapted rows start from
runs/source_only/model. They adapt only the features of target clips, by the inverted loss, because a reversed
gradient vanishes where a discriminator is certain. Discriminators have a higher rate and four more updates
per step, on clips of the last 128 steps. da_again has fresh, stronger ones. Networks: docs/papers.md.
"""

import ml_collections

from avsal_jax.training import adaptation, recipes
from avsal_jax.training.recipes import Row

TARGET = (("synthetic", None),)
DUAL = {"model.fusion": "cross_modal", "model.fusion.width": 0.25}
PITCHED = {"soundnet": {"path": "runs/pitch/model", "slot": "audio_encoder"}}
ALONE = DUAL | {"init": PITCHED, "optimizer.groups": (("audio_encoder/.*", 0.1),)}
ADAPTED = DUAL | {"init": {"source_only": {"path": "runs/source_only/model"}}, "ema": 0.99}
ADAPTED |= {"model.norm": "frozen", "optimizer.learning_rate": 2e-4, "optimizer.b1": 0.5, "steps": 2600}
ADAPTED |= {"optimizer.groups": (("discriminator_.*", 5.0),), "evaluation.export": "last"}
OPTIONS = {"root": "prepared_b", "feature_loss": "inverted", "source_share": 0.0, "reversal": "ramp"}
OPTIONS |= {"memory": 1024, "updates": 4}
ADAPTED_BOTH = ADAPTED | {"objective": adaptation(TARGET, "audio", "fused", **OPTIONS)}
SECOND_ROUND = {"init": {"da_both": {"path": "runs/da_both/model"}}, "optimizer.learning_rate": 1e-4}
SECOND_ROUND |= {"steps": 900, "objective": adaptation(TARGET, "audio", "fused", **OPTIONS | {"updates": 16})}
NARROW = {"width": 0.25}
ROWS = {
    "bilinear": Row({"model.fusion": "bilinear"}, "nothing published"),
    "concatenation": Row({"model.fusion": "concatenation"}, "nothing published"),
    "transformer": Row({"model.fusion": "transformer", "model.fusion.width": 0.25}, "nothing published"),
    "picture": Row(
        {"model.audio_encoder": None, "model.fusion": None, "model.audio": None, "init": {}}, "ViNet"
    ),
    "source_only": Row(ALONE, "the dual domain-adversarial model on domain a alone"),
    "da_audio": Row(ADAPTED | {"objective": adaptation(TARGET, "audio", **OPTIONS)}, "from a to b"),
    "da_both": Row(ADAPTED_BOTH, "from a to b"),
    "da_again": Row(ADAPTED_BOTH | SECOND_ROUND, "da_both, and a second round"),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; of concatenation where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.system = "avinet"
    config.model.update(frames=8, height=64, width=96, audio={"samples": 12766})
    config.model.update(visual_encoder=NARROW, audio_encoder=NARROW, heads={"saliency": NARROW})
    config.model.fusion = {"name": "concatenation"}
    config.model.norm_momentum = 0.99
    config.data.sources = (("synthetic", None),)
    config.init = {"soundnet": {"path": "runs/soundnet_synthetic/model", "slot": "audio_encoder"}}
    config.optimizer.learning_rate = 4e-4
    config.optimizer.schedule.name = "cosine"
    config.steps = 3000
    config.evaluation.every = config.save_every = 250
    return recipes.apply(config, variants, ROWS)
