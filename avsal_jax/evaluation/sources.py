"""Where the maps that are evaluated come from: a model, or a folder of saved maps of any method."""

from __future__ import annotations

import abc
import pathlib
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from avsal_jax.data.audio import ClipSound, read_sound
from avsal_jax.data.schema import VideoEntry
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.inference.predictor import Model

_ASPECT_TOLERANCE = 0.1  # models work at one size whatever the video's, so a little is common


class MapSource(abc.ABC):
    """Gives the stored maps of a video, and what they are scored against.

    Attributes:
      label: the method's name in tables.
      fingerprint: what the maps depend on; results with another one are not reused.
    """

    label: str
    fingerprint: str

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Returns what is wrong with this source for a video, before any work."""
        return []

    @abc.abstractmethod
    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Yields for every frame its stored map, uint8 [h, w]; None where there is none."""

    def density(self, entry: VideoEntry, index: int) -> np.ndarray:
        """Returns the true density of a frame, float64 [h, w] in [0, 1]."""
        return entry.density(index)

    def fixations(self, entry: VideoEntry, index: int) -> np.ndarray:
        """Returns the true fixations of a frame, int [N, 2] (row, column)."""
        return entry.fixations(index)


class ModelMaps(MapSource):
    """Maps of a model, stored as `protocol` says."""

    def __init__(self, model: Model, label: str, batch: int | None = None):
        self._model, self._batch, self.label = model, batch, label
        weights = model.card.get("weights") or {}
        self.fingerprint = f"model {weights.get('sha256', model.card.get('system'))}"

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """A model that hears notices a video without sound, or with a silent one."""
        if self._model.spec.audio is None:
            return []
        if entry.sound is None:
            return [f"{entry.name} has no sound: the model hears silence"]
        silent = not read_sound(entry.sound).wave.any()
        return [f"{entry.name}: {entry.sound.name} is silent from beginning to end"] if silent else []

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray]:
        """Predicts the whole video, as `avsal predict` does."""
        spec, sound = self._model.spec, None
        if spec.audio is not None and entry.sound is not None:
            sound = ClipSound(read_sound(entry.sound), spec.audio, spec.frames, entry.fps).clip
        size = entry.frame(0).shape[:2]
        frames = (entry.frame(index) for index in range(entry.frames))
        for _, saliency in self._model.iter_frames(frames, self._batch, sound):
            yield protocol.store(saliency, size)


class SavedMaps(MapSource):
    """Maps that a method left in a folder: `FOLDER/<video>/` or `FOLDER/<video>/maps/`.

    Files are 8-bit PNG or JPEG whose name ends in the number of the frame, from 1: by frame
    (`img_00001.jpg`, `0001.png`), as STAViS writes them (`pred_sal_000009.jpg`), as `avsal predict` does.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        if not self.folder.is_dir():
            raise AvsalError(f"there is no folder of predictions {self.folder}")
        self.label = self.folder.name
        self.fingerprint = f"maps {self.folder.resolve()}"

    def files(self, entry: VideoEntry) -> dict[int, pathlib.Path]:
        """Returns frame index (from 0) -> file."""
        for folder in (self.folder / entry.name / "maps", self.folder / entry.name):
            if folder.is_dir():
                break
        else:
            return {}
        found = {}
        for path in sorted(folder.iterdir()):
            number = re.search(r"(\d+)$", path.stem)
            if number and path.suffix.lower() in {".png", ".jpg", ".jpeg"} and int(number[1]) > 0:
                found[int(number[1]) - 1] = path
        return found

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Frames that are scored but have no map, maps beyond the video, maps of another shape than it."""
        files = self.files(entry)
        if not files:
            return [f"{entry.name}: no predictions in {self.folder / entry.name}"]
        told = []
        scored = range(protocol.first_frame - 1, entry.frames)
        missing = [index + 1 for index in scored if index not in files]
        if missing:
            told.append(
                f"{entry.name}: {len(missing)} of {len(scored)} frames have no prediction "
                f"(the first is frame {missing[0]})"
            )
        beyond = [index + 1 for index in files if index >= entry.frames + 2]
        if beyond:
            told.append(
                f"{entry.name}: predictions up to frame {max(beyond)}, but it has {entry.frames} frames"
            )
        told += self._misshapen(entry, files)
        return told

    def _misshapen(self, entry: VideoEntry, files: dict[int, pathlib.Path]) -> list[str]:
        """A map is resized to its truth; one of another aspect ratio was probably made for something else."""
        index = min(files)
        if index >= entry.frames:
            return []
        try:
            height, width = read_map(files[index]).shape
        except AvsalError as error:
            return [str(error)]
        truth = entry.truth_size(index)
        if truth is None or abs(width / height * truth[0] / truth[1] - 1) <= _ASPECT_TOLERANCE:
            return []
        return [
            f"{entry.name}: maps are {width}x{height}, but the truth is {truth[1]}x{truth[0]}; "
            "they are stretched"
        ]

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Reads the map of each frame."""
        files = self.files(entry)
        for index in range(entry.frames):
            yield read_map(files[index]) if index in files else None


def read_map(path: pathlib.Path) -> np.ndarray:
    """Reads a saved map as uint8 [h, w]; of a colour image the first channel, as the public code does."""
    try:
        with Image.open(path) as image:
            array = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AvsalError(f"{path} is no map that can be read: {error}") from error
    array = array[..., 0] if array.ndim == 3 else array
    if array.dtype != np.uint8:
        raise AvsalError(f"{path} is not an 8-bit image")
    return array
