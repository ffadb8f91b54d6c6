"""From prepared data to batches on the devices: the input side of the loop."""

from __future__ import annotations

from collections.abc import Iterator

from avsal_jax.data.audio import ClipSound
from avsal_jax.data.prepared import PreparedVideo
from avsal_jax.data.sampling import Sampler, Sampling
from avsal_jax.data.sources import PreparedSources
from avsal_jax.errors import AvsalError
from avsal_jax.specs import InputSpec
from avsal_jax.threads import prefetched
from avsal_jax.training.objectives import BatchSpec
from avsal_jax.training.parallel import DataParallel
from avsal_jax.training.schema import DataConfig

_AHEAD = 2  # batches on the device before they are asked for
_INPUTS, _TARGETS = ("frames", "audio"), ("density", "fixations", "mask")


class Feed:
    """The streams of a run.

    Attributes:
      train, validation: their videos.
      rule: how the validation videos were chosen, in words.
      epoch: clips of an epoch.
      warnings: what is odd about the sound, in words.

    Args:
      config: the data, with at least one source.
      spec: the clip that the network takes.
      seed: of the order.
      parallel: the devices.

    Raises:
      AvsalError: as `PreparedSources` and `clip_batches`; no training video.
    """

    def __init__(self, config: DataConfig, spec: InputSpec, seed: int, parallel: DataParallel):
        self._config, self._spec, self._seed, self._parallel = config, spec, seed, parallel
        sources = PreparedSources(config.root)
        self.train, self.validation, self.rule = sources.split(
            config.sources, config.validation, config.holdout, seed
        )
        self._passing = Sampling("all_windows", stride=config.stride or 4 * spec.frames, shuffle=False)
        self.epoch = Sampler(self.train, spec, config.sampling, seed).epoch
        self.warnings = _sound_warnings([*self.train, *self.validation], spec)

    def batches(self, stream: BatchSpec, first_step: int, steps: int) -> Iterator[dict]:
        """Yields the batches of steps `first_step` to `steps` - 1 of a stream, on the devices."""
        batches = self._stream(
            self.train,
            sampling=self._config.sampling,
            seed=self._seed,
            first_step=first_step,
            steps=steps - first_step,
        )
        kept = _INPUTS + _TARGETS if stream.labelled else _INPUTS
        return prefetched(self._placed(batches, kept), _AHEAD)

    def validation_batches(self) -> Iterator[dict]:
        """Yields one pass over the validation clips; rows that fill up the last batch are masked."""
        batches = self._stream(self.validation, sampling=self._passing, one_pass=True)
        return prefetched(self._placed(batches, _INPUTS + _TARGETS), _AHEAD)

    def _stream(self, videos, **options):
        from avsal_jax.data.pipeline import clip_batches

        config = self._config
        return clip_batches(
            videos,
            self._spec,
            config.batch,
            shard=self._parallel.process,
            workers=config.workers or None,
            **options,
        )

    def _placed(self, batches, kept) -> Iterator[dict]:
        from avsal_jax.data.pipeline import numpy_batches

        try:
            for batch in numpy_batches(batches):
                yield self._parallel.split({name: batch[name] for name in kept if name in batch})
        except AvsalError as error:
            raise AvsalError(
                f"cannot read the prepared data in {self._config.root}: {error}; run avsal prepare "
                "again, which mends what is damaged, and then this command"
            ) from error


def _sound_warnings(videos: list[PreparedVideo], spec: InputSpec) -> list[str]:
    """Returns what has to be done to the sound of some videos, with the number of videos."""
    if spec.audio is None:
        return []
    silent = [video for video in videos if video.sound is None]
    told: dict[str, int] = {}
    for video in videos:
        if video.sound is not None:
            words = ClipSound(video.sound, spec.audio, spec.frames, video.fps).warning
            if words:
                told[words] = told.get(words, 0) + 1
    lines = [f"{count} of {len(videos)} videos: {words}" for words, count in told.items()]
    if silent:
        lines.append(f"{len(silent)} of {len(videos)} videos have no sound: the network hears silence")
    return lines
