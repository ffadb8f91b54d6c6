"""What is minimised: an objective names its streams, its own variables, and gives the loss of a step."""

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

Batch = dict  # as `data.prepared.pipeline.clip_batches` gives, on the device
SOURCE = "source"  # the stream of labelled training data


@dataclasses.dataclass(frozen=True)
class Stream:
    """Batches of clips of prepared videos.

    Attributes:
      labelled: whether its clips have targets; where not, labels may be missing and are never read.
      sources: as `data.sources`; the training lists are taken, list files whole. None for `data.sources`.
      root: the folder of the prepared sets of `sources`; '' for `data.root`.
    """

    labelled: bool = True
    sources: tuple | None = None
    root: str = ""


@dataclasses.dataclass(frozen=True)
class Steps:
    """Which batches a stream is to give.

    Attributes:
      first, last: steps from `first` to `last` - 1.
      batch: clips of a step over all processes.
      seed: of what is drawn. A step's batch depends on the seed and the step alone, so that a run that is
        resumed sees the same ones.
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
        """The rows of a global batch that are this process's."""
        index, count = self.shard
        size = self.batch // count
        return slice(index * size, (index + 1) * size)


class MadeStream(abc.ABC):
    """Batches that an objective makes itself."""

    @abc.abstractmethod
    def batches(self, steps: Steps) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batch of each step: arrays by name, of the rows `steps.rows` alone."""


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig(abc.ABC):
    """What a training step minimises, as `config.objective` has it; its fields are those of the objective.

    Attributes:
      on_videos: whether it trains maps of videos with truth: then `data.sources` is set, the network is a
        system, and validation scores its maps.
      takes_cached_features: whether `data.cached_features` may be set.
    """

    on_videos: ClassVar[bool] = True
    takes_cached_features: ClassVar[bool] = True

    def __post_init__(self):
        check_fields(self, "objective.")

    @abc.abstractmethod
    def build(self, network: Network, terms: tuple[Term, ...], source: str = "video") -> Objective:
        """Returns what computes the loss of a step.

        Args:
          network: that is trained.
          terms: of `config.loss`.
          source: of all clips; as `Clip.source`.

        Raises:
          AvsalError: the network does not have what the objective is of.
        """

    def streams(self) -> dict[str, Stream | MadeStream]:
        """Returns the streams by name; `source` is the labelled training data."""
        return {SOURCE: Stream()}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Features of the network that the loss is of, besides its logits."""
        return ()

    def check(self, config: TrainConfig) -> None:
        """Raises AvsalError where the rest of a config does not go with this."""
        if config.data.cached_features and not self.takes_cached_features:
            raise AvsalError("data.cached_features does not go with this objective; set one of them alone")

    def check_videos(self, videos: Mapping[str, Sequence[PreparedVideo]], labelled: Sequence) -> None:  # noqa: B027
        """Raises AvsalError where videos do not go together.

        Args:
          videos: of the streams with sources of their own, by name.
          labelled: those that train and validate.
        """

    def notes(self, videos: Mapping[str, Sequence[PreparedVideo]]) -> dict[str, str]:
        """Returns lines for the log and the report, by title; they say what is learned from.

        Args:
          videos: as in `check_videos`.
        """
        return {}


@flax.struct.dataclass
class StepInputs:
    """What a step has besides the parameters.

    Attributes:
      batch_stats: of the network and of the objective's modules.
      extra: of `extra_variables`, and what steps before made of it.
      batches: by the names of `ObjectiveConfig.streams`; clips without `mask` have no truth that counts.
      step: int32, from 0.
      rng: random key of the step.
      total: steps of the run.
    """

    batch_stats: dict
    extra: dict
    batches: dict[str, Batch]
    step: jax.Array
    rng: jax.Array
    total: int = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class StepOutputs:
    """What a step gives besides the loss.

    Attributes:
      batch_stats, extra: as of `StepInputs`, after the step.
      values: to log, by name.
    """

    batch_stats: dict
    extra: dict
    values: dict[str, jax.Array]


class Objective(abc.ABC):
    """The interface between the loop and what is learned."""

    def extra_variables(self, seed: int) -> dict:
        """Returns what it has in addition to the network.

        `params` and `batch_stats` of modules of its own, by module name, and `extra`: any other state, as a
        memory of earlier clips.
        """
        return {"params": {}, "batch_stats": {}, "extra": {}}

    def inner_updates(self, params: dict, inputs: StepInputs) -> tuple[dict, StepInputs]:
        """Returns the parameters at which the step's gradient is taken, and the inputs: those that are given.

        Here modules of the objective's own may learn before the network does.
        """
        return params, inputs

    @abc.abstractmethod
    def loss(self, params: dict, inputs: StepInputs) -> tuple[jax.Array, StepOutputs]:
        """Returns the loss, a scalar, and what else the step gives.

        Args:
          params: of the network and of `extra_variables`, together.
          inputs: the rest.
        """

    def validate(self, params: dict, batch_stats: dict) -> tuple[dict[str, float], int] | None:
        """Returns values by name, `loss` among them, and the number of clips; None to score maps instead.

        All processes call it and get the same.
        """
        return None


def joined_variables(variables: dict, extra: dict) -> dict:
    """Returns the variables of a network together with an objective's `extra_variables`."""
    joined = {name: {**variables.get(name, {}), **extra[name]} for name in ("params", "batch_stats")}
    return {**joined, "extra": extra.get("extra", {})}


def clip_of(batch: Batch, source: str = "video") -> Clip:
    """Returns the clips of a batch as the network takes them: frames, or cached features of these."""
    shared = tuple(batch[name] for name in sorted(batch) if name.startswith(SHARED))
    if shared:
        return Clip(None, batch.get("audio"), shared=shared, source=source)
    return Clip(batch.get("frames"), batch.get("audio"), source=source)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean of values [B] where mask [B]; 0 where no clip counts."""
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
