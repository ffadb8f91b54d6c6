"""The sound of a clip goes by the times of its frames."""

import numpy as np
import pytest

from avsal_jax import LogMel, Waveform
from avsal_jax.media.clip_sound import ClipSound, Sound
from avsal_jax.media.frame_times import FrameTimes

RATE, T, FPS = 10_000, 8, 25.0
SPEC = Waveform(2 * RATE, window="none")


def frame_times(seconds, fps=FPS, unit=0.001):
    times = FrameTimes(fps, unit)
    for second in seconds:
        times.add(second)
    return times


def test_a_constant_rate_is_exact_whatever_the_unit():
    for fps, unit in ((25, 0.001), (30_000 / 1001, 0.001), (24, 1 / 90_000), (50, 0.01)):
        seconds = [100.7 + round(k / fps / unit) * unit for k in range(500)]
        times = frame_times(seconds, fps, unit)
        assert [times[k] for k in range(500)] == [k * (1.0 / fps) for k in range(500)]


def test_times_that_vary_are_kept():
    seconds = [5.0, 5.04, 5.1, 8.2]
    times = frame_times(seconds)
    np.testing.assert_allclose([times[k] for k in range(4)], [0.0, 0.04, 0.1, 3.2], atol=1e-9)


def test_a_constant_rate_cuts_as_without_times():
    wave = np.random.default_rng(0).uniform(-1, 1, 4 * RATE).astype(np.float32)
    plain = ClipSound(Sound(wave, RATE), SPEC, T, FPS)
    timed = ClipSound(Sound(wave, RATE), SPEC, T, FPS, times=frame_times([k / 25 for k in range(90)]))
    for frames in (range(T), range(40, 40 + T), range(40 + T, 40, -1), [0] * 5 + [1, 2, 3]):
        np.testing.assert_array_equal(plain.clip(list(frames), 90), timed.clip(list(frames), 90))


VARYING = {
    "slower from the middle": [k / 30 for k in range(30)] + [1 + k / 10 for k in range(30)],
    "dropped frames": [k / 25 for k in range(80) if k % 7 not in (3, 4)],
    "uneven": np.cumsum(np.random.default_rng(1).uniform(0.02, 0.06, 60)).tolist(),
    "a pause": [k / 25 for k in range(30)] + [2.0 + k / 25 for k in range(30)],
}


@pytest.mark.parametrize("name", VARYING)
def test_an_impulse_is_heard_by_the_clips_that_show_its_time(name):
    """Of clips of T frames; those that last longer than the buffer hear its two seconds in the middle."""
    seconds = np.array(VARYING[name]) - VARYING[name][0]
    for click in (0.5, 1.03, 1.5, 2.2):
        wave = np.zeros(round((seconds[-1] + 1) * RATE), np.float32)
        wave[round(click * RATE)] = 1
        clips = ClipSound(Sound(wave, RATE), SPEC, T, FPS, times=frame_times(seconds, unit=1e-6))
        for last in range(T - 1, len(seconds)):
            begin, end = seconds[last - T + 1] - 0.5 / FPS, seconds[last] + 0.5 / FPS
            expected = begin <= click <= end and abs(click - (begin + end) / 2) < 1
            buffer = clips.clip(list(range(last - T + 1, last + 1)), None)
            if min(abs(click - begin), abs(click - end)) > 2 / RATE:
                assert buffer.any() == expected, (click, last)
            if expected:  # where it is from the clip's middle, it is from the buffer's
                place = (np.flatnonzero(buffer)[0] - RATE) / RATE
                assert place == pytest.approx(click - (max(0, begin) + end) / 2, abs=3 / RATE)


@pytest.mark.parametrize("kind", ["waveform", "logmel"])
def test_a_pause_of_hours_reads_no_more_than_the_buffer(kind):
    class Endless:
        """Sound of any length that records how many samples are read at once."""

        longest_read = 0

        def __len__(self):
            return 10**10

        def __getitem__(self, part):
            self.longest_read = max(self.longest_read, part.stop - part.start)
            return np.full(part.stop - part.start, 0.5, np.float32)

    endless = Endless()
    seconds = [0.0, 0.04, 0.08, 0.12, 5_000.0, 5_000.04, 5_000.08, 5_000.12]
    spec = SPEC if kind == "waveform" else LogMel()
    clips = ClipSound(Sound(endless, 16_000), spec, T, FPS, times=frame_times(seconds))
    assert clips.notes == ()
    buffer = clips.clip(list(range(T)), None)
    assert np.isfinite(buffer).all() and endless.longest_read <= 20_000 + 1
    if kind == "waveform":
        np.testing.assert_array_equal(buffer, np.full(2 * RATE, 128, np.float32))
    (note,) = clips.notes
    assert "pauses in the picture" in note and "(1)" in note


def test_frames_that_padding_invented_last_as_at_the_average_rate():
    wave = np.ones(3 * RATE, np.float32)
    clips = ClipSound(Sound(wave, RATE), SPEC, T, FPS, times=frame_times([0.0, 0.4, 0.5]))
    buffer = clips.clip([0] * 6 + [1, 2], 3)
    sounding = np.flatnonzero(buffer)
    assert len(sounding) == pytest.approx((0.5 + 0.5 / FPS) * RATE, abs=2)
    total = len(sounding) + 5 * RATE / FPS
    assert sounding[0] == pytest.approx(RATE - total / 2 + 5 * RATE / FPS, abs=2)
