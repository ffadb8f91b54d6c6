"""CASP-Net at a quarter of the width on the synthetic set: which of its forms use the sound?

    avsal prepare --dataset synthetic --set objects=2 --set videos=800 --output prepared
    python tools/pretrain_sound.py --encoder vggish --frames 16 --root prepared/synthetic-source
        --output runs/vggish_synthetic
    avsal train --config casp_net_synthetic:heard --workdir runs/heard
    python tools/sound_report.py --model runs/heard/model --root prepared/synthetic-source

Starts from: VGGish trained on the classes of sound of the training list; the rest is fresh. Clips of 16
frames of 64x96, one log-mel patch. Expected: nothing is published. What the algebra says of the forms as
printed, with one tiled sound token and values of the picture: `quadratic` does not depend on the sound at
all, `linear` by a scalar for each visual token. `heard` takes its values from the sound and has predictive
coding; `printed` is the paper's whole network. Another rate: --config.optimizer.learning_rate=RATE.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

ROWS = {
    "picture": Row(
        {"model.set": "audio_encoder=none,fusion=none,audio=null", "init": ()}, "nothing published"
    ),
    "heard": Row({"model.set": "fusion.values=audio"}, "nothing published"),
    "printed": Row({}, "nothing published"),
    "linear": Row({"model.set": "fusion.coding=false"}, "nothing published"),
    "quadratic": Row({"model.set": "fusion.interaction=quadratic,fusion.coding=false"}, "nothing published"),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; of the network as printed where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.system, config.model.norm_momentum = "casp_net", 0.99
    config.model.set = (
        "frames=16,height=64,width=96,"
        "visual_encoder.width=0.25,neck.width=0.25,audio_encoder.width=0.25,decoder.width=0.25"
    )
    config.data.sources = (("synthetic", None),)
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="casp_net")
    config.init = (("runs/vggish_synthetic", "audio_encoder", ""),)
    config.optimizer.learning_rate = 4e-4
    config.optimizer.schedule.name = "cosine"
    config.steps, config.epochs = 3000, 0
    config.evaluation.every = config.save_every = 250
    return recipes.apply(config, variants, ROWS)
