"""CASP-Net at a quarter of the width on the synthetic set: which of its forms use the sound?

    avsal prepare --dataset synthetic --set objects=2 --set videos=800 --output prepared
    avsal train --config sound_classes:vggish --workdir runs/vggish_synthetic
    avsal train --config casp_net_synthetic:heard --workdir runs/heard
    python tools/sound_report.py --model runs/heard/model --root prepared/synthetic-source
    avsal evaluate --dataset synthetic --protocol vinet --root prepared/synthetic-source
        --model runs/heard/model --output results/heard

Starts from: VGGish trained on the classes of sound of the training list; the rest is fresh. Clips of 16
frames of 64x96, one log-mel patch. Expected: nothing is published. What the algebra says of the forms as
printed, with one tiled sound token and values of the picture: `quadratic` does not depend on the sound at
all, `linear` by a scalar for each visual token. `heard` takes its values from the sound and has predictive
coding; `printed` is the paper's whole network, with the departures of casp_net_av (docs/papers.md).
Another rate: --config.optimizer.learning_rate=RATE.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

NARROW = {"width": 0.25}
ROWS = {
    "picture": Row({"model.audio_encoder": None, "model.fusion": None, "init": {}}, "nothing published"),
    "heard": Row({"model.fusion.values": "audio"}, "nothing published"),
    "printed": Row({}, "nothing published"),
    "linear": Row({"model.fusion.coding": None}, "nothing published"),
    "quadratic": Row(
        {"model.fusion.interaction": "quadratic", "model.fusion.coding": None}, "nothing published"
    ),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; of the network as printed where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.system, config.model.norm_momentum = "casp_net", 0.99
    config.model.update(frames=16, height=64, width=96)
    config.model.update(visual_encoder=NARROW, neck=NARROW, audio_encoder=NARROW, heads={"saliency": NARROW})
    config.data.sources = (("synthetic", None),)
    config.loss.update(cc=-0.1, sim=-0.1, kl_form="casp_net")
    config.init = {"vggish": {"path": "runs/vggish_synthetic/model", "slot": "audio_encoder"}}
    config.optimizer.learning_rate = 4e-4
    config.optimizer.schedule.name = "cosine"
    config.steps = 3000
    config.evaluation.every = config.save_every = 250
    return recipes.apply(config, variants, ROWS)
