"""The metrics of a frame: its trials, and the fixations from which negatives are drawn."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from avsal_jax import metrics
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.truth.fixation_maps import Fixations, fixation_findings
from avsal_jax.data.truth.frame_truth import Truth
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.map_sources import Trial
from avsal_jax.evaluation.protocols import Protocol, VideoOthers, generator
from avsal_jax.evaluation.units import Settings, Unit
from avsal_jax.metrics import Frame, find_metric, fixation_map

_POOLED_FRAMES = 10  # of the whole set, for the negatives of the protocols dhf1k and gaze


def frame_values(
    unit: Unit,
    index: int,
    truth: Truth,
    stored: np.ndarray,
    elsewhere: OtherFixations,
    settings: Settings,
    prior: np.ndarray | None = None,
) -> tuple[dict[str, float], int]:
    """Returns (metrics of a frame by name, number of fixations).

    Values of several trials are averaged, weighted by fixations for a metric that is per fixation. `prior`
    is `settings.prior_map` of the stimulus, the same for all its frames.
    """
    entry, protocol = unit.entry, settings.protocol
    draw = functools.partial(generator, settings.seed, f"{entry.dataset}/{entry.name}", index + 1)
    values, counts = [], []
    trials = unit.source.trials(entry, index, truth=truth, stored=stored, protocol=protocol)
    for number, trial in enumerate(trials):
        values.append(
            score_trial(
                trial,
                protocol=protocol,
                other=functools.partial(elsewhere.map, index, trial=trial, draw=draw),
                names=settings.metrics,
                draw=draw if not number else functools.partial(_numbered_draw, draw, number),
                prior=prior,
            )
        )
        counts.append(len(trial.points))
    if len(values) == 1:
        return values[0], counts[0]
    means = {}
    for name in settings.metrics:
        column = np.array([row[name] for row in values])
        weights = np.array(counts if find_metric(name).per_fixation else [1] * len(counts), float)
        good = ~np.isnan(column)
        means[name] = float(np.average(column[good], weights=weights[good])) if good.any() else math.nan
    return means, sum(counts)


def _numbered_draw(draw: Callable, number: int, purpose: str) -> np.random.Generator:
    return draw(f"{purpose} {number}")


def scored_frames(entry: VideoEntry, protocol: Protocol) -> list[int]:
    """Returns the frames to score; AvsalError with the reason if no frame can be scored."""
    if not entry.published:
        raise AvsalError("it cannot be scored: it has no published truth")
    frames = protocol.scored_indices(entry) if entry.frames else []
    if frames:
        return frames
    labelled = [index for index in range(entry.frames) if entry.has_truth(index)]
    if not labelled:
        reason = "; ".join(entry.notes) or "no frame has truth"
        raise AvsalError(f"it cannot be scored: {reason}")
    if protocol.grid is not None:
        raise AvsalError(
            f"it cannot be scored: none of the frames of the protocol {protocol.name} has "
            f"{protocol.grid.least(entry)} fixations"
        )
    raise AvsalError(
        f"it cannot be scored: the protocol {protocol.name} begins at frame {protocol.first_frame}, and "
        f"its last frame with truth is {labelled[-1] + 1}"
    )


class OtherFixations:
    """Fixations from which negatives of the shuffled AUC are drawn; findings about a video's fixations."""

    def __init__(self, unit: Unit, pool: Sequence[Unit], settings: Settings):
        self._unit, self._pool, self._protocol = unit, pool, settings.protocol
        self._truths: dict[int, Truth] = {}  # of unscored frames whose fixations were read
        self._fixations: dict[int, Fixations] = {}
        self._video: VideoOthers | None = None
        self._frames: dict[str, list[int]] = {}  # scored frames of other stimuli, by name; slow to compute
        entry = unit.entry
        self._different = [
            other.entry
            for other in pool
            if other.entry.frames and other.entry.published and other.entry.group != entry.group
        ]
        if self._protocol.grid is not None:
            return
        labelled = [index for index in range(entry.frames) if entry.has_truth(index)]
        self._truths = {index: unit.source.truth(entry, index) for index in labelled}
        self._fixations = {index: truth.fixations for index, truth in self._truths.items()}
        if self._protocol.negatives == "video":
            points = [fixations.points for fixations in self._fixations.values()]
            self._video = VideoOthers(self._truths[labelled[0]].size, points)

    def take_truth(self, index: int) -> Truth:
        """Returns the truth of a frame and drops the reference to it, since densities are large."""
        truth = self._truths.pop(index, None)
        return self._unit.source.truth(self._unit.entry, index) if truth is None else truth

    def map(self, index: int, trial: Trial, draw: Callable) -> np.ndarray:
        """Returns bool [h, w]: fixations elsewhere, from which the negatives of a trial are drawn."""
        if self._video is not None:
            return self._video.map(trial.points)
        if self._protocol.negatives == "stimuli":
            return fixation_map(self._of_other_stimuli(draw("pool")), trial.size)
        return _pooled(self._pool, trial.size, draw("pool"))

    def _of_other_stimuli(self, random: np.random.Generator) -> np.ndarray:
        """Returns the fixations of ten random stimuli of other groups, on the grid of this one."""
        points, size = [np.zeros((0, 2), np.int64)], self._protocol.grid.size(self._unit.entry)
        for _ in range(_POOLED_FRAMES if self._different else 0):
            other = self._different[random.integers(len(self._different))]
            if other.name not in self._frames:
                self._frames[other.name] = self._protocol.scored_indices(other)
            if frames := self._frames[other.name]:
                frame = frames[random.integers(len(frames))]
                points.append(other.truth(frame).grid_points(size))
        return np.concatenate(points)

    def findings(self) -> list[str]:
        """Returns one line for each unusual property of the fixations of a video."""
        if self._protocol.grid is not None:
            return []
        if not any(len(fixations.points) for fixations in self._fixations.values()):
            return ["it has no fixations: it counts only for the metrics of densities"]
        return list(fixation_findings(self._fixations.values()).values())


def score_trial(
    trial: Trial,
    protocol: Protocol,
    other,
    names: Sequence[str],
    draw,
    prior: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the metrics `names` of a map.

    Args:
      trial: the map, which is resized to the truth as by MATLAB's imresize, and the truth.
      protocol: whether NSS is per fixation.
      other: returns bool [h, w], from which negatives are drawn; called only if a metric needs it, since it
        reads files.
      draw: purpose -> NumPy generator of this frame, so that the draws of metrics are independent.
      prior: [h, w] for the information gain, which is NaN without it. Without a grid it is that of the MIT
        benchmark (`metrics.information_gain`).
    """
    frame = Frame(
        metrics.imresize(trial.saliency, *trial.size),
        points=trial.points,
        density=trial.density,
        prior=prior,
        on_grid=protocol.grid is not None,
        elsewhere=other,
        draw=draw,
    )
    return {name: find_metric(name).value(frame) for name in names}


def _pooled(pool: Sequence[Unit], size, random) -> np.ndarray:
    """Returns bool [h, w] of `size`: the fixations of ten random frames of the whole set."""
    usable = [unit for unit in pool if unit.entry.frames and unit.entry.published]
    points = []
    for _ in range(_POOLED_FRAMES):
        unit = usable[random.integers(len(usable))]
        index = int(random.integers(unit.entry.frames))
        if not unit.entry.has_truth(index):
            continue
        try:
            points.append(unit.source.truth(unit.entry, index).grid_points(size))
        except AvsalError:  # reported when that video is scored
            continue
    return fixation_map(np.concatenate([np.zeros((0, 2), np.int64), *points]), size)
