"""Sources of the maps to evaluate, and the truth they are scored against; the source for a model."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.truth.frame_truth import Truth
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.evaluation.sound_assignment import SoundAssignment
from avsal_jax.inference.stream import Images, stream
from avsal_jax.media.clip_sound import ClipSound

if TYPE_CHECKING:
    from avsal_jax.inference.predictor import Model


@dataclasses.dataclass(frozen=True)
class Trial:
    """A map and the truth that it is scored against.

    Attributes:
      saliency: float64 [H, W], as the metrics see it.
      density: float64 [h, w]; None if the truth has too few fixations for a density.
      points: int [N, 2], (row, column) of fixations in [h, w].
      size: (h, w).
    """

    saliency: np.ndarray
    density: np.ndarray | None
    points: np.ndarray
    size: tuple[int, int]


class MapSource(abc.ABC):
    """Provides the stored maps of a video and the truth that they are scored against.

    Attributes:
      label: the method's name in tables.
      config: the name of the config that trained the network; "" if it is unknown, or for other methods.
    """

    label: str
    config: str = ""

    @abc.abstractmethod
    def identity(self, entry: VideoEntry) -> str:
        """Returns what the maps of a video depend on; results with another identity are not reused."""

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Returns the problems of this source with a video; called before anything is computed."""
        return []

    @abc.abstractmethod
    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Yields the stored map [h, w] of every frame, uint8 or float64 in [0, 1]; None for a missing map.

        It may stop after the last scored frame.
        """

    def truth(self, entry: VideoEntry, index: int) -> Truth:
        """Returns the truth of a frame, which must have one; it is read lazily."""
        return entry.truth(index)

    def remarks(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Returns remarks about the scores of a video."""
        return []

    def trials(
        self, entry: VideoEntry, index: int, *, truth: Truth, stored: np.ndarray, protocol: Protocol
    ) -> Iterator[Trial]:
        """Yields the trials of a frame: its map against its truth.

        Args:
          entry, index: the frame.
          truth: what `truth` returned for it.
          stored: its stored map, of `maps`.
          protocol: how it is scored.

        Raises:
          AvsalError: density and fixations are of different sizes.
        """
        saliency, grid = protocol.score_map(stored), protocol.grid
        if grid is not None:
            points = truth.grid_points(grid.size(entry))
            yield Trial(saliency, density=grid.density(entry, points), points=points, size=grid.size(entry))
            return
        density, points = truth.density, truth.fixations.points
        if density.shape != truth.size:
            raise AvsalError(
                f"the density of frame {index + 1} is {density.shape}, its fixations "
                f"{truth.size} (height, width); they must be the same size"
            )
        yield Trial(saliency, density=density, points=points, size=density.shape)


class ModelMaps(MapSource):
    """Maps of a model, stored as `protocol` says.

    Args:
      model: the model.
      label: the method's name in tables.
      batch: windows per call; None for a default that depends on the device.
      sound: of each video, for a model that takes audio.
    """

    def __init__(
        self, model: Model, label: str, batch: int | None = None, sound: SoundAssignment | None = None
    ):
        self._model, self._batch, self.label = model, batch, label
        self._sound = sound or SoundAssignment()
        self.config = str(model.card.get("provenance", {}).get("config", ""))

    def identity(self, entry: VideoEntry) -> str:
        """Returns the identity of the model, and of the sound unless it is the video's own."""
        audio = self._sound.identity(entry)
        return f"model {self._model.identity}" + (f", {audio}" if audio else "")

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Returns warnings about missing or unusual audio; empty for a model that takes no audio."""
        if self._model.spec.audio is None:
            return []
        sound, notes = self._sound.read(entry)
        return notes if sound is None else [f"{entry.name}: {note}" for note in notes]

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray | None]:
        """Predicts a video as `avsal predict` does; audio and video start at the same time.

        Frames that a protocol with a grid does not score are skipped.
        """
        spec, clips = self._model.spec, None
        sound, _ = (None, []) if spec.audio is None else self._sound.read(entry)
        if sound is not None:
            clips = ClipSound.of(sound, spec, entry.fps).clip
        selection = None
        if protocol.grid is not None and entry.published and not entry.is_still:
            selection = frozenset(protocol.scored_indices(entry))
        frames = stream(
            self._model,
            Images(entry.iter_frames(), None if entry.is_still else entry.fps),
            sound=clips,
            batch=self._batch,
            selection=selection,
            medium="still" if entry.is_still else "video",
        )
        index = 0
        for frame in frames:
            yield from (None for _ in range(index, frame.index))
            yield protocol.store(frame.saliency, entry)
            index = frame.index + 1
