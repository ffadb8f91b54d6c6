"""VGGish's log-mel against the values of its own front end."""

import json
import subprocess
import sys

import numpy as np
import pytest

from avsal_jax import AvsalError, LogMel, Waveform
from avsal_jax.media.clip_sound import ClipSound, Sound, excerpt_bounds
from avsal_jax.spec.front_ends import front_end_of
from avsal_jax.spec.log_mel import PATCH_SAMPLES, log_mel, log_mel_patches, mel_matrix, samples_for
from avsal_jax.testing.golden import tone


@pytest.fixture(scope="module")
def golden(tests_dir):
    values = json.loads((tests_dir / "golden" / "audio_golden.json").read_text())["vggish"]["values"]
    with np.load(tests_dir / "golden" / "audio_golden.npz", allow_pickle=False) as arrays:
        return values, arrays["vggish_logmel"], arrays["mel_matrix"]


def test_the_matrix(golden):
    values, _, matrix = golden
    np.testing.assert_allclose(mel_matrix(), matrix, atol=1e-12)
    assert np.count_nonzero(mel_matrix()) == values["mel_matrix_nonzero"]
    assert not mel_matrix()[0].any()


def test_log_mel(golden):
    values, expected, _ = golden
    wave = tone(values["seed"], values["n_samples"])
    features = log_mel(wave)
    assert features.dtype == np.float32 and list(features.shape) == values["logmel_shape"]
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_the_number_of_frames(golden):
    for samples, frames in golden[0]["frames_for_n"].items():
        assert len(log_mel(np.zeros(int(samples)))) == frames
    with pytest.raises(AvsalError, match="takes 400 samples at 16000 Hz; got 399"):
        log_mel(np.zeros(399))


def test_patches_are_cut_out_of_the_frames(golden):
    values, expected, _ = golden
    wave = tone(values["seed"], values["n_samples"])
    assert samples_for(1, 0.96) == PATCH_SAMPLES == 15_600
    two = log_mel_patches(wave[: samples_for(2, 0.96)], 2, 0.96)
    np.testing.assert_allclose(two, expected[:192].reshape(2, 96, 64), atol=1e-5)
    near = log_mel_patches(wave[: samples_for(3, 0.11)], 3, 0.11)
    np.testing.assert_allclose(near[2], expected[22:118], atol=1e-5)
    with pytest.raises(AvsalError, match="take 15600 samples; got 15599"):
        log_mel_patches(wave[:15_599], 1, 0.96)


def test_reading_sound_does_not_load_librosa():
    code = "import sys, avsal_jax.media.audio, avsal_jax.spec.log_mel; print('librosa' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert process.stdout.strip() == "False"


class TestClips:
    """The log-mel of a clip: 16 frames at 25 a second last 0.64 s, a patch 0.975 s."""

    RATE = 16_000

    def clips(self, **spec):
        wave = tone(5, 4 * self.RATE).astype(np.float32)
        return ClipSound(Sound(wave, self.RATE), LogMel(**spec), 16, 25.0), wave

    def test_a_short_clip_lies_in_the_middle_of_silence(self):
        clips, wave = self.clips()
        begin, end = excerpt_bounds(31, 46, self.RATE, 25.0, len(wave))
        expected = np.zeros(15_600)
        at = 15_600 // 2 - (end - begin) // 2
        expected[at : at + end - begin] = wave[begin:end]
        features = clips.clip(list(range(30, 46)), None)
        assert features.shape == (1, 96, 64)
        np.testing.assert_allclose(features[0], log_mel(expected), atol=1e-5)
        assert np.allclose(features[0][:10], np.log(0.01), atol=1e-4)  # silence at both ends

    def test_or_amid_its_context(self):
        clips, wave = self.clips(pad="context")
        begin, end = excerpt_bounds(31, 46, self.RATE, 25.0, len(wave))
        missing = 15_600 - (end - begin)
        around = wave[begin - missing // 2 : end + missing - missing // 2]
        np.testing.assert_allclose(clips.clip(list(range(30, 46)), None)[0], log_mel(around), atol=1e-5)
        edge = clips.clip(list(range(0, 16)), None)  # before the first sample there is silence
        assert np.allclose(edge[0][:5], np.log(0.01), atol=1e-4) and edge[0][40:].max() > 0
        last = clips.clip(list(range(84, 100)), 100)  # and behind the last one
        assert np.allclose(last[0][-5:], np.log(0.01), atol=1e-4)
        begin, end = excerpt_bounds(85, 100, self.RATE, 25.0, len(wave))
        around = wave[begin - (15_600 - (end - begin)) // 2 :]
        around = np.pad(around, (0, 15_600 - len(around)))
        np.testing.assert_allclose(last[0], log_mel(around), atol=1e-5)

    def test_reversed_and_several_patches(self):
        clips, _ = self.clips(patches=3, hop=0.11)
        frames = list(range(40, 56))
        forwards, backwards = clips.clip(frames, None), clips.clip(frames[::-1], None)
        assert forwards.shape == (3, 96, 64)
        assert np.abs(forwards - backwards).max() > 0.1

    def test_other_rates_are_resampled_and_a_silent_video_has_a_patch(self):
        wave = tone(5, 2 * 44_100).astype(np.float32)
        high = ClipSound(Sound(wave, 44_100), LogMel(), 16, 25.0)
        assert high.clip(list(range(10, 26)), None).shape == (1, 96, 64)
        short = ClipSound(Sound(np.zeros(10, np.float32), 44_100), LogMel(), 16, 25.0)
        np.testing.assert_allclose(short.clip(list(range(10, 26)), None), np.log(0.01), atol=1e-6)

    def test_the_spec_is_checked(self):
        assert LogMel(patches=9).shape == (9, 96, 64)
        assert Waveform(35_280).shape == (35_280,)
        for wrong in ({"pad": "mirror"}, {"hop": 0.0}, {"patches": 0}):
            with pytest.raises(AvsalError, match=next(iter(wrong))):
                LogMel(**wrong)
        with pytest.raises(AvsalError, match=r"audio.samples must be a whole number from 1"):
            Waveform(0)
        with pytest.raises(AvsalError, match="audio 'waveform' needs the field 'samples'"):
            front_end_of({"name": "waveform"})
