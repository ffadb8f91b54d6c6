"""Covers, several streams, and numbers in headers that are wrong or absent: what is decoded counts."""

import fractions
import struct

import av
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.media.containers import is_whole
from avsal_jax.media.video import Video
from avsal_jax.testing.videos import moving_spot, write_video

MILLISECOND = fractions.Fraction(1, 1000)
COVER, DEFAULT = 0x400, 1  # dispositions


def add_video(out, size, codec="libx264", cover=False, **settings):
    stream = out.add_stream(codec, rate=25)
    stream.height, stream.width = size
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    if cover:
        stream.disposition = COVER
    for name, value in settings.items():
        setattr(stream, name, value)
    return stream


def encode(out, stream, images, times=None):
    for k, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        if times is not None:
            frame.pts, frame.time_base = times[k], MILLISECOND
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def encode_tone(out, stream, rate=44_100):
    wave = (0.3 * np.sin(np.arange(rate) * 0.05)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
    out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("m4a", "aac"), ("flac", "flac")])
def test_the_cover_of_a_song_is_no_video(tmp_path, suffix, codec):
    path = tmp_path / f"song.{suffix}"
    with av.open(str(path), "w", format="mp4" if suffix == "m4a" else None) as out:
        sound = out.add_stream(codec, rate=44_100, layout="mono")
        cover = add_video(out, (64, 96), "mjpeg", cover=True)
        encode(out, cover, moving_spot(1, 64, 96))
        encode_tone(out, sound)
    with pytest.raises(AvsalError, match="has no video: its picture is a cover"):
        Video(path)
    with pytest.raises(AvsalError, match="has no video: its picture is a cover"):
        Video(path, stream=1)


@pytest.mark.parametrize("first", [True, False])
def test_a_cover_next_to_a_video_is_skipped(tmp_path, first):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as out:
        sizes = [(96, 64), (72, 128)] if first else [(72, 128), (96, 64)]
        streams = {}
        for size in sizes:
            cover = size == (96, 64)
            streams[cover] = add_video(out, size, "mjpeg" if cover else "libx264", cover=cover)
        encode(out, streams[True], moving_spot(1, 96, 64))
        encode(out, streams[False], moving_spot(5))
    video = Video(path)
    assert [frame.image.shape for frame in video] == [(72, 128, 3)] * 5
    assert video.info.notes == ()


def write_two(path):
    """Two streams of moving pictures: 0 is small, 1 is large and the default."""
    with av.open(str(path), "w") as out:
        small = add_video(out, (48, 64), disposition=0)
        large = add_video(out, (72, 128), disposition=DEFAULT)
        encode(out, small, moving_spot(4, 48, 64))
        encode(out, large, moving_spot(6))
    return path


def test_the_default_of_several_streams_is_read_and_others_can_be_chosen(tmp_path):
    path = write_two(tmp_path / "two.mkv")
    video = Video(path)
    assert [frame.image.shape for frame in video] == [(72, 128, 3)] * 6
    assert len(video.info.notes) == 1
    assert "2 video streams, 0 (h264 64x48), 1 (h264 128x72): 1 is used" in video.info.notes[0]
    other = Video(path, stream=0)
    assert [frame.image.shape for frame in other] == [(48, 64, 3)] * 4 and other.info.notes == ()
    with pytest.raises(AvsalError, match=r"no video stream 2; --stream takes one of 0 \(h264 64x48\), 1"):
        Video(path, stream=2)


def write_times(path, times, codec="libx264", rate=25, options=None):
    with av.open(str(path), "w", options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        encode(out, stream, moving_spot(len(times)), times)
    return path


def test_an_absurd_rate_gives_way_to_the_times(tmp_path):
    path = write_times(tmp_path / "a.mkv", [40 * k for k in range(30)], rate=1000)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 1000  # the header does say so
    video = Video(path)
    assert video.info.rate == 25 and len(list(video)) == 30
    assert "states 1000 frames per second; 25 is used" in video.info.notes[0]


@pytest.mark.parametrize("step", [20, 40, 200, 4000])
def test_a_wrong_rate_gives_way_to_the_times(tmp_path, step):
    video = Video(write_times(tmp_path / "a.mkv", [step * k for k in range(20)]))
    assert float(video.info.rate) == pytest.approx(1000 / step)
    assert bool(video.info.notes) == (step != 40)
    times = [float(frame.pts * video.info.time_base) for frame in video]
    np.testing.assert_allclose(times, np.arange(20) * step / 1000)


def test_a_varying_rate_is_no_wrong_one(tmp_path):
    times = np.cumsum(np.random.default_rng(0).integers(20, 61, 60)).tolist()
    assert Video(write_times(tmp_path / "a.mkv", times)).info.notes == ()


@pytest.mark.parametrize("case", ["live", "ts", "h264", "ivf"])
def test_what_no_header_states(tmp_path, case):
    """No duration and no count; raw H.264 has no times either."""
    path = tmp_path / f"a.{'mkv' if case == 'live' else case}"
    if case == "live":
        write_times(path, [40 * k for k in range(30)], options={"live": "1"})
    else:
        write_video(path, moving_spot(30), codec="libvpx" if case == "ivf" else "libx264")
    video = Video(path)
    times = [float(frame.pts * video.info.time_base) for frame in video]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-3)
    assert (len(times), video.info.rate, video.cut_off, video.info.notes) == (30, 25, False, ())


def dropped_frames(path):
    times = [40 * (k if k < 10 else k + 5) for k in range(30)]
    with av.open(str(path), "w") as out:
        stream = add_video(out, (72, 128), "mjpeg")
        stream.codec_context.time_base = fractions.Fraction(1, 25)
        encode(out, stream, moving_spot(30), times)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 35
    return 30


def wrong_count(path):
    """The header of a whole AVI states 500 frames."""
    write_video(path, moving_spot(30), codec="mpeg4")
    content = bytearray(path.read_bytes())
    header = content.index(b"strh") + 8
    content[header + 32 : header + 36] = struct.pack("<I", 500)
    path.write_bytes(content)
    return 30


def hidden_frames(path):
    """An edit list, as ffmpeg writes where it cuts without encoding, begins at the 13th of 30 frames."""
    write_video(path, moving_spot(30), options={"bf": "0", "g": "1", "preset": "ultrafast"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4  # version 0: flags, count, duration, time in the media
    assert content[at] == 0
    content[at + 12 : at + 16] = struct.pack(">i", 12 * 512)  # 12,800 units a second
    path.write_bytes(content)
    return 18


def wrong_ivf(path):
    write_video(path, moving_spot(30), codec="libvpx")
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", 999)
    path.write_bytes(content)
    return 30


INTACT_FILES = {"avi": dropped_frames, "2.avi": wrong_count, "mp4": hidden_frames, "ivf": wrong_ivf}


@pytest.mark.parametrize("name", INTACT_FILES)
def test_whole_files_are_not_called_cut_off(tmp_path, name):
    path = tmp_path / f"a.{name}"
    count = INTACT_FILES[name](path)
    video = Video(path)
    assert video.info.promised > count
    assert (len(list(video)), video.damaged, video.cut_off) == (count, 0, False)


@pytest.mark.parametrize("name", ["avi", "mp4", "ivf", "mkv"])
def test_files_that_are_cut_off_are_called_cut_off(tmp_path, name):
    path = tmp_path / f"a.{name}"
    codec = {"avi": "mjpeg", "ivf": "libvpx"}.get(name, "libx264")
    with av.open(str(path), "w", options={"movflags": "faststart"} if name == "mp4" else {}) as out:
        encode(out, add_video(out, (72, 128), codec), moving_spot(60))
    content = path.read_bytes()
    assert is_whole(path)
    path.write_bytes(content[: len(content) * 2 // 3])
    video = Video(path)
    assert 0 < len(list(video)) < 60 and video.cut_off


@pytest.mark.parametrize("name", ["notes.txt", "film.nfo", "art.ans"])
def test_texts_are_no_videos(tmp_path, name):
    """FFmpeg would show them, letter by letter."""
    (tmp_path / name).write_text("some words\n" * 200)
    with pytest.raises(AvsalError, match="is a text, not a video"):
        Video(tmp_path / name)


def test_times_that_step_back_at_a_join_continue(tmp_path):
    """Two transport streams in one file, as `cat` makes them; the second begins at the time of the first."""
    part = write_video(tmp_path / "part.ts", moving_spot(20))
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 2)
    video = Video(path)
    times = [float(frame.pts * video.info.time_base) for frame in video]
    assert len(times) == 40
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.002)


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_transport_streams_lose_long_pauses_and_other_files_keep_them(tmp_path, suffix):
    """A transport stream's clock may leap, and then its sound has no gap either. A slide show may pause."""
    times = [*range(0, 4000, 40), *range(1_000_000, 1_004_000, 40)]
    video = Video(write_times(tmp_path / f"a{suffix}", times))
    frame_times = np.array([float(frame.pts * video.info.time_base) for frame in video])
    right = np.arange(200) / 25 if suffix == ".ts" else np.array(times) / 1000
    np.testing.assert_allclose(frame_times - frame_times[0], right, atol=0.002)
