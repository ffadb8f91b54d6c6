"""The input pipeline of the training loop: prepared data to batches on the devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from avsal_jax.data.prepared.feature_cache import SHARED, FeatureCache
from avsal_jax.data.prepared.sampling import Sampler, Sampling
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.data.prepared.videos import PreparedVideo
from avsal_jax.errors import AvsalError
from avsal_jax.media.clip_sound import ClipSound
from avsal_jax.runtime.parallel import DataParallel
from avsal_jax.runtime.threads import prefetched
from avsal_jax.spec.input import InputSpec
from avsal_jax.training.objectives.objective import MadeStream, ObjectiveConfig, Steps, Stream
from avsal_jax.training.schema import DataConfig

_AHEAD = 2  # batches that are prefetched to the device
_OTHER_SEED = 2**32  # added for each stream with its own sources; above all seeds of runs
_INPUTS, _TARGETS = ("frames", "audio"), ("density", "fixations", "mask")


class Feed:
    """The streams of a run.

    Attributes:
      train, validation: the videos.
      other_videos: videos of the objective's streams that have sources of their own, by name.
      rule: description of how the validation videos were selected.
      clips_per_epoch: number of training clips in an epoch; 0 if the objective takes no videos.
      warnings: messages about unusual audio.

    Args:
      config: the data, with at least one source.
      spec: the clip that the network takes.
      seed: of the sampling order.
      parallel: the devices.
      objective: defines the streams; None for labelled clips only.

    Raises:
      AvsalError: as `PreparedSources` and `clip_batches`; no training video; the objective refuses the
        videos.
    """

    def __init__(
        self,
        config: DataConfig,
        spec: InputSpec,
        seed: int,
        parallel: DataParallel,
        objective: ObjectiveConfig | None = None,
    ):
        self._config, self._spec, self._seed, self._parallel = config, spec, seed, parallel
        self._streams = {} if objective is None else objective.streams()
        self.train, self.validation, self.rule, self.clips_per_epoch = [], [], "", 0
        if objective is None or objective.on_videos:
            self.train, self.validation, self.rule = PreparedSources(config.root).split(
                config.sources, validation=config.validation, fraction=config.holdout, seed=seed
            )
            sampler = Sampler(self.train, spec=spec, sampling=config.sampling, seed=seed)
            self.clips_per_epoch = sampler.clips_per_epoch
        self.other_videos = self._other_videos()
        if objective is not None:
            objective.check_videos(self.other_videos, labelled=[*self.train, *self.validation])
        stride = config.stride or 4 * spec.frames
        self._validation_sampling = Sampling("all_windows", stride=stride, shuffle=False)
        self._validation_streams: dict = {}  # tf.data pipelines by `native`; each takes 0.2 s to build
        self._features: FeatureCache | None = None
        self.warnings = _sound_warnings(self._videos(), spec)

    def _videos(self) -> list[PreparedVideo]:
        """Returns all videos."""
        return [
            *self.train,
            *self.validation,
            *(video for part in self.other_videos.values() for video in part),
        ]

    def use_features(self, features: FeatureCache) -> None:
        """Replaces frames by cached features in all later batches; the cache must have all videos."""
        self._features = features
        self._validation_streams.clear()

    def medium(self) -> str:
        """Returns the medium of all clips, as `Clip.medium`: `still` if every video has one frame.

        Raises:
          AvsalError: among all streams and validation, some videos have one frame and some more.
        """
        videos = self._videos()
        stills = [video for video in videos if video.frames == 1]
        if not stills:
            return "video"
        if len(stills) == len(videos):
            return "still"
        clip = next(video for video in videos if video.frames > 1)
        raise AvsalError(
            "this model has a part that differs for photographs and videos, and a run takes only one of "
            f"them: {stills[0].dataset} {stills[0].name} is a photograph, {clip.dataset} {clip.name} has "
            f"{clip.frames} frames; use two runs, or change data.sources"
        )

    def batches(self, name: str, first_step: int, steps: int) -> Iterator[dict]:
        """Yields the batches of steps `first_step` to `steps` - 1 of a stream, on the devices."""
        stream, seed = self._streams.get(name, Stream()), self._seed_of(name)
        if isinstance(stream, MadeStream):
            return prefetched(
                self._placed_made(
                    stream,
                    Steps(
                        first_step,
                        steps,
                        batch=self._config.batch,
                        seed=seed,
                        shard=self._parallel.process,
                        spec=self._spec,
                    ),
                ),
                _AHEAD,
            )
        videos, sampling = self.other_videos.get(name, self.train), self._config.sampling
        root = stream.root or self._config.root
        if not stream.labelled:  # black truth is not skipped: that would use labels
            sampling = dataclasses.replace(sampling, skip_black=False)
        batches = self._stream(
            videos, sampling=sampling, seed=seed, first_step=first_step, steps=steps - first_step
        )
        names = [*_INPUTS, *(_TARGETS if stream.labelled else ())]
        if self._features is not None:  # only pictures of validation need the labelled frame
            names.remove("frames")
        return prefetched(self._placed(batches, names, root), _AHEAD)

    def validation_batches(self, native: bool = False) -> Iterator[dict]:
        """Yields one pass over the validation clips; padding rows of the last batch are masked.

        Args:
          native: whether targets are those of `clip_batches(targets="native")`, for the rows of this process,
            on the host.
        """
        if native not in self._validation_streams:
            targets = "native" if native else "model"
            options = {"sampling": self._validation_sampling, "one_pass": True, "targets": targets}
            self._validation_streams[native] = self._stream(self.validation, **options)
        batches = self._validation_streams[native]
        names = _INPUTS if native else _INPUTS + _TARGETS
        host = (*_TARGETS, "size") if native else ()
        return prefetched(self._placed(batches, names, self._config.root, host=host), _AHEAD)

    def _other_videos(self) -> dict[str, list[PreparedVideo]]:
        """Returns the videos of the streams with their own sources, by stream; some may lack labels."""
        videos = {}
        for name, stream in self._streams.items():
            if isinstance(stream, MadeStream) or stream.sources is None:
                continue
            sources = PreparedSources(stream.root or self._config.root)
            try:
                videos[name] = sources.videos(stream.sources, "train", labelled=stream.labelled)
            except AvsalError as error:
                raise AvsalError(f"objective.sources: {error}") from error
        return videos

    def _seed_of(self, name: str) -> int:
        """Returns the seed of a stream; every stream that is not of `data.sources` has its own."""
        streams = self._streams.items()
        names = [n for n, s in streams if isinstance(s, MadeStream) or s.sources is not None]
        return self._seed + (1 + names.index(name)) * _OTHER_SEED if name in names else self._seed

    def _placed_made(self, stream: MadeStream, steps: Steps) -> Iterator[dict]:
        for batch in stream.batches(steps):
            yield self._parallel.split(batch)

    def _stream(self, videos, **options):
        from avsal_jax.data.prepared.pipeline import clip_batches

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
        from avsal_jax.data.prepared.pipeline import numpy_batches

        try:
            for batch in numpy_batches(batches):
                names = [name for name in batch if name in inputs or name.startswith(SHARED)]
                placed = self._parallel.split({name: batch[name] for name in names})
                yield placed | {name: batch[name] for name in host}
        except AvsalError as error:
            raise AvsalError(
                f"cannot read the prepared data in {root}: {error}; run avsal prepare "
                "again, which repairs damaged data, and then this command"
            ) from error


def _sound_warnings(videos: list[PreparedVideo], spec: InputSpec) -> list[str]:
    """Returns warnings about the sound of videos, with numbers of videos."""
    if spec.audio is None:
        return []
    silent = [video for video in videos if video.sound is None]
    counts: dict[str, int] = {}
    for video in videos:
        if video.sound is not None:
            words = ClipSound.of(video.sound, spec, video.fps).warning
            if words:
                counts[words] = counts.get(words, 0) + 1
    lines = [f"{count} of {len(videos)} videos: {words}" for words, count in counts.items()]
    if silent:
        lines.append(f"{len(silent)} of {len(videos)} videos have no sound; their audio input is silence")
    return lines
