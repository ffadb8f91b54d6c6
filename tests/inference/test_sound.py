"""The sound that audio-visual systems receive from a file: which samples, from which formats, and silence."""

import fractions
import json

import av
import numpy as np
import pytest
import soundfile

from avsal_jax import AvsalError, Waveform
from avsal_jax.data.prepared.prepare import prepare
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.evaluation.map_sources import ModelMaps
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.inference.predictor import Model
from avsal_jax.testing import fake_data
from avsal_jax.testing.models import hearing_probe, tiny_stored
from avsal_jax.testing.videos import moving_spot, write_video
from tests.media.test_sound_stream import write_wav

FRAMES, RATE, LENGTH, COUNT = 8, 25, 35_280, 40
FORMATS = {"22,050 Hz mono": (22_050, "mono", 1), "44.1 kHz stereo": (44_100, "stereo", 2),
           "8 kHz mono": (8_000, "mono", 1), "48 kHz 5.1": (48_000, "5.1", 6)}  # fmt: skip


@pytest.fixture(scope="module")
def listening():
    audio = Waveform(LENGTH, window="none")
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
        audible = sum(place is not None for place in expected)
        # No clip contains the last half frame.
        assert audible == 0 if click == samples - 1 else 0 < audible < COUNT
    edges = [heard_at(click, 19, rate, samples) is not None for click in (first - 1, first, last, last + 1)]
    assert edges == [False, True, True, False]


def places_of(maps):
    """What the maps of `listening` say; None where it heard nothing."""
    maps = np.asarray(maps, np.float64)[:, 0, 0]
    places = LENGTH * np.log(maps / (1 - maps))
    return [None if place < -LENGTH else round(float(place)) for place in places]


class Unchanged:
    """A protocol that keeps the maps as they are."""

    grid = None

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
    places = places_of(list(ModelMaps(listening, "probe").maps(entry, Unchanged)))
    assert places == [heard_at(click, frame, rate, len(wave)) for frame in range(COUNT)]
    assert 0 < places.count(None) < COUNT


def test_predict_hears_the_same_of_a_file(tmp_path):
    """Louder from frame to frame, so that sound of another place, and none, would give other maps."""
    model = hearing_probe(Waveform(LENGTH, window="none"), FRAMES, 32, 64)
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
    loudness = maps["auto"][FRAMES:, 0, 0]
    assert (np.diff(loudness) > 1e-3).all() and np.ptp(maps["off"][:, 0, 0]) == 0


def write_timed(path, times, fps, click, rate=22_050):
    """Writes a frame at each of `times` (seconds), `fps` a second by the header, and a click into silence."""
    wave = np.zeros(round((times[-1] + 0.5) * rate), np.float32)
    wave[round(click * rate)] = 0.9
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
        video.codec_context.time_base = fractions.Fraction(1, 1000)
        audio = out.add_stream("pcm_f32le", rate=rate, layout="mono")
        for time, image in zip(times, moving_spot(len(times), 32, 64), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), fractions.Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
        out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return path


def who_hears(times, click, half):
    """The frames whose clips (of FRAMES, reversed at the beginning) show the time of a click."""
    frames = []
    for i in range(len(times)):
        first, last = (i, i + FRAMES - 1) if i < FRAMES - 1 else (i - FRAMES + 1, i)
        if times[first] - half <= click <= times[last] + half:
            frames.append(i)
    return frames


SLOWER = [k / 30 for k in range(30)] + [1 + k / 10 for k in range(30)]
PAUSE = [k / 25 for k in range(30)] + [1.8 + k / 25 for k in range(30)]


@pytest.mark.parametrize(
    ("times", "fps", "click"), [(SLOWER, 15, 2.55), (SLOWER, 15, 0.51), (PAUSE, 20, 1.5), (PAUSE, 20, 2.402)]
)
def test_sound_goes_by_the_times_of_frames(listening, tmp_path, times, fps, click):
    """Half a frame on either side of a clip is of the average rate; no click is within 3 ms of an edge."""
    source = write_timed(tmp_path / "a.mkv", times, fps, click)
    audible = [i for i, place in enumerate(places_of(listening.predict_video(source))) if place is not None]
    assert audible == who_hears(times, click, 0.5 / fps) != []
    predict_file(listening, source, tmp_path / "out", Settings(save=("npz", "features"), frame_step=2))
    with np.load(tmp_path / "out" / "maps.npz") as archive:
        thinned = archive["maps"][:, 0, 0]
    audible = [i for i, value in enumerate(thinned) if value > 0.4]  # silence is below 1e-3
    assert audible == who_hears(times[::2], click, 1 / fps)
    for number in json.loads((tmp_path / "out" / "summary.json").read_text())["features"]["frames"]:
        with np.load(tmp_path / "out" / "features" / f"{number:06d}.npz") as archive:
            assert (archive["saliency"].max() > 0.4) == ((number - 1) // 2 in audible)


def test_the_same_sound_with_a_sample_that_is_nan(tmp_path):
    model = hearing_probe(Waveform(LENGTH), FRAMES, 32, 64)
    wave = 0.4 * np.sin(np.arange(COUNT * 22_050 // RATE) / 5).astype(np.float32)
    maps = {}
    for name, value in (("zero", 0), ("nan", np.nan)):
        wave[9_000] = value
        frames = moving_spot(COUNT, 32, 64)
        source = write_video(tmp_path / f"{name}.mkv", frames, sound=wave, sound_codec="pcm_f32le")
        summary = predict_file(model, source, tmp_path / name, Settings(save=("npz", "overlay", "report")))
        with np.load(tmp_path / name / "maps.npz") as archive:
            maps[name] = archive["maps"]
    np.testing.assert_array_equal(maps["nan"], maps["zero"])
    note = "the sound of nan.mkv: 1 sample is NaN, infinite or beyond 8 times full scale, set to zero"
    assert summary["notes"] == [note]  # once, though the overlay has it as well
    assert note in (tmp_path / "nan" / "report.html").read_text()
    with pytest.warns(UserWarning, match="1 sample is NaN"):
        in_memory = model.predict_frames(frames, RATE, np.where(np.isnan(wave), np.inf, wave), 22_050)
    np.testing.assert_allclose(in_memory, maps["zero"], atol=0.02)  # of pictures that x264 did not change
    with pytest.warns(UserWarning, match="nan.mkv: 1 sample is NaN"):
        assert np.isfinite(model.predict_video(tmp_path / "nan.mkv")).all()


def test_sound_that_cannot_be_decoded_is_silence_and_a_note(listening, tmp_path):
    frames = moving_spot(COUNT, 32, 64)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 76_800)
    source = write_video(tmp_path / "a.mkv", frames, sound=wave, sample_rate=48_000, sound_codec="ac3")
    assert None not in places_of(listening.predict_video(source))[8:-8]
    source.write_bytes(source.read_bytes().replace(b"A_AC3", b"A_XX3"))
    with pytest.warns(
        UserWarning, match="there is no decoder for its codec; the audio input of the model is silence"
    ):
        assert set(places_of(listening.predict_video(source))) == {None}
    summary = predict_file(listening, source, tmp_path / "out", Settings(save=("npz", "report")))
    assert len(summary["notes"]) == 1 and "the audio input of the model is silence" in summary["notes"][0]
    with pytest.raises(AvsalError, match="no decoder for its codec; --audio takes auto, off, or a file"):
        listening.predict_video(source, audio=str(source))


@pytest.mark.parametrize("channels", [8, 12, 24])
def test_a_set_with_sound_of_many_channels(listening, tmp_path, channels):
    """Heard by `evaluate` at the right place, and prepared as the mean of the channels."""
    rate, click = 22_050, 19 * 22_050 // RATE
    wave = np.zeros((COUNT * rate // RATE, channels), np.int16)
    wave[click] = np.arange(channels) * 1_000
    video = fake_data.fake_video("one", COUNT, (32, 64), float(RATE))
    root = fake_data.write_stavis(tmp_path / "data", "DIEM", [video], {"test": ("one",)})
    write_wav(root / "video_audio/DIEM/one/one.wav", wave, rate)
    (entry,) = open_dataset("diem", root, "test")
    source = ModelMaps(listening, "probe")
    assert places_of(list(source.maps(entry, Unchanged))) == [
        heard_at(click, frame, rate, len(wave)) for frame in range(COUNT)
    ]
    assert source.problems(entry, None) == []
    prepare("diem", root, tmp_path / "prepared", (32, 64))
    (prepared,) = PreparedSources(tmp_path / "prepared").videos([("diem", None)], "test")
    mono = np.asarray(prepared.sound.wave[:])
    assert np.flatnonzero(mono).tolist() == [click]
    assert mono[click] == pytest.approx(np.mean(np.arange(channels)) * 1_000 / 32_768, rel=1e-6)


def test_a_set_with_samples_that_are_no_sound(listening, tmp_path):
    rate, click = 22_050, 19 * 22_050 // RATE
    wave = np.zeros(COUNT * rate // RATE, np.float32)
    wave[click], wave[::2_000] = 0.9, np.nan
    video = fake_data.fake_video("one", COUNT, (32, 64), float(RATE))
    root = fake_data.write_stavis(tmp_path / "data", "DIEM", [video], {"test": ("one",)})
    soundfile.write(root / "video_audio/DIEM/one/one.wav", wave, rate, "FLOAT")
    (entry,) = open_dataset("diem", root, "test")
    source = ModelMaps(listening, "probe")
    places = places_of(list(source.maps(entry, Unchanged)))
    assert places == [heard_at(click, frame, rate, len(wave)) for frame in range(COUNT)]
    assert source.problems(entry, None) == [
        "one: the sound of one.wav: 18 samples are NaN, infinite or beyond 8 times full scale, set to zero"
    ]
    prepare("diem", root, tmp_path / "prepared", (32, 64))
    assert "one.wav: 18 samples are NaN" in (tmp_path / "prepared/diem/report.md").read_text()


def test_a_set_with_sound_that_cannot_be_read(listening, tmp_path):
    """Silence with a note, as in `predict` and `prepare`."""
    video = fake_data.fake_video("one", COUNT, (32, 64), float(RATE))
    root = fake_data.write_stavis(tmp_path / "data", "DIEM", [video], {"test": ("one",)})
    (root / "video_audio/DIEM/one/one.wav").write_bytes(b"RIFF, and no sound")
    (entry,) = open_dataset("diem", root, "test")
    source = ModelMaps(listening, "probe")
    assert set(places_of(list(source.maps(entry, Unchanged)))) == {None}
    (line,) = source.problems(entry, None)
    assert "one.wav is not a video that can be read" in line and line.endswith(
        "; the audio input of the model is silence"
    )


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
        with pytest.warns(UserWarning, match="has no sound: the audio input of the model is silence"):
            np.testing.assert_array_equal(avinet.predict_video(path), off)
