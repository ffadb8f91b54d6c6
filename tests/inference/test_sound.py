"""What a system that hears is given of a file's sound: which samples, from which formats, and none."""

import numpy as np
import pytest
import soundfile

from avsal_jax import AudioSpec
from avsal_jax.data.datasets import open_dataset
from avsal_jax.evaluation.sources import ModelMaps
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.inference.predictor import Model
from avsal_jax.testing import fake_data
from avsal_jax.testing.models import hearing_probe, tiny_stored
from avsal_jax.testing.videos import moving_spot, write_video

FRAMES, RATE, LENGTH, COUNT = 8, 25, 35_280, 40
FORMATS = {"22,050 Hz mono": (22_050, "mono", 1), "44.1 kHz stereo": (44_100, "stereo", 2),
           "8 kHz mono": (8_000, "mono", 1), "48 kHz 5.1": (48_000, "5.1", 6)}  # fmt: skip


@pytest.fixture(scope="module")
def listening():
    audio = AudioSpec("waveform", LENGTH, window="none")
    return hearing_probe(audio, FRAMES, 32, 64, tells="place")


def heard_at(click, frame, rate, samples):
    """Where in the buffer a sample lies in the clip whose map is `frame`'s; None where it does not hear it.

    Written from the rule: a clip of FRAMES ends at its frame, or begins there and runs backwards; frames of
    numbers a to b, from 1, own the samples from trunc((a - 1) / RATE * rate - half) to, and with,
    trunc((b - 1) / RATE * rate + half), half a frame's samples; they lie in the middle of the buffer.
    """
    backwards = frame < FRAMES - 1
    a = frame + 1 if backwards else frame - FRAMES + 2
    b, half = a + FRAMES - 1, rate / RATE / 2
    begin = int(max(0, (a - 1) * (1 / RATE) * rate - half))
    end = int(min(samples, (b - 1) * (1 / RATE) * rate + half))
    if not begin <= click <= min(end, samples - 1):
        return None
    length = min(end, samples - 1) - begin + 1
    place = LENGTH // 2 - length // 2 + click - begin
    return LENGTH - 1 - place if backwards else place


@pytest.mark.parametrize("name", FORMATS)
def test_each_window_hears_exactly_its_own_samples(listening, tmp_path, name):
    """A click of known time: just inside and just outside of a window, and windows that run backwards."""
    rate, layout, channels = FORMATS[name]
    samples, half = COUNT * rate // RATE, rate / RATE / 2
    first, last = int(12 / RATE * rate - half), int(19 / RATE * rate + half)  # of frames 12 to 19, from 0
    for click in (0, 3 * rate // RATE, first - 1, first, last, last + 1, samples - 1):
        wave = np.zeros((channels, samples))
        wave[channels // 2, click] = 0.9
        source = write_video(
            tmp_path / f"{click}.mkv", moving_spot(COUNT, 32, 64), RATE,
            sound=wave, sample_rate=rate, layout=layout, sound_codec="pcm_f32le",
        )  # fmt: skip
        expected = [heard_at(click, frame, rate, samples) for frame in range(COUNT)]
        assert places_of(listening.predict_video(source)) == expected, click
        heard = sum(place is not None for place in expected)
        assert heard == 0 if click == samples - 1 else 0 < heard < COUNT  # nobody owns the last half frame
    edges = [heard_at(click, 19, rate, samples) is not None for click in (first - 1, first, last, last + 1)]
    assert edges == [False, True, True, False]


def places_of(maps):
    """What the maps of `listening` say; None where it heard nothing."""
    maps = np.asarray(maps, np.float64)[:, 0, 0]
    places = LENGTH * np.log(maps / (1 - maps))
    return [None if place < -LENGTH else round(float(place)) for place in places]


class Unchanged:
    """A protocol that keeps the maps as they are."""

    @staticmethod
    def store(saliency, size):
        return saliency


def test_evaluation_hears_the_same_of_a_set(listening, tmp_path):
    rate, click = 22_050, 19 * 22_050 // RATE
    wave = np.zeros(COUNT * rate // RATE, np.float32)
    wave[click] = 0.9
    video = fake_data.fake_video("one", COUNT, (32, 64), float(RATE))
    root = fake_data.write_stavis(tmp_path / "data", "DIEM", [video], {"test": ("one",)})
    soundfile.write(root / "video_audio/DIEM/one/one.wav", wave, rate, "FLOAT")
    (entry,) = open_dataset("diem", root, "test")
    found = places_of(list(ModelMaps(listening, "probe").maps(entry, Unchanged)))
    assert found == [heard_at(click, frame, rate, len(wave)) for frame in range(COUNT)]
    assert 0 < found.count(None) < COUNT


def test_predict_hears_the_same_of_a_file(tmp_path):
    """Louder from frame to frame, so that sound of another place, and none, would give other maps."""
    model = hearing_probe(AudioSpec("waveform", LENGTH, window="none"), FRAMES, 32, 64)
    time = np.arange(COUNT * 22_050 // RATE)
    wave = 0.15 * time / len(time) * np.sin(time / 5)
    source = write_video(tmp_path / "a.mp4", moving_spot(COUNT, 32, 64), RATE, sound=wave.astype(np.float32))
    maps = {}
    for audio in ("auto", "off"):
        out = tmp_path / audio
        predict_file(model, source, out, Settings(save=("npz",), audio=audio))
        with np.load(out / "maps.npz", allow_pickle=False) as archive:
            maps[audio] = archive["maps"].astype(np.float64)
        expected = model.predict_video(source, audio=audio)
        np.testing.assert_allclose(maps[audio], expected, atol=5e-4)  # stored in float16
    heard = maps["auto"][FRAMES:, 0, 0]
    assert (np.diff(heard) > 1e-3).all() and np.ptp(maps["off"][:, 0, 0]) == 0


@pytest.fixture(scope="module")
def avinet():
    return Model(tiny_stored(system="avinet", fusion="concatenation"))


@pytest.mark.parametrize("name", FORMATS)
def test_sound_of_any_format_changes_the_maps_and_none_is_as_off(avinet, tmp_path, name):
    rate, layout, channels = FORMATS[name]
    frames = moving_spot(10, 64, 96)
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, (channels, 10 * rate // RATE))
    sound = {"sample_rate": rate, "layout": layout}
    loud = write_video(tmp_path / "loud.mp4", frames, sound=wave, **sound)
    zeros = write_video(tmp_path / "zeros.mp4", frames, sound=0 * wave, **sound)
    mute = write_video(tmp_path / "mute.mp4", frames)
    off = avinet.predict_video(loud, audio="off")
    assert np.abs(avinet.predict_video(loud) - off).max() > 1e-4
    np.testing.assert_array_equal(avinet.predict_video(zeros), off)
    empty = write_video(
        tmp_path / "empty.mkv", frames, sound=0 * wave[:, :0], sound_codec="pcm_f32le", **sound
    )
    for path in (mute, empty):
        with pytest.warns(UserWarning, match="has no sound: the model hears silence"):
            np.testing.assert_array_equal(avinet.predict_video(path), off)
