"""Samples into fixations, against scanpaths whose fixations are known."""

import numpy as np
import pytest

from avsal_jax.data.gaze.eye_events import DispersionRule, Samples, VelocityRule, find_fixations

RATE = 120
PLACES = [(5.0, 5.0), (12.0, 7.0), (3.0, 14.0), (20.0, 15.0)]  # degrees
FIXATION_SECONDS, SACCADE_SECONDS = 0.4, 0.04
RULES = [VelocityRule(), DispersionRule()]


def scanpath(rate: float = RATE, noise: float = 0.0, start: float = 0.0) -> tuple[Samples, np.ndarray]:
    """Returns samples that fixate `PLACES` in turn, and the starts of the fixations."""
    period = FIXATION_SECONDS + SACCADE_SECONDS
    time = np.arange(round((len(PLACES) * period - SACCADE_SECONDS) * rate)) / rate
    number = np.minimum((time / period).astype(int), len(PLACES) - 1)
    progress = np.clip((time - number * period - FIXATION_SECONDS) / SACCADE_SECONDS, 0, 1)[:, None]
    places = np.array([*PLACES, PLACES[-1]])
    place = places[number] * (1 - progress) + places[number + 1] * progress
    place += np.random.default_rng(1).normal(0, noise, place.shape)
    return Samples(start + time, *place.T), start + np.arange(len(PLACES)) * period


def without(samples: Samples, start: float, seconds: float) -> Samples:
    """Returns the samples with a loss."""
    is_lost = (samples.time >= start) & (samples.time < start + seconds)
    return Samples(samples.time, np.where(is_lost, np.nan, samples.x), np.where(is_lost, np.nan, samples.y))


@pytest.mark.parametrize("rule", RULES, ids=["ivt", "idt"])
@pytest.mark.parametrize("rate", [60, 120, 250, 1000])
@pytest.mark.parametrize("start", [0.0, 183.746])
def test_the_fixations_of_a_scanpath(rule, rate, start):
    # Places: noise of 0.05 degrees over 24 samples or more has a mean within 0.03; I-DT adds up to 1 degree
    # of a saccade to either end, one sample of which moves the mean of 24 samples by up to 0.02.
    # Times: the velocity of a sample at the edge of a saccade uses a sample of the saccade, so I-VT cuts half
    # its window (10 ms, or a sample if that is more) from either end; two samples cover both rules.
    samples, starts = scanpath(rate, noise=0.05, start=start)
    fixations = find_fixations(samples, rule)
    assert len(fixations) == len(PLACES)
    assert np.abs(np.stack([fixations.x, fixations.y], 1) - PLACES).max() < 0.06
    tolerance = max(2 / rate, 0.012)
    assert np.abs(fixations.start - starts).max() <= tolerance
    assert (
        np.abs(fixations.start + fixations.duration - starts - FIXATION_SECONDS).max() <= tolerance + 1 / rate
    )


@pytest.mark.parametrize("rule", RULES, ids=["ivt", "idt"])
def test_losses_of_up_to_75_ms_are_bridged(rule):
    samples, _ = scanpath(noise=0.05)
    assert len(find_fixations(without(samples, 0.15, 0.075), rule)) == 4
    fixations = find_fixations(without(samples, 0.15, 0.1), rule)
    assert len(fixations) == 5
    np.testing.assert_allclose(fixations.start[:2], [0, 0.25], atol=2 / RATE)
    assert not np.isnan(fixations.x).any()


def test_bridged_samples_do_not_count_towards_the_position():
    samples = Samples(np.arange(40) / 100, np.r_[np.zeros(20), np.full(20, 0.4)], np.zeros(40))
    lossy = Samples(samples.time, samples.x.copy(), samples.y)
    lossy.x[15:20] = np.nan
    assert find_fixations(lossy, VelocityRule(velocity=100.0)).x == pytest.approx([20 * 0.4 / 35])


def test_missing_rows_are_losses():
    samples, _ = scanpath(noise=0.05)
    rest = ~((samples.time >= 0.15) & (samples.time < 0.25))
    fixations = find_fixations(Samples(samples.time[rest], samples.x[rest], samples.y[rest]), VelocityRule())
    np.testing.assert_allclose(fixations.start[:2], [0, 0.25], atol=2 / RATE)
    assert fixations.start[0] + fixations.duration[0] <= 0.16


def test_close_fixations_are_merged_by_velocity():
    # The samples before and after one at 0.7 degrees are fast, and split the fixation.
    x = np.zeros(48)
    x[24] = 0.7
    samples = Samples(np.arange(48) / RATE, x, np.zeros(48))
    fixations = find_fixations(samples, VelocityRule())
    assert len(fixations) == 1
    assert fixations.duration == pytest.approx([48 / RATE])
    x[24:] = 0.7  # further than 0.5 degrees apart: two
    assert len(find_fixations(Samples(samples.time, x, samples.y), VelocityRule())) == 2


def test_an_outlier_does_not_split_a_fixation_by_dispersion():
    x = np.zeros(48)
    x[24] = 1.5
    fixations = find_fixations(Samples(np.arange(48) / RATE, x, np.zeros(48)), DispersionRule())
    assert fixations.duration == pytest.approx([48 / RATE])


def test_short_fixations_are_left_out():
    samples = Samples(np.arange(12) / 100, np.r_[np.zeros(5), np.full(7, 9.0)], np.zeros(12))
    assert len(find_fixations(samples, VelocityRule(shortest=0.05))) == 1
    assert len(find_fixations(samples, VelocityRule(shortest=0.01))) == 2
    fixations = find_fixations(samples, DispersionRule(shortest=0.06))
    assert (fixations.start.tolist(), fixations.x.tolist()) == ([0.05], [9.0])
    assert fixations.duration == pytest.approx([0.07])


def test_the_thresholds():
    # 20 degrees per second, which also is 2 degrees in 100 ms.
    time = np.arange(120) / RATE
    samples = Samples(time, 20 * time, np.zeros(120))
    assert len(find_fixations(samples, VelocityRule(velocity=19.9))) == 0
    assert find_fixations(samples, VelocityRule(velocity=20.1)).duration == pytest.approx([1.0])
    durations = find_fixations(samples, DispersionRule(dispersion=2.01)).duration
    assert durations[:-1] == pytest.approx(13 / RATE)  # 12 steps of 0.167 degrees
    assert len(find_fixations(samples, DispersionRule(dispersion=1.0, shortest=0.1))) == 0


@pytest.mark.parametrize("rule", RULES, ids=["ivt", "idt"])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_samples_or_none_valid(rule, count):
    time = np.arange(count) / RATE
    for place in (np.zeros(count), np.full(count, np.nan)):
        fixations = find_fixations(Samples(time, place, place), rule)
        assert len(fixations) == 0 and fixations.start.dtype == np.float64


def test_a_long_fixation_by_dispersion():
    # Longer than what is looked at once.
    samples = Samples(np.arange(3000) / 1000, np.r_[np.zeros(2900), np.full(100, 9.0)], np.zeros(3000))
    assert find_fixations(samples, DispersionRule()).duration == pytest.approx([2.9, 0.1])


def test_reports_have_the_thresholds():
    assert "slower than 25 degrees per second" in str(VelocityRule(velocity=25.0))
    assert "at most 1.5 degrees" in str(DispersionRule(dispersion=1.5))
