"""Computes and caches the features of a frozen encoder for all frames of a run's videos."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import avsal_jax
from avsal_jax.data.prepared.feature_cache import FeatureCache
from avsal_jax.data.prepared.videos import PreparedVideo
from avsal_jax.errors import AvsalError
from avsal_jax.identity import digest
from avsal_jax.models.network import Network
from avsal_jax.models.systems import Preset
from avsal_jax.training.program import Program

# Increase it when an encoder changes its output for the same weights.
_VERSION = 1
_BATCH = 8  # frames per call


def cached_features(
    program: Program, variables: dict, videos: Sequence[PreparedVideo], say: Callable[[str], None]
) -> FeatureCache:
    """Returns a cache with the features that clips share, for all frames of videos.

    Missing features are computed. A rerun resumes at the first missing video.

    Args:
      program: with a network whose stem is frozen.
      variables: its initial variables.
      videos: prepared videos.
      say: prints a line on the console.

    Raises:
      AvsalError: the network's encoder has no frozen stem; pictures cannot be read, or the disk is full.
    """
    network = program.network
    cache = _open_cache(network, program.preset, variables)
    missing = [video for video in videos if not cache.has(video)]
    if not missing:
        return cache
    frames = sum(video.frames for video in missing)
    size = sum(int(np.prod(shape)) for shape in cache.shapes) * 2 * frames / 1e6
    say(f"caching features of {len(missing)} of {len(videos)} videos: {frames} frames, {size:,.0f} MB")
    run = functools.partial(jax.jit(network.frame_features), variables)
    announced, levels = 0, _levels(run, missing)
    for number, video in enumerate(missing, 1):
        cache.write(video, itertools.islice(levels, video.frames))
        if 10 * number // len(missing) > announced:
            announced = 10 * number // len(missing)
            say(f"features of {number} of {len(missing)} videos are cached")
    return cache


def _open_cache(network: Network, preset: Preset, variables: dict) -> FeatureCache:
    if not network.stem_is_frozen:
        raise AvsalError(
            "data.cached_features needs a visual encoder that works on single frames and is frozen, such as "
            "model.visual_encoder=efficientnet_lite0 with model.visual_encoder.frozen=8"
        )
    spec = network.input
    described = preset.complete().to_dict()
    key = digest(
        [
            _VERSION,
            avsal_jax.__version__,
            described["visual_encoder"],
            {name: described[name] for name in ("height", "width", "pixels")},
            str(jnp.dtype(network.visual_encoder.runtime.dtype)),
            _weights_digest({name: part.get("visual_encoder", {}) for name, part in variables.items()}),
        ]
    )
    frames = jax.ShapeDtypeStruct((1, spec.height, spec.width, 3), np.uint8)
    shapes = jax.tree.leaves(jax.eval_shape(network.frame_features, variables, frames))
    return FeatureCache(key, [feature.shape[1:] for feature in shapes])


def _levels(run: Callable, videos: Sequence[PreparedVideo]) -> Iterator[list[np.ndarray]]:
    """Yields the feature levels of each frame, [1, h, w, c] each.

    The last batch is padded, so that all batches use one compiled program.
    """
    from avsal_jax.data.prepared.pipeline import picture_batches

    for frames in picture_batches(videos, _BATCH):
        filled = np.concatenate([frames, np.repeat(frames[-1:], _BATCH - len(frames), 0)])
        levels = [np.asarray(level, np.float16) for level in jax.tree.leaves(run(filled))]
        for number in range(len(frames)):
            yield [level[number : number + 1] for level in levels]


def _weights_digest(variables: dict) -> str:
    content = hashlib.sha256()
    for path, leaf in sorted(jax.tree.leaves_with_path(variables), key=lambda item: str(item[0])):
        content.update(str(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()
