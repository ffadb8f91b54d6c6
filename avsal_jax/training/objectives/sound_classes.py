"""Classification of sounds of generated sets, to pre-train audio encoders."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from avsal_jax.errors import AvsalError
from avsal_jax.models.network import Network, feature_shapes
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range
from avsal_jax.synthetic.settings import CLASSES
from avsal_jax.training.objectives.objective import (
    LABELLED,
    MadeStream,
    Objective,
    ObjectiveConfig,
    StepOutputs,
    Steps,
)
from avsal_jax.types import Clip

PLACES = 4  # clips per video in validation
_TOKENS, _SOFTMAX = "audio", "classes"  # the feature, and the module that is not exported


@register("objective", "sound_classes")
@dataclasses.dataclass(frozen=True)
class SoundClassesConfig(ObjectiveConfig):
    """Classifies the sound of clips of generated sets by the mean of an audio encoder's tokens.

    Training uses the training lists; validation computes loss and accuracy on the validation lists. Only the
    encoder is exported, without the softmax.

    Attributes:
      sets: folders with synthetic.json. Classes of several sets are distinct, since the correspondence is
        unknown.
      pitch: maximum change of pitch in octaves, up and down. Each video is used at eight random pitches, so
        that the pitch is independent of the class; 0: as recorded.
    """

    sets: tuple[str, ...] = ()
    pitch: Annotated[float, Range(0, 3)] = 0.0

    on_videos: ClassVar[bool] = False
    takes_cached_features: ClassVar[bool] = False

    def build(self, network, terms, medium="video"):
        return SoundClasses(network, config=self)

    def streams(self):
        return {LABELLED: SoundStream(self.sets, self.pitch)}

    @property
    def feature_names(self):
        return (_TOKENS,)

    @property
    def classes(self) -> int:
        """The number of classes over all sets."""
        return CLASSES * len(self.sets)

    def check(self, config):
        super().check(config)
        if not self.sets:
            raise AvsalError("objective.sets is empty: name a generated set, as prepared/synthetic-source")
        if config.evaluation.metric != "loss":
            raise AvsalError("evaluation.metric must be 'loss' with this objective, which has no maps")

    def notes(self, videos):
        from avsal_jax.synthetic.sounds import videos_with_class

        count = sum(len(videos_with_class(root, "train")) for root in self.sets)
        words = "a synthetic set" if len(self.sets) == 1 else f"{len(self.sets)} synthetic sets"
        return {"training data": f"the {self.classes} classes of sound of {count} training videos of {words}"}


@dataclasses.dataclass(frozen=True)
class SoundStream(MadeStream):
    """Random clips of sound with their classes: `audio` [B, ...] and `kind` int [B].

    Attributes:
      sets, pitch: as in `SoundClassesConfig`.
    """

    sets: tuple[str, ...]
    pitch: float

    def batches(self, steps: Steps) -> Iterator[dict[str, np.ndarray]]:
        from avsal_jax.synthetic.sounds import Sounds

        sounds = Sounds(self.sets, "train", steps.spec, pitch=self.pitch, seed=steps.seed)
        for step in range(steps.first, steps.last):
            draws = np.random.default_rng((steps.seed, step))
            videos, places = draws.integers(len(sounds), size=steps.batch), draws.random(steps.batch)
            clips = list(zip(videos, places, strict=True))[steps.rows]
            waves, kinds = zip(*(sounds.clip(video, place) for video, place in clips), strict=True)
            yield {"audio": np.stack(waves), "kind": np.array(kinds, np.int32)}


class SoundClasses(Objective):
    """Cross-entropy of a softmax on the mean of the tokens.

    Logged: `accuracy`.

    Args:
      network: with an audio encoder.
      config: the sets.

    Raises:
      AvsalError: a network without an audio encoder.
    """

    def __init__(self, network: Network, config: SoundClassesConfig):
        self._network, self._config = network, config
        self._channels = feature_shapes(network, (_TOKENS,))[_TOKENS].shape[-1]
        self._judge = jax.jit(self._scores)

    def extra_variables(self, seed):
        kernel = jnp.zeros((self._channels, self._config.classes))
        return {"params": {_SOFTMAX: {"kernel": kernel}}, "batch_stats": {}, "extra": {}}

    def loss(self, params, inputs):
        batch = inputs.batches[LABELLED]
        outputs = self._network.run(
            {"params": params, "batch_stats": inputs.batch_stats},
            Clip(None, batch["audio"]),
            train=True,
            rngs={"dropout": inputs.rng},
            features=(_TOKENS,),
        )
        scores = outputs.features[_TOKENS].mean(1) @ params[_SOFTMAX]["kernel"]
        accuracy = jnp.mean(scores.argmax(-1) == batch["kind"])
        entropy = optax.softmax_cross_entropy_with_integer_labels(scores, batch["kind"]).mean()
        return entropy, StepOutputs(outputs.batch_stats, inputs.extra, {"accuracy": accuracy})

    @functools.cached_property
    def _held_out(self):
        from avsal_jax.synthetic.sounds import Sounds

        return Sounds(self._config.sets, "val", self._network.input)

    def validate(self, params, batch_stats):
        entropies, hits = [], []
        for video in range(len(self._held_out)):
            clips = (self._held_out.clip(video, place / PLACES) for place in range(PLACES))
            waves, kinds = zip(*clips, strict=True)
            scores = self._judge(params, batch_stats, np.stack(waves))
            labels = np.array(kinds, np.int32)
            entropies += [*optax.softmax_cross_entropy_with_integer_labels(scores, labels).tolist()]
            hits += [*(np.asarray(scores).argmax(-1) == labels)]
        return {"loss": float(np.mean(entropies)), "accuracy": float(np.mean(hits))}, len(hits)

    def _scores(self, params, batch_stats, waves):
        variables = {"params": params, "batch_stats": batch_stats}
        tokens = self._network.run(variables, Clip(None, waves), features=(_TOKENS,)).features[_TOKENS]
        return tokens.mean(1) @ params[_SOFTMAX]["kernel"]
