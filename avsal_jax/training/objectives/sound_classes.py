"""Classes of sound of generated sets, for audio encoders to start from."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from avsal_jax.data.audio import read_sound
from avsal_jax.data.clip_sound import ClipSound, Sound, resample
from avsal_jax.data.datasets import open_dataset
from avsal_jax.data.synthetic import read_scene
from avsal_jax.data.synthetic.dataset import NAME as SYNTHETIC
from avsal_jax.data.synthetic.settings import CLASSES
from avsal_jax.errors import AvsalError
from avsal_jax.models.network import Network, feature_shapes
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range
from avsal_jax.spec.input import InputSpec
from avsal_jax.training.objectives.objective import (
    SOURCE,
    MadeStream,
    Objective,
    ObjectiveConfig,
    StepOutputs,
    Steps,
)
from avsal_jax.types import Clip

PITCHES = 8  # of a video, where there is more than one
PLACES = 4  # clips of a video in validation
_TOKENS, _SOFTMAX = "audio", "classes"  # the feature, and the module that is thrown away


@register("objective", "sound_classes")
@dataclasses.dataclass(frozen=True)
class SoundClassesConfig(ObjectiveConfig):
    """Which class of sound a clip of a generated set has, from the mean of an audio encoder's tokens.

    Training takes the training lists; validation gives loss and accuracy on the validation lists. The softmax
    is thrown away, and the model is that of the encoder.

    Attributes:
      sets: folders that hold synthetic.json. Classes of several sets are different ones, since nothing says
        which belong together.
      pitch: each video is heard at eight pitches, drawn up to this many octaves below and above the recorded
        one, so that the pitch says nothing of the class; 0: as recorded.
    """

    sets: tuple[str, ...] = ()
    pitch: Annotated[float, Range(0, 3)] = 0.0

    on_videos: ClassVar[bool] = False
    takes_cached_features: ClassVar[bool] = False

    def build(self, network, terms, source="video"):
        return SoundClasses(network, config=self)

    def streams(self):
        return {SOURCE: SoundStream(self.sets, self.pitch)}

    @property
    def feature_names(self):
        return (_TOKENS,)

    def check(self, config):
        super().check(config)
        if not self.sets:
            raise AvsalError("objective.sets is empty: name a generated set, as prepared/synthetic-source")
        if config.evaluation.metric != "loss":
            raise AvsalError("evaluation.metric must be 'loss' with this objective, which has no maps")

    def notes(self, videos):
        count = sum(len(_labelled(root, "train")) for root in self.sets)
        words = "a synthetic set" if len(self.sets) == 1 else f"{len(self.sets)} synthetic sets"
        classes = CLASSES * len(self.sets)
        return {"training data": f"the {classes} classes of sound of {count} training videos of {words}"}


@dataclasses.dataclass(frozen=True)
class SoundStream(MadeStream):
    """Random clips of sound with their classes: `audio` [B, ...] and `kind` int [B].

    Attributes:
      sets, pitch: as of `SoundClassesConfig`.
    """

    sets: tuple[str, ...]
    pitch: float

    def batches(self, steps: Steps) -> Iterator[dict[str, np.ndarray]]:
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
        kernel = jnp.zeros((self._channels, CLASSES * len(self._config.sets)))
        return {"params": {_SOFTMAX: {"kernel": kernel}}, "batch_stats": {}, "extra": {}}

    def loss(self, params, inputs):
        batch = inputs.batches[SOURCE]
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
    def _held_out(self) -> Sounds:
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


class Sounds:
    """The sounds of the videos of a split of sets, with their classes; a video without one is left out.

    With `pitch`, octaves, each is there PITCHES times, at pitches drawn up to so far from the recorded one.
    """

    def __init__(self, sets, split: str, spec: InputSpec, pitch: float = 0.0, seed: int = 0):
        draws = np.random.default_rng(seed)
        self._frames = spec.frames
        self._videos: list[tuple[ClipSound, int, int]] = []
        for number, root in enumerate(sets):
            for entry, kind in _labelled(root, split):
                sound = read_sound(entry.sound)
                for factor in 2.0 ** draws.uniform(-pitch, pitch, PITCHES if pitch else 1):
                    clips = ClipSound(transposed(sound, factor), spec.audio, spec.frames, entry.fps)
                    self._videos.append((clips, int(entry.frames / factor), CLASSES * number + kind))

    def __len__(self):
        return len(self._videos)

    def clip(self, video: int, place: float) -> tuple[np.ndarray, int]:
        """Returns (sound, class) of the clip at a place in [0, 1) among those of a video."""
        sound, frames, kind = self._videos[video]
        first = int(place * max(1, frames - self._frames + 1))
        window = [min(first + k, frames - 1) for k in range(self._frames)]
        return sound.clip(window, frames), kind


def _labelled(root, split: str) -> list[tuple]:
    """Returns (entry, class) of the videos of a split that have a class of sound."""
    kinds = [(entry, read_scene(root, entry.name).kind) for entry in _entries(root, split)]
    videos = [(entry, kind) for entry, kind in kinds if kind is not None]
    if not videos:
        raise AvsalError(f"no video of the split {split} in {root} has a sound of a class")
    return videos


def _entries(root, split: str):
    return open_dataset(SYNTHETIC, pathlib.Path(root), split)


def transposed(sound: Sound, factor: float) -> Sound:
    """Returns a sound as when its record runs `factor` times as fast: its frequencies are so many times."""
    if factor == 1:
        return sound
    # to 50 Hz, so that the rates share a factor: resampling is quick then
    faster = Sound(sound.wave, 50 * round(sound.rate * factor / 50), sound.start / factor)
    return Sound(resample(faster, sound.rate).wave[:], sound.rate, faster.start)
