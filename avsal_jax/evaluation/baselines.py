"""Baselines and the ceiling as sources of maps.

Centre prior, mean map (MEP), motion energy, spectral residual; human observers (HI).
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy.ndimage
from PIL import Image

from avsal_jax.data.fitting import resize_frame
from avsal_jax.data.fixation_maps import Fixations, rescale_points
from avsal_jax.data.raw_fixations import Observer, coutrot_clips, diem_observers
from avsal_jax.data.schema import VideoEntry
from avsal_jax.data.synthetic.gaze import BLUR, luminance, motion_maps
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.evaluation.sources import MapSource
from avsal_jax.identity import digest, tree_identity
from avsal_jax.pictures import resize_map, to_grey

_SIZE = (224, 384)
_MEAN_FRAMES = 40  # of each training video, evenly spaced
_SPECTRAL_WIDTH = 64  # pixels at which the spectrum is taken


class _Constant(MapSource):
    """The same map for every frame."""

    def __init__(self, saliency: np.ndarray, label: str, identity: str):
        self._saliency, self.label, self._identity = saliency, label, identity

    def identity(self, entry: VideoEntry) -> str:
        """Returns what the map was made of."""
        return self._identity

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray]:
        """Yields the map, stored once."""
        stored = protocol.store(self._saliency, entry.frame_size)
        for _ in range(entry.frames):
            yield stored


def centre_maps() -> _Constant:
    """Returns a Gaussian in the middle, its standard deviations a quarter of height and of width."""
    rows, columns = np.meshgrid(*(np.linspace(-2, 2, n) for n in _SIZE), indexing="ij")
    return _Constant(np.exp(-(rows**2 + columns**2) / 2).astype(np.float32), "centre prior", "centre prior 1")


def mean_maps(training: Sequence[VideoEntry]) -> _Constant:
    """Returns the mean of the truth over the training videos, each video with the same weight (MEP).

    Of each video at most 40 evenly spaced frames are read.

    Raises:
      AvsalError: there is no training video.
    """
    usable = [(entry, [i for i in range(entry.frames) if entry.has_truth(i)]) for entry in training]
    usable = [(entry, labelled) for entry, labelled in usable if labelled]
    if not usable:
        raise AvsalError("the mean map needs the training list of the set, with its files")
    total = np.zeros(_SIZE)
    for entry, labelled in usable:
        picked = np.unique(np.linspace(0, len(labelled) - 1, _MEAN_FRAMES).round().astype(int))
        total += np.mean([resize_map(entry.density(labelled[index]), *_SIZE) for index in picked], 0)
    made_of = digest([[entry.dataset, entry.name, *entry.identity()] for entry, _ in usable])
    return _Constant((total / len(usable)).astype(np.float32), "mean map (MEP)", f"mean of {made_of}")


class _OfFrames(MapSource):
    """A rule on the luminance of a frame and of the frame before it; large frames are seen at 224x384."""

    def __init__(self, rule: Callable[[np.ndarray, np.ndarray], np.ndarray], label: str):
        self._rule, self.label = rule, label

    def identity(self, entry: VideoEntry) -> str:
        """Returns the rule's name and version."""
        return f"{self.label} 1"

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray]:
        """Yields the rule's map; the first frame has that of the second."""
        size, before = entry.frame_size, self._seen(entry, min(1, entry.frames - 1))
        for index in range(entry.frames):
            light = self._seen(entry, index)
            yield protocol.store(self._rule(before, light), size)
            before = light

    def _seen(self, entry: VideoEntry, index: int) -> np.ndarray:
        frame = entry.frame(index)
        if frame.shape[0] * frame.shape[1] > _SIZE[0] * _SIZE[1]:
            frame = resize_frame(frame, *_SIZE)
        return luminance(frame[None])[0]


def motion_energy_maps() -> _OfFrames:
    """Returns |change of luminance since the frame before|, blurred by a Gaussian of sigma H/16."""
    return _OfFrames(lambda before, light: motion_maps(np.stack([before, light]))[-1], "motion energy")


def spectral_residual_maps() -> _OfFrames:
    """Returns the rule of Hou and Zhang, "Saliency detection: a spectral residual approach", CVPR 2007."""
    return _OfFrames(lambda before, light: spectral_residual(light), "spectral residual")


def spectral_residual(light: np.ndarray) -> np.ndarray:
    """Returns the map [h, 64] of a picture's luminance [H, W] (Hou and Zhang 2007, equations 6 to 9).

    At 64 pixels of width, as the paper has it: the log amplitude of the spectrum less its 3x3 mean, back with
    the picture's own phase, squared, and blurred by a Gaussian of sigma 2.5, as in their MATLAB lines.
    """
    height = max(1, round(light.shape[0] * _SPECTRAL_WIDTH / light.shape[1]))
    small = Image.fromarray(light).resize((_SPECTRAL_WIDTH, height), Image.Resampling.BILINEAR)  # antialiased
    spectrum = np.fft.fft2(np.asarray(small, np.float64))
    amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = amplitude - scipy.ndimage.uniform_filter(amplitude, 3, mode="nearest")
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    return scipy.ndimage.gaussian_filter(saliency, 2.5, mode="constant").astype(np.float32)


class HumanMaps(MapSource):
    """Half of the observers predict the other half (HI): their fixations, blurred.

    Args:
      observers: video name -> (observers, (height, width) of the frames that they saw).
      raw: the identity of the files that they come from.
      sigma: pixels; of the Gaussian at the size of the truth.
    """

    label = "human (HI)"

    def __init__(
        self,
        observers: dict[str, tuple[tuple[Observer, ...], tuple[int, int]]],
        raw: str,
        sigma: float = 20.0,
    ):
        self._observers, self._sigma, self._raw = observers, sigma, raw

    def identity(self, entry: VideoEntry) -> str:
        """Returns that of the raw fixations."""
        return f"human split half, sigma {self._sigma}, {self._raw}"

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """At least two observers are needed."""
        count = len(self._observers[entry.name][0]) if entry.name in self._observers else 0
        return [] if count >= 2 else [f"{entry.name}: {count} observers; a split half needs at least 2"]

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Yields the blurred fixations of every second observer, for the frames that have truth."""
        if told := self.problems(entry, protocol):
            raise AvsalError(told[0].removeprefix(f"{entry.name}: "))
        for index in range(entry.frames):
            yield to_grey(self._blurred(entry, index, 0)) if entry.has_truth(index) else None

    def density(self, entry: VideoEntry, index: int) -> np.ndarray:
        """Returns the blurred fixations of the other half, its largest value 1."""
        density = self._blurred(entry, index, 1)
        top = density.max()
        return density / top if top > 0 else density

    def fixations(self, entry: VideoEntry, index: int) -> Fixations:
        """Returns the fixations of the other half."""
        return Fixations(self._points(entry, index, 1))

    def _points(self, entry: VideoEntry, index: int, half: int) -> np.ndarray:
        observers, size = self._observers.get(entry.name, ((), (1, 1)))
        seen = [place for one in observers[half::2] if (place := one.at(index)) is not None]
        points = np.array(seen, np.int64).reshape(-1, 2)
        return rescale_points(points, size, entry.truth_size(index))

    def _blurred(self, entry: VideoEntry, index: int, half: int) -> np.ndarray:
        density = np.zeros(entry.truth_size(index))
        points = self._points(entry, index, half)
        np.add.at(density, (points[:, 0], points[:, 1]), 1.0)
        return scipy.ndimage.gaussian_filter(density, self._sigma, mode="constant")


def human_maps(dataset: str, raw: pathlib.Path | None, entries: Sequence[VideoEntry]) -> HumanMaps:
    """Reads raw fixations: for `diem` and `synthetic` a folder with one of event files per video (`<video>`
    or `<video>/event_data`), for `coutrot1` and `coutrot2` the database's .mat file.

    Raises:
      AvsalError: no raw fixations are named, or the set has none of a known form.
    """
    if raw is None:
        raise AvsalError("--model human needs --observers with the raw fixations of the set")
    if not raw.exists():
        raise AvsalError(f"there is no {raw}; --observers names the raw fixations of the set")
    origin = tree_identity(raw)
    if dataset in ("coutrot1", "coutrot2"):
        clips = coutrot_clips(raw)
        return HumanMaps(
            {name: (clip.observers, (clip.height, clip.width)) for name, clip in clips.items()}, origin
        )
    if dataset not in ("diem", "synthetic"):
        raise AvsalError(
            f"--model human knows the raw fixations of diem, coutrot1, coutrot2, synthetic; not of {dataset}"
        )
    found = {}
    for entry in entries:
        if not entry.frames:
            continue
        folder = next((f for f in (raw / entry.name / "event_data", raw / entry.name) if f.is_dir()), None)
        if folder is not None:
            height, width = entry.frame_size
            found[entry.name] = (diem_observers(folder, width, height), (height, width))
    if dataset == "synthetic" and found:  # its frames are small: as its truth is made
        return HumanMaps(found, origin, BLUR * next(iter(found.values()))[1][0])
    return HumanMaps(found, origin)
