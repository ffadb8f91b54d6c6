"""Sound as files have it: many channels, joined files, clocks that restart, any rate, no decoder."""

import fractions
import struct
import types

import av
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.media import audio, sound_stream
from avsal_jax.media.audio import is_silent, read_own_sound, read_sound
from avsal_jax.media.clip_sound import resample
from avsal_jax.media.sound_frames import SoundFrame
from avsal_jax.media.sound_stream import SoundStream
from avsal_jax.testing.videos import moving_spot, write_video


def write_sound(path, wave, rate, layout="mono", codec="pcm_s16le", start=0, **options):
    """Writes [channels, samples] or [samples] in [-1, 1] as 16-bit samples, without a picture."""
    wave = np.atleast_2d(wave)
    form = "mpegts" if path.suffix == ".ts" else None
    with av.open(str(path), "w", format=form) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout, options=options)
        if codec == "wavpack":  # else 8 bits
            stream.codec_context.format = "s16p"
        packed = np.rint(wave.T * 32_767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate, frame.time_base = rate, fractions.Fraction(1, rate)
        frame.pts = start * rate
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def write_wav(path, samples, rate=8_000, mask=None):
    """A header by hand: int16 [n, channels]; with a mask of speakers (which may be 0), or plain."""
    channels = samples.shape[1]
    form = struct.pack("<HIIHH", channels, rate, rate * channels * 2, channels * 2, 16)
    if mask is None:
        form = struct.pack("<H", 1) + form
    else:
        tail = struct.pack("<HHIH", 22, 16, mask, 1) + bytes.fromhex("000000001000800000aa00389b71")
        form = struct.pack("<H", 0xFFFE) + form + tail
    data = samples.astype("<i2").tobytes()
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def levels_of(channels):
    """A level for each channel. The mean has its expected value only if it includes all of them."""
    return np.array([64 * 3**c % 8191 for c in range(channels)])


def tone(rate, seconds, hz, level=0.4):
    return level * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def pitch(sound, begin, end):
    part = np.asarray(sound.wave[int(begin * sound.rate) : int(end * sound.rate)])
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 18))
    return int(spectrum.argmax()) * sound.rate / (1 << 18)


@pytest.mark.parametrize("mask", [None, 0, 0x63F])
@pytest.mark.parametrize("channels", [7, 8, 9, 12, 16, 24, 64, 65, 200])
def test_wav_of_any_number_of_channels_is_their_mean(tmp_path, channels, mask):
    levels = levels_of(channels)
    path = write_wav(tmp_path / "a.wav", np.repeat(levels[None], 3_000, 0), mask=mask)
    sound = read_sound(path)
    assert len(sound.wave) == 3_000 and sound.notes == ()
    np.testing.assert_allclose(sound.wave, levels.mean() / 32_768, rtol=1e-5)  # float32 sums of 200
    assert read_own_sound(path)[0] is not None and not is_silent(path)


LAYOUTS = ["6.1", "7.1", "7.1(wide)", "octagonal", "5.1.4", "7.1.4", "hexadecagonal", "22.2"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_planar_sound_of_any_layout_is_the_mean_of_its_channels(tmp_path, layout):
    """WavPack decodes to a plane for each channel, losslessly."""
    levels = levels_of(av.AudioLayout(layout).nb_channels)
    wave = np.repeat(levels[:, None], 6_000, 1) / 32_767
    sound = read_sound(write_sound(tmp_path / "a.mkv", wave, 48_000, layout, "wavpack"))
    assert len(sound.wave) == 6_000
    np.testing.assert_allclose(sound.wave, levels.mean() / 32_768, rtol=1e-5)


def test_left_and_right_are_the_channels_of_each_side(tmp_path):
    levels = np.arange(1, 9) * 1_000.0  # of FL FR FC LFE BL BR SL SR
    wave = np.repeat(levels[:, None], 4_000, 1) / 32_767
    path = write_sound(tmp_path / "a.mkv", wave, 48_000, "7.1", "wavpack")
    stereo = np.concatenate(list(SoundStream(path, channels=2))) * 32_768
    left, right = levels[[0, 2, 3, 4, 6]].mean(), levels[[1, 2, 3, 5, 7]].mean()
    np.testing.assert_allclose(stereo, [[left, right]] * 4_000, rtol=1e-5)
    unnamed = write_wav(tmp_path / "a.wav", np.repeat(levels[None], 4_000, 0))
    np.testing.assert_allclose(
        np.concatenate(list(SoundStream(unnamed, channels=2))) * 32_768, levels.mean(), rtol=1e-5
    )


def test_channels_in_an_order_of_their_own(tmp_path):
    """CAF may name the right channel before the left; PyAV then frees the names twice."""
    samples = np.repeat(np.array([[4_000, 12_000]]), 9_000, 0).astype(">i2").tobytes()
    channels = struct.pack(">III", 0, 0, 2) + b"".join(struct.pack(">IIfff", n, 0, 0, 0, 0) for n in (2, 1))
    form = struct.pack(">d4sIIIII", 8_000, b"lpcm", 0, 4, 1, 2, 16)
    chunks = {b"desc": form, b"chan": channels, b"data": b"\0\0\0\0" + samples}
    body = b"".join(name + struct.pack(">q", len(data)) + data for name, data in chunks.items())
    path = tmp_path / "a.caf"
    path.write_bytes(b"caff\0\1\0\0" + body)
    for _ in range(20):
        np.testing.assert_array_equal(read_sound(path).wave, np.full(9_000, 8_000 / 32_768, np.float32))


JOINED = {  # name: codec, suffix, then rate and layout of both files
    "channels": ("aac", "ts", (48_000, "stereo"), (48_000, "mono")),
    "rate in adts": ("aac", "aac", (48_000, "stereo"), (24_000, "stereo")),
    "a higher rate": ("aac", "aac", (22_050, "mono"), (44_100, "stereo")),
    "rate in ts": ("ac3", "ts", (48_000, "stereo"), (32_000, "mono")),
    "mp3": ("libmp3lame", "mp3", (44_100, "stereo"), (22_050, "mono")),
    "flac in ogg": ("flac", "ogg", (48_000, "stereo"), (24_000, "mono")),
    "opus, which FFmpeg gives up": ("libopus", "ogg", (48_000, "stereo"), (48_000, "mono")),
}


@pytest.mark.parametrize("name", JOINED)
def test_joined_files_are_one_sound_at_the_first_rate(tmp_path, name):
    codec, suffix, *forms = JOINED[name]
    path = tmp_path / f"whole.{suffix}"
    with path.open("wb") as out:
        for (rate, layout), hz in zip(forms, (440, 880), strict=True):
            wave = np.tile(tone(rate, 2, hz), (2 if layout == "stereo" else 1, 1))
            part = write_sound(tmp_path / f"part.{suffix}", wave, rate, layout, codec)
            out.write(part.read_bytes())
    sound = read_sound(path)
    assert sound.rate == forms[0][0]
    assert 3.95 < len(sound.wave) / sound.rate < 4.2  # encoders fill up a frame or two
    assert pitch(sound, 0.3, 1.7) == pytest.approx(440, abs=2)
    assert pitch(sound, 2.4, 3.6) == pytest.approx(880, abs=2)
    middle = np.abs(np.asarray(sound.wave)[int(0.5 * sound.rate) : int(3.5 * sound.rate)])
    loud = np.lib.stride_tricks.sliding_window_view(middle, sound.rate // 12)[:: sound.rate // 100].max(1)
    assert loud.min() > 0.2  # no gap of 80 ms, though each of the two is padded by its encoder
    words = [f"{rate} Hz and {1 if layout == 'mono' else 2} channel" for rate, layout in forms]
    words = words if codec != "libopus" else ()  # before FFmpeg 8 its decoder makes two channels of one
    assert any(all(w in note for w in words) for note in sound.notes), sound.notes


def test_a_transport_stream_that_continues_with_another_codec(tmp_path):
    with (tmp_path / "whole.ts").open("wb") as out:
        for codec, hz, start in (("aac", 440, 0), ("libmp3lame", 880, 2)):
            wave = tone(48_000, 2, hz)
            part = write_sound(tmp_path / "part.ts", wave, 48_000, "mono", codec, start)
            out.write(part.read_bytes())
    sound = read_sound(tmp_path / "whole.ts")
    assert pitch(sound, 0.3, 1.7) == pytest.approx(440, abs=2)
    assert pitch(sound, 2.3, 3.7) == pytest.approx(880, abs=2)


class TestTimes:
    """Frames of 100 samples at 1000 Hz, each of its own level, whose times are given."""

    def read(self, monkeypatch, times, untimed=False, rates=None, may_leap=True):
        """Returns (level of every tenth of a second, notes)."""
        frames = [
            SoundFrame(np.full((100, 1), k + 1, np.float32) / 100, (rates or {}).get(k, 1_000), time, ("FC",))
            for k, time in enumerate(times)
        ]

        class Frames(list):
            damaged, skipped, stores_floats = 0, None, False

        source = Frames(frames)
        source.untimed, source.may_leap = untimed, may_leap
        monkeypatch.setattr(sound_stream, "SoundFrames", lambda path, container: source)
        stream = SoundStream("a.ts")
        wave = np.concatenate(list(stream))
        return np.rint(wave[50::100] * 100).astype(int).tolist(), stream.notes

    def test_a_gap_is_silence(self, monkeypatch):
        levels, notes = self.read(monkeypatch, [5.0, 5.1, 5.5, 5.6])
        assert (levels, notes) == ([1, 2, 0, 0, 0, 3, 4], ())

    def test_a_step_back_leaves_no_gap(self, monkeypatch):
        levels, (note,) = self.read(monkeypatch, [5.0, 5.1, 5.2, 0.0, 0.1, 0.4, 7.0])
        assert levels == [1, 2, 3, 4, 5, 0, 0, 6] + 65 * [0] + [7]
        assert note == "the sound of a.ts: its clock restarts once; it continues without a gap"

    def test_a_step_back_again_and_again(self, monkeypatch):
        levels, notes = self.read(monkeypatch, [0.0, 0.1, 0.2] * 4)
        assert levels == list(range(1, 13)) and "3 times" in notes[0]

    def test_one_wrong_time_changes_nothing(self, monkeypatch):
        levels, _ = self.read(monkeypatch, [5.0, 5.1, 0.0, 5.3, 5.4])
        assert levels == [1, 2, 3, 4, 5]

    def test_small_steps_are_rounding(self, monkeypatch):
        levels, notes = self.read(monkeypatch, [0.0, 0.09, 0.21, 0.29, 0.4])
        assert (levels, notes) == ([1, 2, 3, 4, 5], ())

    def test_a_jump_of_ten_minutes_is_another_clock(self, monkeypatch):
        levels, notes = self.read(monkeypatch, [0.0, 0.1, 5_000.0, 5_000.1, 5_000.3])
        assert levels == [1, 2, 3, 4, 0, 5] and "once" in notes[0]

    def test_a_pause_of_twenty_minutes_is_one_where_clocks_do_not_leap(self, monkeypatch):
        """As in Matroska and MP4, whose picture pauses for as long."""
        levels, notes = self.read(monkeypatch, [0.0, 0.1, 1_200.0, 1_200.1], may_leap=False)
        assert levels == [1, 2, *11_998 * [0], 3, 4] and notes == ()
        levels, notes = self.read(monkeypatch, [0.0, 0.1, 3_700.0, 3_700.1], may_leap=False)
        assert levels == [1, 2, 3, 4] and "once" in notes[0]

    def test_gaps_add_up_to_ten_minutes(self, monkeypatch):
        """A small file cannot ask for hours of silence."""
        levels, _ = self.read(monkeypatch, [300.0 * k for k in range(50)])
        assert levels.count(0) <= 6_000 and set(levels) == set(range(51))

    def test_a_format_without_times_is_counted_once_its_rate_changed(self, monkeypatch):
        times, rates = [0.0, 0.1, 0.2, 0.3, 0.4], {2: 500, 3: 500, 4: 500}
        levels, _ = self.read(monkeypatch, times, True, rates)
        assert levels == [1, 2, 3, 3, 4, 4, 5, 5]  # 100 samples at half the rate last twice as long
        shorter, _ = self.read(monkeypatch, [0.0, 0.1, 0.2, 0.6, 1.0], True, {2: 2_000, 3: 2_000, 4: 2_000})
        assert len(shorter) in (3, 4) and 0 not in shorter

    def test_of_many_forms_four_are_listed(self, monkeypatch):
        rates = {1: 2_000, 2: 4_000, 3: 5_000, 4: 8_000, 5: 10_000}
        _, notes = self.read(monkeypatch, [0.0, 0.1, 0.15, 0.175, 0.195, 0.2075], rates=rates)
        forms = " to ".join(f"{rate} Hz and 1 channel" for rate in (1_000, 2_000, 4_000, 5_000))
        assert notes == (
            f"the sound of a.ts changes at 0.10 s, from {forms} to and so on; it is read at 1000 Hz",
        )


def test_a_gap_is_more_than_half_a_frame_and_20_ms():
    frames = types.SimpleNamespace(untimed=False, may_leap=True)
    for samples, late, missing in ((100, 0.04, 0), (100, 0.06, 60), (10, 0.018, 0), (10, 0.03, 30)):
        frame = SoundFrame(np.zeros((samples, 1), np.float32), 1_000, late, ("FC",))
        assert sound_stream._Timeline(0.0, 1_000, frames).missing(frame) == missing


def test_one_channel_is_on_both_sides(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.array([[8_192], [-16_384]] * 2_000))
    stereo = np.concatenate(list(SoundStream(path, channels=2)))
    np.testing.assert_array_equal(stereo, [[0.25, 0.25], [-0.5, -0.5]] * 2_000)


def test_a_long_sound_is_not_held_in_memory(tmp_path, monkeypatch):
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, 50_000)
    path = write_sound(tmp_path / "a.wav", wave, 8_000)
    in_memory = read_sound(path)
    monkeypatch.setattr(audio, "_IN_MEMORY", 10_000)
    on_disk = read_sound(path)
    assert isinstance(on_disk.wave, np.memmap) and isinstance(in_memory.wave, np.ndarray)
    np.testing.assert_array_equal(on_disk.wave, in_memory.wave)


@pytest.mark.parametrize("rate", [6_000, 7_350, 11_025, 12_345, 88_200, 192_000, 384_000])
def test_any_rate_is_heard(tmp_path, rate):
    sound = read_sound(write_sound(tmp_path / "a.wav", tone(rate, 1, 440), rate))
    assert sound.rate == rate and len(sound.wave) == rate
    for target_rate in (16_000, 22_050):
        resampled = resample(sound, target_rate)
        assert len(resampled.wave) == target_rate
        expected = tone(target_rate, 1, 440)
        inside = slice(target_rate // 10, -target_rate // 10)
        error = np.abs(np.asarray(resampled.wave[:]) - expected)[inside]
        assert error.max() < 2e-3  # 16 bits, and the filter


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_absurd_rates_are_refused(tmp_path, rate):
    """Resampling one second at 1 Hz takes seconds."""
    path = write_wav(tmp_path / "a.wav", np.ones((100, 1)), rate)
    with pytest.raises(AvsalError, match=f"it states {rate} Hz; 1,000 to 1,000,000"):
        read_sound(path)


def test_sound_without_a_decoder_is_one_line(tmp_path):
    path = write_video(tmp_path / "a.mkv", moving_spot(3), sound=np.zeros(9_600), sample_rate=48_000,
                       sound_codec="ac3")  # fmt: skip
    other = tmp_path / "other.mkv"
    other.write_bytes(path.read_bytes().replace(b"A_AC3", b"A_XX3"))
    assert read_own_sound(path)[0] is not None
    for read in (read_sound, is_silent):
        with pytest.raises(AvsalError, match=r"sound of .*other.mkv cannot be decoded: there is no decoder"):
            read(other)
