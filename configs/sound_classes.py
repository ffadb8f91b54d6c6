"""SoundNet or VGGish on the classes of sound of generated sets, for other recipes to start from.

    avsal prepare --dataset synthetic --set objects=2 --set videos=800 --output prepared
    avsal train --config sound_classes --workdir runs/soundnet_synthetic
    avsal train --config sound_classes:pitched --workdir runs/pitch
    avsal train --config sound_classes:vggish --workdir runs/vggish_synthetic

A softmax on the mean of the tokens says the class of a random clip's sound; it is thrown away, and the model
is the encoder alone, for --config.init.sound.path=runs/soundnet_synthetic/model
--config.init.sound.slot=audio_encoder. Several sets: --config.objective.sets="('A','B')"; their classes are
different ones. In `pitched` each video is heard at eight pitches, drawn up to two octaves from the recorded
one: the encoders of the papers have heard more than one instrument of a kind. Clips have the frames and the
buffer of the network that it is for.
Starts from: fresh values. Expected: nothing is published; validation prints the accuracy.
"""

import ml_collections

from avsal_jax.training import recipes
from avsal_jax.training.recipes import Row

ROWS = {
    "pitched": Row({"objective.pitch": 2.0, "steps": 1200}, "nothing published"),
    "vggish": Row({"model.system": "vggish", "model.frames": 16}, "nothing published"),
}


def get_config(variants: str = "") -> ml_collections.ConfigDict:
    """Returns the config of a row; of SoundNet at the recorded pitch where none is named."""
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.update(system="soundnet", frames=8, audio_encoder={"width": 0.25})
    config.objective = {"name": "sound_classes", "sets": ("prepared/synthetic-source",)}
    config.data.batch = 32
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule.name = "cosine"
    config.steps = 600
    config.evaluation.update(every=100, metric="loss", export="last", pictures=0)
    config.save_every = 100
    config = recipes.apply(config, variants, ROWS)
    if config.model.system == "soundnet":
        config.model.audio = {"samples": 12766}
    return config
