"""The sound of a clip: the public code's arithmetic, silence, reversal, streams as files have them."""

import json

import av
import numpy as np
import pytest

from avsal_jax import AvsalError, LogMel, Waveform
from avsal_jax.media.audio import envelope, read_own_sound, read_sound
from avsal_jax.media.clip_sound import ClipSound, Sound, excerpt_bounds, resample
from avsal_jax.testing.golden import tone
from avsal_jax.testing.videos import moving_spot, write_audio_only, write_video

SPEC = {16: Waveform(35_280), 32: Waveform(70_560)}


@pytest.fixture(scope="module")
def cases(tests_dir):
    return json.loads((tests_dir / "golden" / "audio_golden.json").read_text())["audio_cut"]["cases"]


def test_the_tables_are_those_of_the_public_code(cases):
    for name, case in cases.items():
        bounds = [
            excerpt_bounds(f, f, case["Fs"], case["fps"], case["n_samples"])
            for f in range(1, case["n_frames"] + 1)
        ]
        starts = [begin for begin, _ in bounds]
        assert starts[:5] == case["starts_first6"][1:], name  # the public tables begin with an unused 0
        assert starts[-3:] == case["starts_last3"], name
        assert sum(starts) == case["starts_sum"], name
        inside = [end - 1 for _, end in bounds if end < case["n_samples"]]
        assert inside[:5] == case["ends_first6"][1:], name


def test_the_buffers_are_those_of_the_public_code(cases):
    for name, case in cases.items():
        length, spec = case["clip_len"], SPEC[case["clip_len"]]
        wave = tone(case["wav_seed"], case["n_samples"]).astype(np.float32)
        clips = ClipSound(Sound(wave, case["Fs"]), spec, length, case["fps"])
        assert clips.warning is None
        for start, golden in case["clips"].items():
            frames = [min(int(start) + i, case["n_frames"] - 1) for i in range(length)]
            buffer = clips.clip(frames, None)
            assert buffer.shape == (golden["buffer_len"],) and buffer.dtype == np.float32
            positions = np.flatnonzero(buffer)
            if golden["abs_sum"] == 0:
                assert len(positions) == 0
                continue
            span = golden["first_nonzero"], golden["last_nonzero"]
            assert (positions[0], positions[-1]) == span, (name, start)
            assert abs(np.abs(buffer, dtype=np.float64).sum() / golden["abs_sum"] - 1) < 1e-6
            assert abs(buffer.sum(dtype=np.float64) - golden["sum"]) < 1e-6 * golden["abs_sum"]
            assert abs(buffer[len(buffer) // 2] - golden["mid"]) < 1e-3


def test_a_reversed_clip_hears_its_buffer_reversed():
    clips = ClipSound(Sound(tone(1, 50_000).astype(np.float32), 22_050), SPEC[16], 16, 25.0)
    forwards = list(range(3, 19))
    np.testing.assert_array_equal(clips.clip(forwards[::-1], 60), clips.clip(forwards, 60)[::-1])


def flat(spec):
    """Without a window, so that samples can be compared."""
    return Waveform(spec.samples, window="none")


def test_frames_that_padding_invented_are_silent():
    wave = np.linspace(0.1, 0.9, 22_050).astype(np.float32)
    clips = ClipSound(Sound(wave, 22_050), flat(SPEC[16]), 16, 25.0)
    # 5 frames, padded in front: the sound of the 5, with 11 frames of silence before it.
    buffer = clips.clip([0] * 12 + [1, 2, 3, 4], 5)
    alone = excerpt_bounds(1, 5, 22_050, 25.0, 22_050)
    sounding = np.flatnonzero(buffer)
    assert len(sounding) == alone[1] - alone[0]
    np.testing.assert_allclose(buffer[sounding], 256 * wave[: len(sounding)], rtol=1e-6)
    silence = round(11 * 22_050 / 25)
    assert sounding[0] == 35_280 // 2 - (silence + len(sounding)) // 2 + silence
    # Repeats at the end are silent too, and one frame alone has only its own sound.
    after = np.flatnonzero(clips.clip([1, 2, 3, *[4] * 13], 5))
    assert after[-1] < 35_280 // 2 + 1 and len(after) < len(sounding)
    assert len(np.flatnonzero(clips.clip([0] * 16, 1))) == excerpt_bounds(1, 1, 22_050, 25, 22_050)[1]


def test_a_late_sound_begins_late_and_an_early_one_is_cut():
    wave = np.linspace(0.1, 0.9, 40_000).astype(np.float32)
    plain = ClipSound(Sound(wave, 10_000), flat(SPEC[16]), 16, 25.0)
    early = ClipSound(Sound(wave, 10_000, start=0.0), flat(SPEC[16]), 16, 25.0, video_start=1.0)
    frames = list(range(20, 36))
    later = list(range(45, 61))  # a second later
    np.testing.assert_array_equal(early.clip(frames, None), plain.clip(later, None))
    late = ClipSound(Sound(wave, 10_000, start=1.0), flat(SPEC[16]), 16, 25.0)
    np.testing.assert_array_equal(late.clip(later, None), plain.clip(frames, None))
    assert not late.clip(list(range(16)), None).any()


def test_sound_that_does_not_fit_is_resampled_then_cropped():
    wave = tone(3, 48_000 * 4).astype(np.float32)
    slow = ClipSound(Sound(wave, 48_000), SPEC[32], 32, 15.0)  # 102,400 samples, then 47,040
    assert "do not fit 70560 samples: resampled to 22050 Hz" in slow.warning and "middle" not in slow.warning
    assert len(np.flatnonzero(slow.clip(list(range(5, 37)), None))) > 46_000
    slower = ClipSound(Sound(wave, 48_000), SPEC[32], 32, 8.0)  # 88,200 even then
    assert "only the middle" in slower.warning
    assert slower.clip(list(range(0, 32)), None).shape == (70_560,)


def test_slow_sound_is_not_made_longer():
    """What does not fit is resampled from a higher rate alone: else less of it would fit."""
    wave = tone(3, 16_000 * 20).astype(np.float32)
    clips = ClipSound(Sound(wave, 16_000), flat(SPEC[32]), 32, 6.25)  # 81,920 samples of a clip
    assert clips.warning.endswith("do not fit 70560 samples: only the middle of each clip's sound is kept")
    buffer = clips.clip(list(range(20, 52)), None)
    begin = int(20 / 6.25 * 16_000 - 16_000 / 6.25 / 2) + (81_921 - 70_560) // 2
    np.testing.assert_allclose(buffer, 256 * wave[begin : begin + 70_560], rtol=1e-6)


def test_a_network_may_ask_for_a_rate():
    spec = Waveform(35_280, rate=11_025, window="none")
    clip = ClipSound(Sound(tone(1, 60_000).astype(np.float32), 22_050), spec, 16, 25.0).clip(
        list(range(8, 24)), None
    )
    assert len(np.flatnonzero(clip)) == pytest.approx(16 * 11_025 / 25, abs=3)


def test_the_middle_is_kept():
    excerpt = np.arange(1, 12, dtype=np.float32)
    np.testing.assert_array_equal(Waveform(4, window="none").cut(excerpt), 256 * excerpt[3:7])


def test_resampling_keeps_a_tone():
    t = np.arange(44_100) / 44_100
    sound = resample(Sound(np.sin(2 * np.pi * 440 * t).astype(np.float32), 44_100, 0.5), 22_050)
    expected = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)
    assert (sound.rate, sound.start, len(sound.wave)) == (22_050, 0.5, 22_050)
    assert np.abs(sound.wave[:] - expected)[200:-200].max() < 1e-3


@pytest.mark.parametrize("rates", [(22_050, 16_000), (44_100, 22_050), (48_000, 16_000), (22_047, 16_000)])
def test_a_part_is_resampled_as_in_the_whole(rates):
    import soxr

    source_rate, target_rate = rates
    wave = np.random.default_rng(3).uniform(-1, 1, 3 * source_rate + 17).astype(np.float32)
    entire = soxr.resample(wave, source_rate, target_rate, quality="HQ")
    entire = np.pad(entire, (0, -(-len(wave) * target_rate // source_rate) - len(entire)))  # a sample at most
    parts = resample(Sound(wave, source_rate), target_rate).wave
    assert len(parts) == len(entire)
    assert parts[len(entire) - 3 :].shape == (3,)
    for begin, end in ((0, 100), (0, 15_600), (12_345, 33_000), (len(entire) - 9_000, len(entire)), (7, 7)):
        np.testing.assert_allclose(parts[begin:end], entire[begin:end], atol=5e-6)


def test_silence_sounds_as_a_silent_file_does():
    np.testing.assert_array_equal(SPEC[16].silence, np.zeros(35_280))
    np.testing.assert_allclose(np.asarray(LogMel().silence), np.full((1, 96, 64), np.log(0.01)), rtol=1e-6)


def test_reading_the_sound_of_real_clips(tests_dir):
    surround = read_sound(tests_dir / "media" / "big_buck_bunny_5s.mp4")  # 5.1 channels
    assert surround.rate == 48_000 and abs(len(surround.wave) / 48_000 - 5.3) < 0.1
    assert 0.001 < np.abs(surround.wave).max() <= 1.5
    times, peaks = envelope(tests_dir / "media" / "big_buck_bunny_5s.mp4")
    assert len(times) == len(peaks) and abs(times[-1] - 5.27) < 0.1
    assert abs(peaks.max() - np.abs(surround.wave).max()) < 1e-6


def test_stereo_becomes_mono(tmp_path):
    path = tmp_path / "stereo.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8_000, layout="stereo")
        pair = np.stack([np.full(4_000, 8_192), np.full(4_000, 16_384)], 1).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(pair, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 8_000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    sound = read_sound(path)
    assert len(sound.wave) == 4_000
    np.testing.assert_allclose(sound.wave, 0.375, atol=1e-3)  # the mean of 1/4 and 1/2


def test_a_gap_in_the_times_is_silence(tmp_path):
    """Of four seconds of FLAC the packets of the second one are missing."""
    original = write_video(
        tmp_path / "whole.mkv", moving_spot(100, 32, 64), sound=0.3 * tone(1, 4 * 8_000) + 0.5,
        sample_rate=8_000, sound_codec="flac",
    )  # fmt: skip
    with av.open(str(original)) as source, av.open(str(tmp_path / "cut.mkv"), "w") as out:
        stream = source.streams.audio[0]
        copy = out.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None and not 1 <= packet.pts * packet.time_base < 2:
                packet.stream = copy
                out.mux(packet)
    before, after = read_sound(original), read_sound(tmp_path / "cut.mkv")
    assert abs(len(before.wave) - len(after.wave)) <= 16  # times in Matroska are rounded to 0.001 s
    silent = np.flatnonzero(after.wave == 0)
    assert abs(len(silent) - 8_000) < 4_608 and silent[-1] - silent[0] + 1 == len(silent)
    at = len(after.wave) - len(before.wave)
    np.testing.assert_array_equal(after.wave[silent[-1] + 1 :], before.wave[silent[-1] + 1 - at :])
    assert read_own_sound(original)[0] is not None


def test_a_track_without_a_sample_is_no_sound(tmp_path):
    path = write_video(tmp_path / "empty.mkv", moving_spot(3), sound=np.zeros(0), sound_codec="pcm_f32le")
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1
    assert read_own_sound(path) == (None, "")


def test_no_sound_is_an_error(tmp_path):
    silent = write_video(tmp_path / "silent.mp4", moving_spot(3))
    with pytest.raises(AvsalError, match="has no sound"):
        read_sound(silent)
    assert len(read_sound(write_audio_only(tmp_path / "a.m4a", 0.5)).wave) > 10_000
