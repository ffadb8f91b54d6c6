"""Fixations out of samples of gaze, by velocity (I-VT) or by dispersion (I-DT).

The two rules are those of Salvucci and Goldberg, Identifying fixations and saccades in eye-tracking
protocols, ETRA 2000. What surrounds them (bridged losses, the window of the velocity, merging, the shortest
fixation) is as in Olsen, The Tobii I-VT Fixation Filter, 2012, with its defaults.

A sample stands for the time up to the next one: a fixation of the samples i to j starts at time[i] and lasts
time[j] - time[i] plus the median interval.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

BRIDGED_SECONDS = 0.075  # of a loss; longer ones end a fixation
VELOCITY_WINDOW_SECONDS = 0.020
MERGED_SECONDS, MERGED_DEGREES = 0.075, 0.5
_TOLERANCE = 1e-9  # seconds, of sums of times
_CHUNK = 512  # samples that I-DT looks ahead at once


@dataclasses.dataclass(frozen=True)
class Samples:
    """The samples of one viewing, in order of time.

    Attributes:
      time: float64 [N], seconds, strictly rising.
      x, y: float64 [N], degrees of visual angle; NaN where the sample is lost.
    """

    time: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.time)

    @property
    def interval(self) -> float:
        """The median time between samples in seconds; 0 for fewer than two."""
        return float(np.median(np.diff(self.time))) if len(self) > 1 else 0.0

    def part(self, first: int, stop: int) -> Samples:
        """Returns the samples from `first` up to `stop`."""
        return Samples(self.time[first:stop], self.x[first:stop], self.y[first:stop])


@dataclasses.dataclass(frozen=True)
class Fixations:
    """Fixations in order of time.

    Attributes:
      x, y: float64 [K], the mean of the samples that are not lost, in degrees.
      start, duration: float64 [K], seconds.
    """

    x: np.ndarray
    y: np.ndarray
    start: np.ndarray
    duration: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


class EventRule(Protocol):
    """How samples become fixations."""

    shortest: float

    def spans(self, samples: Samples, interval: float) -> Iterator[tuple[int, int]]:
        """Yields (first, stop) of the candidates among samples without losses."""

    def __str__(self) -> str:
        """Returns the rule with its thresholds, for a report."""


@dataclasses.dataclass(frozen=True)
class VelocityRule:
    """I-VT: neighbouring samples slower than a threshold are a fixation.

    The velocity at a sample is that between the samples about 10 ms before and after it, at least one each;
    at an end, from or to the sample itself. A single slow sample is not a fixation.

    Attributes:
      velocity: degrees per second below which a sample belongs to a fixation.
      shortest: seconds; shorter fixations are left out.
    """

    velocity: float = 30.0
    shortest: float = 0.06

    def spans(self, samples: Samples, interval: float) -> Iterator[tuple[int, int]]:
        """Yields runs of slow samples."""
        count = len(samples)
        if count < 2:
            return
        reach = max(1, round(VELOCITY_WINDOW_SECONDS / 2 / interval - 0.001))  # a half is rounded down
        index = np.arange(count)
        before, after = np.maximum(index - reach, 0), np.minimum(index + reach, count - 1)
        distance = np.hypot(samples.x[after] - samples.x[before], samples.y[after] - samples.y[before])
        is_slow = distance / (samples.time[after] - samples.time[before]) < self.velocity
        yield from ((first, stop) for first, stop in _runs(is_slow) if stop - first > 1)

    def __str__(self) -> str:
        window = f"{VELOCITY_WINDOW_SECONDS * 1000:g} ms"
        return f"I-VT, samples slower than {self.velocity:g} degrees per second (over {window})"


@dataclasses.dataclass(frozen=True)
class DispersionRule:
    """I-DT: samples that extend over little, for long enough, are a fixation.

    The dispersion of samples is max(x) - min(x) + max(y) - min(y). A fixation begins where the samples of the
    shortest duration do not exceed the threshold, and ends before the sample that makes it exceed it.

    Attributes:
      dispersion: degrees.
      shortest: seconds.
    """

    dispersion: float = 1.0
    shortest: float = 0.06

    def spans(self, samples: Samples, interval: float) -> Iterator[tuple[int, int]]:
        """Yields runs of samples that extend over little."""
        count = max(2, math.ceil(self.shortest / interval - _TOLERANCE)) if interval else 2
        if len(samples) < count:
            return
        windows = np.lib.stride_tricks.sliding_window_view(np.stack([samples.x, samples.y]), count, axis=1)
        starts = np.flatnonzero(np.ptp(windows, axis=2).sum(0) <= self.dispersion)
        first = 0
        while (place := np.searchsorted(starts, first)) < len(starts):
            first = int(starts[place])
            stop = self._stop(samples, first)
            yield first, stop
            first = stop

    def _stop(self, samples: Samples, first: int) -> int:
        """Returns the index of the sample that makes a window from `first` exceed the threshold."""
        length = _CHUNK
        while True:
            part = samples.part(first, first + length)
            place = np.stack([part.x, part.y])
            extent = np.maximum.accumulate(place, 1) - np.minimum.accumulate(place, 1)
            exceeds = extent.sum(0) > self.dispersion
            if exceeds.any():
                return first + int(exceeds.argmax())
            if first + length >= len(samples):
                return len(samples)
            length *= 2

    def __str__(self) -> str:
        return f"I-DT, samples that extend at most {self.dispersion:g} degrees"


def find_fixations(samples: Samples, rule: EventRule) -> Fixations:
    """Returns the fixations in the samples of one viewing.

    Losses of up to 75 ms are bridged by a straight line between the samples around them, so a short loss does
    not split a fixation. Bridged samples do not count towards its position. Longer losses, and pauses without
    samples, end a fixation. Then fixations less than 75 ms and 0.5 degrees apart are merged, and those are
    left out that are shorter than the rule's shortest.
    """
    interval = samples.interval
    spans: list[tuple[int, int]] = []
    for first, stop in _segments(samples):
        part = samples.part(first, stop)
        valid = ~np.isnan(part.x)
        bridged = Samples(
            part.time,
            np.interp(part.time, part.time[valid], part.x[valid]),
            np.interp(part.time, part.time[valid], part.y[valid]),
        )
        spans += [(first + begin, first + end) for begin, end in rule.spans(bridged, interval)]
    rows = []
    for first, stop in _merged(samples, spans, interval):
        duration = samples.time[stop - 1] - samples.time[first] + interval
        if duration >= rule.shortest - _TOLERANCE and not np.isnan(samples.x[first:stop]).all():
            rows.append((*_mean(samples, first, stop), samples.time[first], duration))
    return Fixations(*np.array(rows, np.float64).reshape(-1, 4).T)


def _segments(samples: Samples) -> Iterator[tuple[int, int]]:
    """Yields (first, stop) of runs that begin and end with valid samples, without a long loss inside."""
    valid = np.flatnonzero(~np.isnan(samples.x))
    if not len(valid):
        return
    loss = np.diff(samples.time[valid]) - samples.interval
    cuts = np.flatnonzero(loss > BRIDGED_SECONDS + _TOLERANCE)
    firsts, lasts = np.append(valid[0], valid[cuts + 1]), np.append(valid[cuts], valid[-1])
    yield from zip(firsts.tolist(), (lasts + 1).tolist(), strict=True)


def _merged(samples: Samples, spans: list[tuple[int, int]], interval: float) -> list[tuple[int, int]]:
    """Returns (first, stop) of fixations, those joined that are close in time and place."""
    merged: list[tuple[int, int]] = []
    means: list[tuple[float, float]] = []
    for first, stop in spans:
        place = _mean(samples, first, stop)
        if merged:
            begin, end = merged[-1]
            pause = samples.time[first] - samples.time[end - 1] - interval
            if pause < MERGED_SECONDS and math.dist(place, means[-1]) < MERGED_DEGREES:
                merged[-1], means[-1] = (begin, stop), _mean(samples, begin, stop)
                continue
        merged.append((first, stop))
        means.append(place)
    return merged


def _runs(mask: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields (first, stop) of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _mean(samples: Samples, first: int, stop: int) -> tuple[float, float]:
    """Returns the mean position of the samples that are not lost; NaN where all are."""
    x, y = samples.x[first:stop], samples.y[first:stop]
    valid = ~np.isnan(x)
    return (float(x[valid].mean()), float(y[valid].mean())) if valid.any() else (math.nan, math.nan)
