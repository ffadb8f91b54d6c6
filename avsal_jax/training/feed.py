"""From prepared data to batches on the devices: the input side of the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from avsal_jax.data.clip_sound import ClipSound
from avsal_jax.data.dataset import find_dataset
from avsal_jax.data.feature_cache import SHARED, FeatureCache
from avsal_jax.data.prepared import PreparedVideo
from avsal_jax.data.sampling import Sampler, Sampling
from avsal_jax.data.sources import PreparedSources
from avsal_jax.errors import AvsalError
from avsal_jax.spec.input import InputSpec
from avsal_jax.threads import prefetched
from avsal_jax.training.domain_adversarial import AdaptConfig
from avsal_jax.training.objectives import BatchSpec
from avsal_jax.training.parallel import DataParallel
from avsal_jax.training.schema import DataConfig

_AHEAD = 2  # batches on the device before they are asked for
_TARGET_SEED = 2**32  # added for the target domain; no run has such a seed, so nothing is drawn twice
_INPUTS, _TARGETS = ("frames", "audio"), ("density", "fixations", "mask")


class Feed:
    """The streams of a run.

    Attributes:
      train, validation: their videos.
      target: videos of the domain that is adapted to; none without `adapt`.
      rule: how the validation videos were chosen, in words.
      epoch: clips of an epoch.
      warnings: what is odd about the sound, in words.

    Args:
      config: the data, with at least one source.
      spec: the clip that the network takes.
      seed: of the order.
      parallel: the devices.
      adapt: the target domain, or None.

    Raises:
      AvsalError: as `PreparedSources` and `clip_batches`; no training video; a video in both domains.
    """

    def __init__(
        self,
        config: DataConfig,
        spec: InputSpec,
        seed: int,
        parallel: DataParallel,
        adapt: AdaptConfig | None = None,
    ):
        self._config, self._spec, self._seed, self._parallel = config, spec, seed, parallel
        sources = PreparedSources(config.root)
        self.train, self.validation, self.rule = sources.split(
            config.sources, validation=config.validation, fraction=config.holdout, seed=seed
        )
        self._target_root = config.root if adapt is None else adapt.root or config.root
        self.target = [] if adapt is None else self._target_videos(adapt)
        self._passing = Sampling("all_windows", stride=config.stride or 4 * spec.frames, shuffle=False)
        self.epoch = Sampler(self.train, spec=spec, sampling=config.sampling, seed=seed).epoch
        self._features: FeatureCache | None = None
        self.warnings = _sound_warnings([*self.train, *self.validation, *self.target], spec)

    def use_features(self, features: FeatureCache) -> None:
        """Gives clips with cached features in place of their frames from now on; the cache has all videos."""
        self._features = features

    def source(self) -> str:
        """Returns the source of all clips, as `Clip.source`: `still` where every video has one frame.

        Raises:
          AvsalError: some videos have one frame and some more, among those of training, validation and
            adaptation.
        """
        videos = [*self.train, *self.validation, *self.target]
        stills = [video for video in videos if video.frames == 1]
        if not stills:
            return "video"
        if len(stills) == len(videos):
            return "still"
        clip = next(video for video in videos if video.frames > 1)
        raise AvsalError(
            "this model has a part that differs for photographs and videos, and a run takes only one of "
            f"them: {stills[0].dataset} {stills[0].name} is a photograph, {clip.dataset} {clip.name} has "
            f"{clip.frames} frames; put them into two runs, or change data.sources"
        )

    def batches(self, stream: BatchSpec, first_step: int, steps: int) -> Iterator[dict]:
        """Yields the batches of steps `first_step` to `steps` - 1 of a stream, on the devices."""
        videos, sampling, seed, root = self.train, self._config.sampling, self._seed, self._config.root
        if stream.domain == "target":  # where its truth is black is not looked at: that would be a label
            videos, root = self.target, self._target_root
            sampling, seed = dataclasses.replace(sampling, skip_black=False), seed + _TARGET_SEED
        batches = self._stream(
            videos, sampling=sampling, seed=seed, first_step=first_step, steps=steps - first_step
        )
        names = [*_INPUTS, *(_TARGETS if stream.labelled else ())]
        if self._features is not None:  # the labelled frame serves the pictures of validation
            names.remove("frames")
        return prefetched(self._placed(batches, names, root), _AHEAD)

    def validation_batches(self, native: bool = False) -> Iterator[dict]:
        """Yields one pass over the validation clips; rows that fill up the last batch are masked.

        Args:
          native: targets are those of `clip_batches(targets="native")`, of this process's rows, on the host.
        """
        targets = "native" if native else "model"
        batches = self._stream(self.validation, sampling=self._passing, one_pass=True, targets=targets)
        names = _INPUTS if native else _INPUTS + _TARGETS
        host = (*_TARGETS, "size") if native else ()
        return prefetched(self._placed(batches, names, self._config.root, host=host), _AHEAD)

    def _target_videos(self, adapt: AdaptConfig) -> list[PreparedVideo]:
        """Returns the videos of the target domain; labels may be missing, and are never read."""
        try:
            videos = PreparedSources(self._target_root).videos(adapt.sources, "train", labelled=False)
        except AvsalError as error:
            raise AvsalError(f"adapt.sources: {error}") from error
        known = {(video.dataset, video.name): video for video in [*self.train, *self.validation]}
        shared = [video for video in videos if _same(video, known.get((video.dataset, video.name)))]
        if shared:
            raise AvsalError(
                f"the domains overlap: {shared[0].dataset} {shared[0].name} and {len(shared) - 1} more "
                "videos of adapt.sources train or validate in data.sources with labels; take them out of one"
            )
        return videos

    def _stream(self, videos, **options):
        from avsal_jax.data.pipeline import clip_batches

        config = self._config
        return clip_batches(
            videos,
            self._spec,
            config.batch,
            shard=self._parallel.process,
            workers=config.workers or None,
            features=self._features,
            **options,
        )

    def _placed(self, batches, inputs, root, host=()) -> Iterator[dict]:
        """Yields batches with `inputs` and cached features on the devices, and `host` as NumPy arrays."""
        from avsal_jax.data.pipeline import numpy_batches

        try:
            for batch in numpy_batches(batches):
                names = [name for name in batch if name in inputs or name.startswith(SHARED)]
                placed = self._parallel.split({name: batch[name] for name in names})
                yield placed | {name: batch[name] for name in host}
        except AvsalError as error:
            raise AvsalError(
                f"cannot read the prepared data in {root}: {error}; run avsal prepare "
                "again, which mends what is damaged, and then this command"
            ) from error


def _same(video: PreparedVideo, other: PreparedVideo | None) -> bool:
    """Whether they are one video; those of generated sets have the same names, but other pictures."""
    if other is None or find_dataset(video.dataset).generator is None:
        return other is not None
    return video.pictures_digest() == other.pictures_digest()


def _sound_warnings(videos: list[PreparedVideo], spec: InputSpec) -> list[str]:
    """Returns what has to be done to the sound of some videos, with the number of videos."""
    if spec.audio is None:
        return []
    silent = [video for video in videos if video.sound is None]
    told: dict[str, int] = {}
    for video in videos:
        if video.sound is not None:
            words = ClipSound(video.sound, front_end=spec.audio, frames=spec.frames, fps=video.fps).warning
            if words:
                told[words] = told.get(words, 0) + 1
    lines = [f"{count} of {len(videos)} videos: {words}" for words, count in told.items()]
    if silent:
        lines.append(f"{len(silent)} of {len(videos)} videos have no sound: the network hears silence")
    return lines
