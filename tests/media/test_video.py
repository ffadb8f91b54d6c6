"""Reading videos as files have them: rotation, times, pixel formats, folders of images, damage."""

import fractions
import struct

import av
import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.media.image_videos import ImageFolder
from avsal_jax.media.video import Video
from avsal_jax.testing.videos import moving_spot, spot_centre, write_video


def brightest(image):
    blurred = image.astype(float).mean(-1)
    rows, columns = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    weight = np.clip(blurred - 120, 0, None)
    return (rows * weight).sum() / weight.sum(), (columns * weight).sum() / weight.sum()


def at_spot(frame, index, count, size):
    y, x = brightest(frame.image)
    expected = spot_centre(index, count, *size)
    return abs(y - expected[0]) < 2 and abs(x - expected[1]) < 2


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".mp4", "libx264", "yuv420p10le"),
        (".mkv", "libx264", "gray"),
        (".mkv", "libx265", "yuv420p"),
        (".webm", "libvpx", "yuv420p"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".avi", "mpeg4", "yuv420p"),
        (".mkv", "ffv1", "yuv444p"),
    ],
)
def test_codecs_and_pixel_formats(tmp_path, suffix, codec, pix_fmt):
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 72, pix_fmt
        for image in moving_spot(10):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            out.mux(stream.encode(frame.reformat(format=pix_fmt)))
        out.mux(stream.encode(None))
    frames = list(Video(path))
    assert [f.index for f in frames] == list(range(10))
    assert frames[0].image.shape == (72, 128, 3) and frames[0].image.dtype == np.uint8
    assert all(at_spot(f, f.index, 10, (72, 128)) for f in frames)


def rotate_header(path, matrix):
    """Writes a display matrix into the track header of an mp4, as phones do."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4
    assert content[at] == 0  # version 0: the matrix lies 40 bytes behind the version
    content[at + 40 : at + 76] = struct.pack(">9i", *matrix)
    path.write_bytes(content)


FIXED_POINT_ONE = 1 << 16
MATRICES = {
    1: (0, -FIXED_POINT_ONE, 0, FIXED_POINT_ONE, 0, 0, 0, 0, 1 << 30),  # a quarter turn counter-clockwise
    2: (-FIXED_POINT_ONE, 0, 0, 0, -FIXED_POINT_ONE, 0, 0, 0, 1 << 30),
    3: (0, FIXED_POINT_ONE, 0, -FIXED_POINT_ONE, 0, 0, 0, 0, 1 << 30),
}


@pytest.mark.parametrize("turns", MATRICES)
def test_rotation_metadata_makes_frames_upright(tmp_path, turns):
    upright = moving_spot(6, 72, 128)
    stored = np.rot90(upright, -turns, axes=(1, 2))
    path = write_video(tmp_path / "turned.mp4", stored)
    assert next(iter(Video(path))).image.shape == stored.shape[1:]
    rotate_header(path, MATRICES[turns])
    frames = list(Video(path))
    assert frames[0].image.shape == (72, 128, 3)
    assert all(at_spot(f, f.index, 6, (72, 128)) for f in frames)


def test_variable_rate_and_offset_times_are_kept(tmp_path):
    path = tmp_path / "times.mkv"
    times = [500, 540, 580, 700, 720, 900]  # milliseconds
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, 1000)
        for time, image in zip(times, moving_spot(6), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, fractions.Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    video = Video(path)
    assert [round(f.pts * video.info.time_base * 1000) for f in video] == times
    assert video.info.start == 0.5


def test_pixels_that_are_not_square(tmp_path):
    path = write_video(tmp_path / "wide.mp4", moving_spot(3), pixel_aspect=fractions.Fraction(4, 3))
    assert Video(path).info.pixel_aspect == fractions.Fraction(4, 3)
    rotate_header(path, MATRICES[1])
    assert Video(path).info.pixel_aspect == fractions.Fraction(3, 4)


def test_the_best_of_several_streams(tests_dir):
    video = Video(tests_dir / "media" / "nasa_13s.mp4")
    assert next(iter(video)).image.shape == (270, 480, 3) and video.info.frames == 390


def test_damage_in_the_middle_is_passed_over_and_counted(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (40, 72, 128, 3), np.uint8)
    path = write_video(tmp_path / "noise.mkv", frames, codec="libx264", options={"g": "5", "crf": "10"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 9_000] = bytes(9_000)
    path.write_bytes(content)
    video = Video(path)
    count = sum(1 for _ in video)
    assert 20 <= count <= 40 and video.damaged > 0


def test_a_video_with_only_damaged_frames_is_an_error(tmp_path):
    """The start codes of MPEG-4's pictures are gone."""
    path = write_video(tmp_path / "a.mkv", moving_spot(3), codec="mpeg4")
    path.write_bytes(path.read_bytes().replace(b"\0\0\1\xb6", b"none"))
    with pytest.raises(AvsalError, match=r"a\.mkv has no frame that can be decoded"):
        Video(path)


def test_a_frame_size_that_changes_is_an_error(tmp_path):
    """Two H.264 streams one after the other, as a cut transport stream has them."""
    path = tmp_path / "joined.h264"
    parts = b""
    for size in ((72, 128), (96, 64)):
        part = write_video(tmp_path / f"{size[0]}.h264", moving_spot(5, *size))
        parts += part.read_bytes()
    path.write_bytes(parts)
    with pytest.raises(AvsalError, match="changes its frame size from 128x72 to 64x96 at frame 6"):
        list(Video(path))


def test_a_stream_without_frames_is_an_error(tmp_path):
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        out.start_encoding()
    with pytest.raises(AvsalError, match="no frame that can be decoded|is not a video"):
        Video(path)


def write_images(folder, images, suffix=".png"):
    folder.mkdir()
    for index, image in enumerate(images, 1):
        Image.fromarray(image).save(folder / f"img{index}{suffix}")
    return folder


def test_a_folder_of_images_in_the_order_of_their_numbers(tmp_path):
    images = moving_spot(12)
    folder = write_images(tmp_path / "images", images)
    (folder / ".hidden").write_text("not looked at")
    video = ImageFolder(folder, 30)
    assert (video.info.rate, video.info.frames) == (30, 12)
    for frame, image in zip(video, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)  # img2 comes before img10
    assert float(11 * video.info.time_base) == pytest.approx(11 / 30)


def test_a_folder_that_is_not_a_video_is_an_error(tmp_path):
    folder = write_images(tmp_path / "images", moving_spot(3))
    Image.fromarray(moving_spot(1, 60, 60)[0]).save(folder / "img9.png")
    with pytest.raises(AvsalError, match=r"img9.png is 60x60, but the images before it are 128x72"):
        list(ImageFolder(folder))
    (folder / "img9.png").write_bytes(b"no picture")
    with pytest.raises(AvsalError, match=r"img9.png is not an image that can be read"):
        list(ImageFolder(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(AvsalError, match="holds no images"):
        ImageFolder(tmp_path / "empty")
