"""Sources of maps of the baselines: centre prior, mean map (MEP), motion energy, spectral residual."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.ndimage
from PIL import Image

from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.map_sources import MapSource
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.identity import digest
from avsal_jax.media.cues import luminance, motion_maps
from avsal_jax.media.fitting import resize_frame
from avsal_jax.pictures import resize_map

_SIZE = (224, 384)
_MEAN_FRAMES = 40  # of each training video, evenly spaced
_SPECTRAL_WIDTH = 64  # pixels at which the spectrum is taken


class Constant(MapSource):
    """The same map for every frame of every video."""

    def __init__(self, saliency: np.ndarray, label: str, identity: str):
        self._saliency, self.label, self._identity = saliency, label, identity

    def identity(self, entry: VideoEntry) -> str:
        """Returns the identity of the map."""
        return self._identity

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray]:
        """Yields the map for every frame; it is converted once."""
        stored = protocol.store(self._saliency, entry)
        for _ in range(entry.frames):
            yield stored


class _CentrePrior(Constant):
    """The centre prior; on a grid it is evaluated at the centre of each cell."""

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray]:
        if protocol.grid is None:
            yield from super().maps(entry, protocol)
            return
        size = protocol.grid.size(entry)
        centres = [4 * (np.arange(n) + 0.5) / n - 2 for n in size]  # in standard deviations
        yield from [_gaussian(*centres)] * entry.frames


def centre_maps() -> Constant:
    """Returns a Gaussian in the middle, its standard deviations a quarter of height and of width."""
    saliency = _gaussian(*(np.linspace(-2, 2, n) for n in _SIZE)).astype(np.float32)
    return _CentrePrior(saliency, "centre prior", "centre prior 1")


def _gaussian(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.exp(-(rows[:, None] ** 2 + columns**2) / 2)


def mean_maps(training: Sequence[VideoEntry]) -> Constant:
    """Returns the mean of the truth over the training videos, each video with the same weight (MEP).

    Of each video at most 40 evenly spaced frames are read.

    Raises:
      AvsalError: no training video has truth.
    """
    mean, usable = mean_density(training)
    made_of = digest([[entry.dataset, entry.name, *entry.identity()] for entry in usable])
    return Constant(mean, "mean map (MEP)", f"mean of {made_of}")


def mean_density(
    training: Sequence[VideoEntry], progress: Callable = lambda entries: entries
) -> tuple[np.ndarray, list[VideoEntry]]:
    """Returns the mean float32 [224, 384] of the truth, and the videos with truth; see `mean_maps`."""
    total, usable = np.zeros(_SIZE), []
    for entry in progress(training):
        labelled = [index for index in range(entry.frames) if entry.has_truth(index)]
        if not labelled:
            continue
        indices = np.unique(np.linspace(0, len(labelled) - 1, _MEAN_FRAMES).round().astype(int))
        total += np.mean([resize_map(entry.truth(labelled[index]).density, *_SIZE) for index in indices], 0)
        usable.append(entry)
    if not usable:
        raise AvsalError("the mean map needs the training list of the set, with its files")
    return (total / len(usable)).astype(np.float32), usable


class _OfFrames(MapSource):
    """A rule on the luminance of a frame and the previous one; large frames are resized to 224x384."""

    def __init__(self, rule: Callable[[np.ndarray, np.ndarray], np.ndarray], label: str):
        self._rule, self.label = rule, label

    def identity(self, entry: VideoEntry) -> str:
        """Returns the rule's name and version."""
        return f"{self.label} 1"

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Yields the map of each frame; the first frame has the map of the second.

        With a grid, yields None for frames that are not scored.
        """
        scored = range(entry.frames) if protocol.grid is None else frozenset(protocol.scored_indices(entry))
        light = functools.lru_cache(maxsize=2)(functools.partial(self._luminance, entry))
        for index in range(entry.frames):
            if index not in scored:
                yield None
                continue
            before = light(index - 1 if index else min(1, entry.frames - 1))
            yield protocol.store(self._rule(before, light(index)), entry)

    def _luminance(self, entry: VideoEntry, index: int) -> np.ndarray:
        frame = entry.frame(index)
        if frame.shape[0] * frame.shape[1] > _SIZE[0] * _SIZE[1]:
            frame = resize_frame(frame, *_SIZE)
        return luminance(frame[None])[0]


def motion_energy_maps() -> _OfFrames:
    """Returns the source |change of luminance since the previous frame|, blurred with sigma H/16."""
    return _OfFrames(lambda before, light: motion_maps(np.stack([before, light]))[-1], "motion energy")


def spectral_residual_maps() -> _OfFrames:
    """Returns the source of Hou and Zhang, "Saliency detection: a spectral residual approach", CVPR 2007."""
    return _OfFrames(lambda before, light: spectral_residual(light), "spectral residual")


def spectral_residual(light: np.ndarray) -> np.ndarray:
    """Returns the map [h, 64] of a picture's luminance [H, W] (Hou and Zhang 2007, equations 6 to 9).

    At a width of 64 pixels, as in the paper: the log amplitude of the spectrum minus its 3x3 mean, inverse
    transformed with the original phase, squared, and blurred with sigma 2.5, as in the authors' MATLAB code.
    """
    height = max(1, round(light.shape[0] * _SPECTRAL_WIDTH / light.shape[1]))
    small = Image.fromarray(light).resize((_SPECTRAL_WIDTH, height), Image.Resampling.BILINEAR)  # antialiased
    spectrum = np.fft.fft2(np.asarray(small, np.float64))
    amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = amplitude - scipy.ndimage.uniform_filter(amplitude, 3, mode="nearest")
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    return scipy.ndimage.gaussian_filter(saliency, 2.5, mode="constant").astype(np.float32)
