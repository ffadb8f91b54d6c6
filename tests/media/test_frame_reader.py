"""Frames by number: the same as decoding in order, however they are asked for."""

import concurrent.futures
import fractions

import av
import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.media import frame_reader
from avsal_jax.media.frame_reader import FrameReader
from avsal_jax.testing.videos import moving_spot, write_audio_only, write_video

COUNT = 14
TIMES_MS = (0, 40, 80, 200, 320, 360, 1000, 1040, 1500, 1540)  # of a variable frame rate


def write_clip(path, **options):
    return write_video(path, moving_spot(COUNT, 48, 64), **options)


def write_variable(path):
    """Writes frames at `TIMES_MS`, with B-frames."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, 1000)
        stream.options = {"crf": "12", "bf": "2"}
        for time, image in zip(TIMES_MS, moving_spot(len(TIMES_MS), 48, 64), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, fractions.Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def cut_off(path) -> bytes:
    """Cuts an AVI after two thirds of its pictures; returns what it was."""
    content = path.read_bytes()
    begin, end = content.index(b"movi"), content.rindex(b"idx1")
    path.write_bytes(content[: begin + (end - begin) * 2 // 3])
    return content


def decoded(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("mkv", "libx264")])
def test_any_order_gives_what_decoding_in_order_gives(tmp_path, suffix, codec):
    path = write_clip(tmp_path / f"clip.{suffix}", codec=codec)
    frames, reader = decoded(path), FrameReader(path)
    assert len(reader.times) == len(frames) == COUNT
    assert reader.size == (48, 64)
    assert reader.notes == ()
    for index in [0, 3, 3, 13, 12, 0, 7, 1, 13]:
        np.testing.assert_array_equal(reader.frame(index), frames[index])


def test_times_are_those_of_presentation(tmp_path):
    reader = FrameReader(write_clip(tmp_path / "clip.mp4", rate=25))
    np.testing.assert_allclose(reader.times, np.arange(COUNT) / 25, atol=1e-9)
    for suffix in ("mp4", "mkv"):
        path = write_variable(tmp_path / f"variable.{suffix}")
        reader = FrameReader(path)
        np.testing.assert_allclose(reader.times, np.array(TIMES_MS) / 1000, atol=1e-3)
        for index, frame in reversed(list(enumerate(decoded(path)))):
            np.testing.assert_array_equal(reader.frame(index), frame)


def test_more_readers_than_may_be_open(tmp_path):
    paths = [
        write_video(tmp_path / f"{number}.mp4", moving_spot(6, 32, 32 + 16 * number)) for number in range(6)
    ]
    truth, readers = [decoded(path) for path in paths], [FrameReader(path) for path in paths]
    for index in (0, 4, 2, 5):
        for frames, reader in zip(truth, readers, strict=True):
            np.testing.assert_array_equal(reader.frame(index), frames[index])
    assert sum(reader._frames is not None for reader in readers) <= frame_reader._MAX_OPEN


def test_several_threads_may_use_one_reader(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    frames, reader = decoded(path), FrameReader(path)
    indices = np.random.default_rng(0).integers(COUNT, size=40).tolist()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for index, frame in zip(indices, pool.map(reader.frame, indices), strict=True):
            np.testing.assert_array_equal(frame, frames[index])


def test_a_closed_reader_begins_again(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    reader = FrameReader(path)
    reader.frame(5)
    reader.close()
    reader.close()
    np.testing.assert_array_equal(reader.frame(6), decoded(path)[6])


def test_animated_pictures(tmp_path):
    images = [Image.fromarray(frame) for frame in moving_spot(5, 24, 32)]
    for suffix in ("gif", "webp"):
        path = tmp_path / f"clip.{suffix}"
        durations = [100, 40, 200, 100, 100]
        images[0].save(path, save_all=True, append_images=images[1:], duration=durations, lossless=True)
        reader = FrameReader(path)
        np.testing.assert_allclose(reader.times, [0, 0.1, 0.14, 0.34, 0.44])
        last, first = reader.frame(4), reader.frame(0)
        assert np.abs(last.astype(int) - np.asarray(images[4])).mean() < 4  # a GIF has 256 colours
        assert np.abs(first.astype(int) - np.asarray(images[0])).mean() < 4


def test_a_file_that_is_cut_off_has_a_note(tmp_path):
    path = write_clip(tmp_path / "clip.avi", codec="mpeg4")
    cut_off(path)
    reader = FrameReader(path)
    count = len(reader.times)
    assert 0 < count < COUNT
    assert reader.notes == (f"its file is damaged or cut off: {count} frames can be read",)
    np.testing.assert_array_equal(reader.frame(0), decoded(path)[0])


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path):
    path = write_clip(tmp_path / "clip.avi", codec="mpeg4")
    reader, content = FrameReader(path), cut_off(path)
    with pytest.raises(AvsalError, match=r"frames that can be decoded; frame 14 of 14 is missing"):
        reader.frame(13)
    assert reader.frame(0).shape == (48, 64, 3)
    path.write_bytes(content[:10])
    reader.close()
    for _ in range(2):  # a failure leaves it as it was
        with pytest.raises(AvsalError, match="clip.avi"):
            reader.frame(0)
    path.write_bytes(content)
    assert reader.frame(13).shape == (48, 64, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text " * 100),
        write_audio_only,
        lambda path: path.mkdir(),
    ],
)
def test_files_that_are_not_videos(tmp_path, make):
    make(tmp_path / "clip.mp4")
    with pytest.raises(AvsalError, match="clip.mp4"):
        FrameReader(tmp_path / "clip.mp4")
