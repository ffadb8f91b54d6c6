"""The interface of objectives: data streams, additional variables, and the loss of a step."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.data.prepared.feature_cache import SHARED
from avsal_jax.errors import AvsalError
from avsal_jax.losses import Term
from avsal_jax.models.network import Network
from avsal_jax.spec.fields import check_fields
from avsal_jax.spec.input import InputSpec
from avsal_jax.types import Clip

if TYPE_CHECKING:
    from avsal_jax.data.prepared.videos import PreparedVideo
    from avsal_jax.training.schema import TrainConfig

Batch = dict  # as from `data.prepared.pipeline.clip_batches`, on the device
LABELLED = "labelled"  # the stream of labelled training data


@dataclasses.dataclass(frozen=True)
class Stream:
    """Batches of clips of prepared videos.

    Attributes:
      labelled: whether its clips have targets. Otherwise labels are never read and may be missing.
      sources: as `data.sources`; of sets the training list, of list files all videos. None for
        `data.sources`.
      root: the folder of the prepared sets of `sources`; '' for `data.root`.
    """

    labelled: bool = True
    sources: tuple | None = None
    root: str = ""


@dataclasses.dataclass(frozen=True)
class Steps:
    """The batches that a stream must yield.

    Attributes:
      first, last: steps from `first` to `last` - 1.
      batch: clips per step over all processes.
      seed: of the sampling. The batch of a step must depend only on the seed and the step, so that a
        resumed run gets the same batches.
      shard: (index, count) of this process.
      spec: the clip that the network takes.
    """

    first: int
    last: int
    batch: int
    seed: int
    shard: tuple[int, int]
    spec: InputSpec

    @property
    def rows(self) -> slice:
        """The rows of a global batch that belong to this process."""
        index, count = self.shard
        size = self.batch // count
        return slice(index * size, (index + 1) * size)


class MadeStream(abc.ABC):
    """Batches that an objective generates."""

    @abc.abstractmethod
    def batches(self, steps: Steps) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batch of each step: arrays by name, with only the rows `steps.rows`."""


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig(abc.ABC):
    """The config of an objective, in `config.objective`; its fields are those of the objective.

    Attributes:
      on_videos: whether it trains maps of labelled videos. This requires `data.sources` and a network that is
        a system, and validation scores its maps.
      takes_cached_features: whether `data.cached_features` may be set.
    """

    on_videos: ClassVar[bool] = True
    takes_cached_features: ClassVar[bool] = True

    def __post_init__(self):
        check_fields(self, "objective.")

    @abc.abstractmethod
    def build(self, network: Network, terms: tuple[Term, ...], medium: str = "video") -> Objective:
        """Returns the objective.

        Args:
          network: the network to train.
          terms: of `config.loss`.
          medium: of all clips; as `Clip.medium`.

        Raises:
          AvsalError: the network lacks outputs that the objective needs.
        """

    def streams(self) -> dict[str, Stream | MadeStream]:
        """Returns the streams by name; `labelled` is the labelled training data."""
        return {LABELLED: Stream()}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of features of the network that the loss uses in addition to logits."""
        return ()

    def check(self, config: TrainConfig) -> None:
        """Raises AvsalError if other fields of a config are incompatible with the objective."""
        if config.data.cached_features and not self.takes_cached_features:
            raise AvsalError("data.cached_features is incompatible with this objective; set only one of them")

    def check_videos(self, videos: Mapping[str, Sequence[PreparedVideo]], labelled: Sequence) -> None:  # noqa: B027
        """Raises AvsalError if the videos of streams are incompatible.

        Args:
          videos: of the streams with their own sources, by name.
          labelled: training and validation videos of `data.sources`.
        """

    def notes(self, videos: Mapping[str, Sequence[PreparedVideo]]) -> dict[str, str]:
        """Returns lines for the log and the report, by title, about the training data.

        Args:
          videos: as in `check_videos`.
        """
        return {}


@flax.struct.dataclass
class StepInputs:
    """The inputs of a step in addition to the parameters.

    Attributes:
      batch_stats: of the network and of the objective's modules.
      extra: of `extra_variables`, as updated by previous steps.
      batches: by name of `ObjectiveConfig.streams`; the truth of clips whose `mask` is False is not used.
      step: int32, from 0.
      rng: random key of the step.
      total: number of steps of the run.
    """

    batch_stats: dict
    extra: dict
    batches: dict[str, Batch]
    step: jax.Array
    rng: jax.Array
    total: int = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class StepOutputs:
    """The outputs of a step in addition to the loss.

    Attributes:
      batch_stats, extra: as in `StepInputs`, after the step.
      values: to log, by name.
    """

    batch_stats: dict
    extra: dict
    values: dict[str, jax.Array]


class Objective(abc.ABC):
    """The interface between the training loop and an objective."""

    def extra_variables(self, seed: int) -> dict:
        """Returns the variables of the objective that are not part of the network.

        `params` and `batch_stats` are those of its modules, by module name; `extra` is any other state, such
        as a memory of earlier clips.
        """
        return {"params": {}, "batch_stats": {}, "extra": {}}

    def inner_updates(self, params: dict, inputs: StepInputs) -> tuple[dict, StepInputs]:
        """Returns the parameters at which the gradient of the step is computed, and the inputs.

        By default both are unchanged. Override it to update modules of the objective before the network.
        """
        return params, inputs

    @abc.abstractmethod
    def loss(self, params: dict, inputs: StepInputs) -> tuple[jax.Array, StepOutputs]:
        """Returns the loss, a scalar, and the other outputs of the step.

        Args:
          params: of the network and of `extra_variables`.
          inputs: the other inputs.
        """

    def validate(self, params: dict, batch_stats: dict) -> tuple[dict[str, float], int] | None:
        """Returns values by name, including `loss`, and the number of clips; None to score maps instead.

        All processes call it and must get the same result.
        """
        return None


def joined_variables(variables: dict, extra: dict) -> dict:
    """Returns the variables of a network joined with an objective's `extra_variables`."""
    joined = {name: {**variables.get(name, {}), **extra[name]} for name in ("params", "batch_stats")}
    return {**joined, "extra": extra.get("extra", {})}


def clip_of(batch: Batch, medium: str = "video") -> Clip:
    """Returns the clips of a batch as input of the network: frames, or their cached features."""
    shared = tuple(batch[name] for name in sorted(batch) if name.startswith(SHARED))
    if shared:
        return Clip(None, batch.get("audio"), shared=shared, medium=medium)
    return Clip(batch.get("frames"), batch.get("audio"), medium=medium)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean of values [B] where mask [B] is True; 0 if it is nowhere True."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
