"""Priors fitted on the gaze of stimuli, stored in a file that lists these stimuli."""

from __future__ import annotations

import io
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np

import avsal_jax
from avsal_jax.data.gaze.gaze_entries import GazeEntry
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.errors import AvsalError, damage_reason
from avsal_jax.evaluation.baseline import BaselineRequest
from avsal_jax.evaluation.baselines import Constant, mean_density, mean_maps
from avsal_jax.evaluation.protocols import Protocol
from avsal_jax.files import write_bytes
from avsal_jax.identity import digest

SUFFIX = ".npz"
_FORMAT = "avsal_jax prior 1"
_MAX_BYTES, _MAX_SIDE = 64_000_000, 4096


class Prior(Constant):
    """The mean map of the stimuli that it was fitted on.

    Args:
      saliency: float32 [H, W].
      stimuli: pairs (set, name).
      groups: pairs (set, group) of stimuli that show nearly the same as one of `stimuli`.
      name: of the prior, for errors.
      label: the method's name in tables.
      allow_seen: whether the stimuli that it was fitted on may be scored.
    """

    def __init__(
        self,
        saliency: np.ndarray,
        stimuli: Sequence[Sequence[str]],
        groups: Sequence[Sequence[str]],
        name: str,
        label: str,
        allow_seen: bool = False,
    ):
        super().__init__(saliency, label, f"prior {digest([saliency.tolist(), allow_seen])}")
        self._stimuli, self._groups = set(map(tuple, stimuli)), set(map(tuple, groups))
        self._name, self._allow_seen = name, allow_seen

    def problems(self, entry: VideoEntry, protocol: Protocol) -> list[str]:
        """Refuses a stimulus that the prior was fitted on, or that shows nearly the same as one."""
        return [] if self._allow_seen else [f"{entry.name}: {line}" for line in self._reasons(entry)]

    def maps(self, entry: VideoEntry, protocol: Protocol) -> Iterator[np.ndarray]:
        """Yields the prior; AvsalError for a stimulus that it was fitted on."""
        if not self._allow_seen and (lines := self._reasons(entry)):
            raise AvsalError(lines[0])
        yield from super().maps(entry, protocol)

    def _reasons(self, entry: VideoEntry) -> list[str]:
        advice = "evaluate another split or list, or add --allow-seen if you mean it"
        if (entry.dataset, entry.name) in self._stimuli:
            return [f"{self._name} was fitted on it; {advice}"]
        if (entry.dataset, entry.group) in self._groups:
            return [f"{self._name} was fitted on a stimulus that shows nearly the same; {advice}"]
        return []


def fit_prior(entries: Sequence[VideoEntry], output: pathlib.Path, progress: Callable) -> int:
    """Writes the mean density of stimuli, with equal weights; returns the number of stimuli.

    Raises:
      AvsalError: no stimulus has gaze, or the file cannot be written.
    """
    if output.suffix != SUFFIX:
        raise AvsalError(f"a prior is a {SUFFIX} file; got {output}")
    mean, used = mean_density(entries, progress)
    names, groups = _fitted_on(used)
    about = {"format": _FORMAT, "stimuli": names, "groups": groups, "version": avsal_jax.__version__}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, saliency=mean, about=np.array(json.dumps(about)))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(output, buffer.getvalue())
    except OSError as error:
        raise AvsalError(f"cannot write {output}: {error.strerror}") from error
    return len(used)


def mean_map(request: BaselineRequest) -> Constant:
    """Returns the mean map of the training list; a `Prior` for recorded gaze, whose splits may overlap."""
    training = request.training()
    if not all(isinstance(entry, GazeEntry) for entry in training):
        return mean_maps(training)
    mean, used = mean_density(training)
    return Prior(
        mean,
        *_fitted_on(used),
        name="the mean map",
        label="mean map (MEP)",
        allow_seen=request.allow_seen,
    )


def _fitted_on(entries: Sequence[VideoEntry]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Returns pairs (set, name) and pairs (set, group) of stimuli."""
    names = sorted((entry.dataset, entry.name) for entry in entries)
    return names, sorted({(entry.dataset, entry.group) for entry in entries})


def read_prior(path: pathlib.Path, allow_seen: bool = False) -> Prior:
    """Reads a file of `fit_prior`; AvsalError if it is damaged or a different kind of file."""
    try:
        about, saliency = _contents(path)
        if about["format"] != _FORMAT:
            raise AvsalError(f"its format is {about['format']!r}, not {_FORMAT!r}")
        if saliency.ndim != 2 or saliency.dtype != np.float32 or max(saliency.shape) > _MAX_SIDE:
            raise AvsalError("it does not contain a map of float32 numbers")
        if not saliency.size or not np.isfinite(saliency).all() or saliency.min() < 0:
            raise AvsalError("its map is empty, or has negative or infinite numbers")
        pairs = [_pairs(about[key]) for key in ("stimuli", "groups")]
    except AvsalError as error:
        reason = str(error)
    except OSError as error:
        reason = error.strerror or damage_reason(error)
    except Exception:  # NumPy and zipfile raise many types of errors for damaged files
        reason = "it is damaged, or was written by another program"
    else:
        return Prior(saliency, *pairs, name=str(path), label=f"prior {path.stem}", allow_seen=allow_seen)
    raise AvsalError(f"{path} is not a prior that avsal fit-prior wrote: {reason}")


def _contents(path: pathlib.Path) -> tuple[dict, np.ndarray]:
    """Returns the metadata and the map of a file, without unpickling."""
    if path.exists() and not path.is_file():
        raise AvsalError("it is not a file")
    if path.stat().st_size > _MAX_BYTES:
        raise AvsalError(f"it has more than {_MAX_BYTES} bytes")
    with zipfile.ZipFile(path) as archive:  # checked before memory is allocated
        if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
            raise AvsalError(f"unpacked, it has more than {_MAX_BYTES} bytes")
    with np.load(path, allow_pickle=False) as content:
        return json.loads(str(content["about"])), content["saliency"]


def _pairs(rows) -> list[tuple[str, str]]:
    """Returns pairs (set, name); AvsalError for anything else, which would not refuse any stimulus."""
    pairs = [tuple(row) for row in rows]
    if not pairs or any(len(pair) != 2 or not all(isinstance(x, str) for x in pair) for pair in pairs):
        raise AvsalError("it does not name the stimuli that it was fitted on")
    return pairs
