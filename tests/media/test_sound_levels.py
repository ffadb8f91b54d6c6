"""NaN, infinite, huge samples and integers stored as floats: the same rule for files and for arrays."""

import numpy as np
import pytest
import scipy.io.wavfile

from avsal_jax import AvsalError
from avsal_jax.media.audio import clean_sound, read_sound
from avsal_jax.media.sound_levels import Levels
from avsal_jax.media.sound_stream import SoundStream

RATE, BAD = 8_000, 5_000
TONE = 0.4 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)


def with_bad(value, scale=1.0):
    wave = TONE * scale
    wave[BAD] = value
    return wave


SPOILT = {  # samples as they are stored, and the scale that they are at
    "nan": (with_bad(np.nan).astype(np.float32), 1),
    "infinite": (with_bad(-np.inf).astype(np.float32), 1),
    "huge": (with_bad(1e30).astype(np.float32), 1),
    "huge in 64 bits": (with_bad(-1e300), 1),
    "nan among 16-bit integers": (np.rint(with_bad(np.nan, 2**15)).astype(np.float32), 2**15),
    "huge among 16-bit integers": (np.rint(with_bad(1e9, 2**15)).astype(np.float32), 2**15),
}
SCALED = {
    "16 bits": (np.rint(TONE * 2**15).astype(np.float32), 15),
    "16 bits at full scale": (np.clip(np.rint(TONE * 2**17), -(2**15), 2**15 - 1).astype(np.float32), 15),
    "16 bits, mixed": ((TONE * 2**15).astype(np.float32), 15),
    "16 bits, faint": (np.rint(TONE * 9).astype(np.float32), 15),
    "24 bits": (np.rint(TONE * 2**23).astype(np.float32), 23),
    "32 bits": (np.rint(TONE * 2**31), 31),
}
HEADROOM = {"full": 1.0, "a little over": 3.0, "hot": 15.0}  # times 0.4


def read_both_ways(wave, tmp_path):
    """Returns the sound as read from a WAV file with these samples, and as made from the array."""
    path = tmp_path / "a.wav"
    scipy.io.wavfile.write(path, RATE, wave)
    return read_sound(path), clean_sound(wave, RATE)


@pytest.mark.parametrize("name", SPOILT)
def test_a_sample_that_is_no_sound_is_zero_and_reported(tmp_path, name):
    wave, scale = SPOILT[name]
    for sound in read_both_ways(wave, tmp_path):
        expected = TONE.copy()
        expected[BAD] = 0
        np.testing.assert_allclose(sound.wave, expected, atol=0.6 / max(scale, 2**15))  # half an integer
        assert "1 sample is NaN, infinite or beyond 8 times full scale, set to zero" in sound.notes[-1]
        assert any("16-bit integers" in note for note in sound.notes) == (scale > 1)


@pytest.mark.parametrize("name", SCALED)
def test_integers_stored_as_floats_are_scaled_and_reported(tmp_path, name):
    wave, bits = SCALED[name]
    for sound in read_both_ways(wave, tmp_path):
        np.testing.assert_allclose(sound.wave, wave / 2.0**bits, rtol=1e-7)
        (note,) = sound.notes
        assert f"{bits + 1}-bit integers stored as floats, divided by {2**bits}" in note


@pytest.mark.parametrize("name", HEADROOM)
def test_headroom_is_kept(tmp_path, name):
    wave = (TONE * HEADROOM[name]).astype(np.float32)
    for sound in read_both_ways(wave, tmp_path):
        np.testing.assert_array_equal(sound.wave, wave)
        assert sound.notes == ()


def test_each_channel_is_put_right_by_itself(tmp_path):
    path = tmp_path / "a.wav"
    scipy.io.wavfile.write(path, RATE, np.stack([TONE, with_bad(np.nan)], 1).astype(np.float32))
    sound = read_sound(path)
    expected = TONE.copy()
    expected[BAD] /= 2
    np.testing.assert_allclose(sound.wave, expected, atol=1e-7)
    stereo = np.concatenate(list(SoundStream(path, channels=2)))
    np.testing.assert_allclose(stereo[BAD], [TONE[BAD], 0], atol=1e-7)


def test_nothing_but_nan_is_silence(tmp_path):
    for sound in read_both_ways(np.full(9_000, np.nan, np.float32), tmp_path):
        assert not np.asarray(sound.wave).any() and "9000 samples are NaN" in sound.notes[0]


def test_integers_in_memory_are_at_full_scale():
    for dtype, zero, scale in ((np.uint8, 128, 128), (np.int16, 0, 2**15), (np.int32, 0, 2**31)):
        wave = np.rint(TONE * scale + zero).astype(dtype)
        sound = clean_sound(wave, RATE)
        np.testing.assert_allclose(sound.wave, (wave.astype(float) - zero) / scale, rtol=1e-6, atol=1e-7)
        assert sound.notes == ()


@pytest.mark.parametrize(
    ("wave", "rate", "words"),
    [
        (np.zeros((2, 100)), RATE, "mono waveform"),
        (np.zeros(100), np.inf, "with its rate, 1,000 to 1,000,000 Hz; .* rate inf"),
        (np.zeros(100), 2_000_000, "with its rate, 1,000 to 1,000,000 Hz; .* rate 2000000"),
        (TONE, None, "with its rate, 1,000 to"),
        (TONE, -1, "with its rate, 1,000 to"),
        (TONE > 0, RATE, "got bool"),
        (TONE.astype(np.complex64), RATE, "got complex64"),
        (np.zeros(9, np.int64), RATE, "uint8, int16 or int32; got int64"),
        (["a"], RATE, "sound is float"),
    ],
)
def test_what_is_no_waveform_is_refused(wave, rate, words):
    with pytest.raises(AvsalError, match=words):
        clean_sound(wave, rate)


def test_a_block_without_samples_passes():
    for shape in ((0,), (0, 2)):
        assert Levels().apply(np.zeros(shape)).shape == shape
