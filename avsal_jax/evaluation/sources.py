"""Where the maps that are evaluated come from: a model, or a folder of saved maps of any method."""

from __future__ import annotations

import abc
import pathlib
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from avsal_jax.data.audio import ClipSound, has_sound, read_sound, sound_notes
from avsal_jax.data.schema import VideoEntry
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.identity import folder_identity, model_identity
from avsal_jax.inference.predictor import Model

_ASPECT_TOLERANCE = 0.1  # models work at one size whatever the video's, so a little is common


class MapSource(abc.ABC):
    """Gives the stored maps of a video, and what they are scored against.

    Attributes:
      label: the method's name in tables.
    """

    label: str

    @abc.abstractmethod
    def identity(self, entry: VideoEntry) -> str:
        """Returns what the maps of a video depend on; results with another identity are not reused."""

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

    def identity(self, entry: VideoEntry) -> str:
        """Returns the model's."""
        return f"model {model_identity(self._model.card)}"

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """A model that hears notices a video without sound, and what is unusual about a sound."""
        if self._model.spec.audio is None:
            return []
        if not _heard(entry):
            return [f"{entry.name} has no sound: the model hears silence"]
        return [f"{entry.name}: {note}" for note in sound_notes(entry.sound)]

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray]:
        """Predicts the whole video, as `avsal predict` does."""
        spec, sound = self._model.spec, None
        if spec.audio is not None and _heard(entry):
            sound = ClipSound(read_sound(entry.sound), spec.audio, spec.frames, entry.fps).clip
        size = entry.frame(0).shape[:2]
        frames = (entry.frame(index) for index in range(entry.frames))
        for _, saliency in self._model.iter_frames(frames, self._batch, sound):
            yield protocol.store(saliency, size)


def _heard(entry: VideoEntry) -> bool:
    return entry.sound is not None and has_sound(entry.sound)


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

    def identity(self, entry: VideoEntry) -> str:
        """Returns that of the video's files."""
        return f"maps {folder_identity(self._of(entry))}"

    def _of(self, entry: VideoEntry) -> pathlib.Path:
        inner = self.folder / entry.name / "maps"
        return inner if inner.is_dir() else inner.parent

    def files(self, entry: VideoEntry) -> dict[int, pathlib.Path]:
        """Returns frame index (from 0) -> file."""
        folder = self._of(entry)
        numbered = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            number = re.search(r"([0-9]+)$", path.stem)
            if number and path.suffix.lower() in {".png", ".jpg", ".jpeg"} and int(number[1]) > 0:
                numbered[int(number[1])] = path
        # Shots of Hollywood-2 go on with the numbers of the shot before; maps may be named as the frames.
        first = entry.first if numbered and entry.first > 1 and min(numbered) >= entry.first else 1
        return {number - first: path for number, path in numbered.items()}

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
