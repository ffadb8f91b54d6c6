"""The sound of the overlay: any rate, layout and level, joined files, damage, and no decoder."""

import av
import numpy as np
import pytest
import scipy.io.wavfile

from avsal_jax.inference import sound_track
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.inference.sound_track import rate_for
from avsal_jax.media.audio import read_sound
from avsal_jax.testing.models import probe_model
from avsal_jax.testing.videos import moving_spot, write_video
from tests.media.test_sound_stream import pitch, tone

FRAMES = moving_spot(25, 32, 64)
UNUSED_SOUND_NOTE = "this model is visual-only: it does not use the sound"


@pytest.fixture(scope="module")
def seeing():
    return probe_model(8, 32, 64)


def overlaid(model, source, folder, **settings):
    """Returns the overlay and what was noted beyond that the model is deaf."""
    summary = predict_file(model, source, folder / "out", Settings(save=("overlay",), **settings))
    assert summary["frames"] == summary["maps"]
    return folder / "out" / "overlay.mp4", [note for note in summary["notes"] if note != UNUSED_SOUND_NOTE]


def test_the_rate_of_aac_is_the_next_that_players_take():
    rates = (6_000, 7_350, 8_000, 11_025, 12_345, 44_100, 48_000, 64_000, 96_000, 96_001, 192_000, 384_000)
    expected = (8_000, 7_350, 8_000, 11_025, 16_000, 44_100, 48_000, 64_000, 96_000, 48_000, 48_000, 48_000)
    assert tuple(map(rate_for, rates)) == expected


@pytest.mark.parametrize("rate", [6_000, 12_345, 192_000, 384_000])
def test_rates_that_aac_lacks_are_resampled(seeing, tmp_path, rate):
    source = write_video(tmp_path / "a.mkv", FRAMES, sound=tone(rate, 1, 440), sample_rate=rate,
                         sound_codec="pcm_s16le")  # fmt: skip
    path, notes = overlaid(seeing, source, tmp_path)
    sound = read_sound(path)
    assert sound.rate == rate_for(rate) and pitch(sound, 0.2, 0.8) == pytest.approx(440, abs=2)
    assert len(sound.wave) / sound.rate == pytest.approx(
        1, abs=0.2
    )  # of a frame of AAC, which is long at 8 kHz
    assert notes == [f"the overlay's sound is at {rate_for(rate)} Hz; AAC has no {rate} Hz"]


TONE_LEVEL = 0.4
MANY = [
    ("22.2", "pcm_s16le", "mkv", TONE_LEVEL),
    ("7.1.4", "wavpack", "mkv", TONE_LEVEL),
    ("7.1(wide)", "alac", "mov", TONE_LEVEL),
    ("7.1", "aac", "mp4", TONE_LEVEL * 7 / 8),  # AAC has no tone of 440 Hz in the LFE channel
]


def level(sound):
    """Returns the amplitude of a tone. Its peak also depends on the encoder's noise."""
    return np.sqrt(2) * np.std(sound.wave[int(0.2 * sound.rate) : int(0.8 * sound.rate)])


def peak(sound):
    return np.abs(sound.wave).max()


@pytest.mark.parametrize(("layout", "codec", "suffix", "expected"), MANY)
def test_sound_of_many_channels_goes_with_it(seeing, tmp_path, layout, codec, suffix, expected):
    wave = np.tile(tone(48_000, 1, 440, TONE_LEVEL), (av.AudioLayout(layout).nb_channels, 1))
    source = write_video(tmp_path / f"a.{suffix}", FRAMES, sound=wave, sample_rate=48_000, layout=layout,
                         sound_codec=codec)  # fmt: skip
    path, notes = overlaid(seeing, source, tmp_path)
    sound = read_sound(path)
    assert pitch(sound, 0.2, 0.8) == pytest.approx(440, abs=2) and notes == []
    assert level(sound) == pytest.approx(expected, rel=0.02)
    assert peak(sound) == pytest.approx(peak(read_sound(source)), abs=0.05)


def test_what_is_no_sound_is_not_in_the_overlay(seeing, tmp_path):
    wave = tone(22_050, 1, 440).astype(np.float32)
    wave[5_000], wave[6_000] = np.nan, 1e30
    source = write_video(tmp_path / "a.mkv", FRAMES, sound=wave, sound_codec="pcm_f32le")
    path, (note,) = overlaid(seeing, source, tmp_path)
    assert "2 samples are NaN, infinite or beyond 8 times full scale, set to zero" in note
    assert np.abs(read_sound(path).wave).max() < 0.8


def joined(folder, *forms):
    """Transport streams of a second each, one after the other, all on a clock that begins at zero."""
    path = folder / "whole.ts"
    with path.open("wb") as out:
        for rate, layout, hz in forms:
            wave = np.tile(tone(rate, 1, hz), (1 if layout == "mono" else 2, 1))
            part = write_video(folder / "part.ts", FRAMES, sound=wave, sample_rate=rate, layout=layout)
            out.write(part.read_bytes())
    return path


def test_joined_recordings_sound_on(seeing, tmp_path):
    source = joined(tmp_path, (48_000, "stereo", 440), (48_000, "mono", 880), (24_000, "stereo", 1_320))
    path, notes = overlaid(seeing, source, tmp_path)
    sound = read_sound(path)
    assert [pitch(sound, k + 0.3, k + 0.8) for k in range(3)] == pytest.approx([440, 880, 1_320], abs=3)
    assert 2.9 < len(sound.wave) / sound.rate < 3.3
    assert "48000 Hz and 1 channel to 24000 Hz and 2 channels" in notes[0]
    assert "its clock restarts 2 times" in notes[1]


def test_a_gap_stays_a_gap_when_encoded(seeing, tmp_path):
    """Of two seconds of MP2, which mp4 does not get as it is, the packets of half a second are missing."""
    original = write_video(tmp_path / "whole.mkv", moving_spot(50, 32, 64), sound=tone(16_000, 2, 440),
                           sample_rate=16_000, sound_codec="mp2")  # fmt: skip
    with av.open(str(original)) as source, av.open(str(tmp_path / "cut.mkv"), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            gap = packet.dts is None or (
                packet.stream.type == "audio" and 0.5 <= packet.pts * packet.time_base < 1
            )
            if not gap:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    sound = read_sound(overlaid(seeing, tmp_path / "cut.mkv", tmp_path)[0])
    assert np.abs(sound.wave[int(0.65 * sound.rate) : int(0.9 * sound.rate)]).max() < 0.02
    assert pitch(sound, 0.1, 0.45) == pytest.approx(440, abs=4)
    assert pitch(sound, 1.2, 1.9) == pytest.approx(440, abs=2)
    assert len(sound.wave) / sound.rate == pytest.approx(2, abs=0.2)


def test_a_file_of_its_own_with_nan_begins_with_the_picture(seeing, tmp_path):
    wave = tone(96_000, 1, 440).astype(np.float32)
    wave[40_000] = np.inf
    scipy.io.wavfile.write(tmp_path / "other.wav", 96_000, wave)
    source = write_video(tmp_path / "a.mp4", FRAMES)
    path, (note,) = overlaid(seeing, source, tmp_path, audio=str(tmp_path / "other.wav"))
    sound = read_sound(path)
    assert pitch(sound, 0.2, 0.8) == pytest.approx(440, abs=2) and "other.wav: 1 sample is" in note


def test_sound_that_no_encoder_takes_is_left_out_with_a_note(seeing, tmp_path, monkeypatch):
    monkeypatch.setattr(sound_track, "_ENCODER", "none_such")
    source = write_video(tmp_path / "a.mkv", FRAMES, sound=tone(8_000, 1, 440), sample_rate=8_000,
                         sound_codec="pcm_s16le")  # fmt: skip
    path, (note,) = overlaid(seeing, source, tmp_path)
    with av.open(str(path)) as overlay:
        assert not overlay.streams.audio and sum(1 for _ in overlay.decode(video=0)) == 25
    assert note.startswith("the overlay has no sound: none_such at 8000 Hz is refused")


def test_sound_without_a_decoder_is_left_out_with_a_note(seeing, tmp_path):
    source = write_video(tmp_path / "a.mkv", FRAMES, sound=tone(48_000, 1, 440), sample_rate=48_000,
                         sound_codec="ac3")  # fmt: skip
    source.write_bytes(source.read_bytes().replace(b"A_AC3", b"A_XX3"))
    path, (note,) = overlaid(seeing, source, tmp_path)
    with av.open(str(path)) as overlay:
        assert not overlay.streams.audio
    assert note.startswith("the overlay has no sound: the sound of") and "no decoder for its codec" in note


def test_packets_that_mp4_refuses_are_left_out(seeing, tmp_path):
    original = write_video(tmp_path / "whole.mkv", FRAMES, sound=tone(48_000, 1, 440), sample_rate=48_000,
                           sound_codec="ac3")  # fmt: skip
    damaged = 0
    with av.open(str(original)) as source, av.open(str(tmp_path / "cut.mkv"), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            target = copies[packet.stream.index]
            if packet.stream.type == "audio" and 0.3 <= packet.pts * packet.time_base < 0.6:
                packet.update(bytes(packet.size))
                damaged += 1
            packet.stream = target
            out.mux(packet)
    path, notes = overlaid(seeing, tmp_path / "cut.mkv", tmp_path)
    assert damaged > 5 and notes == [
        f"{tmp_path / 'cut.mkv'}: the overlay lacks {damaged} damaged packets of sound"
    ]
    sound = read_sound(path)
    assert pitch(sound, 0.65, 0.95) == pytest.approx(440, abs=4)
