"""Folders of images of any format, their names and strays; animated pictures; modes of pictures."""

import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.media.image_videos import ImageFile, ImageFolder, folder_contents, is_image
from avsal_jax.media.images import IMAGE_SUFFIXES, natural_order, read_image
from avsal_jax.testing.videos import moving_spot, write_video
from tests import needs


def grey_frames(count):
    """Flat frames, each with its own grey: 10, 20, 30 ..."""
    return [np.full((24, 32, 3), 10 * (k + 1), np.uint8) for k in range(count)]


def write_named(folder, names):
    """Writes a picture per name, the first with the grey 10, the next with 20, and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, grey_frames(len(names)), strict=True):
        Image.fromarray(image).save(folder / name, format=None if pathlib.Path(name).suffix else "PNG")
    return folder


def order(folder):
    """The frames of a folder by their grey, from 1 on."""
    return [round(frame.image.mean() / 10) for frame in ImageFolder(folder)]


LOSSLESS = ["png", "bmp", "tif", "ppm", "pgm", "pnm", "tga", "jp2", "gif", "pcx", "sgi", "qoi", "PNG", "Tif"]
LOSSY = ["jfif", "jpe", "JPG", "webp", "avif"]


@pytest.mark.parametrize("suffix", LOSSLESS + LOSSY)
def test_folders_of_frames_in_the_formats_that_pillow_reads(tmp_path, suffix):
    needs.pillow_format(suffix, Image.registered_extensions().get(f".{suffix.lower()}") in Image.SAVE)
    frames = grey_frames(3)
    for k, image in enumerate(frames, 1):
        mode = "L" if suffix == "pgm" else "RGB"
        Image.fromarray(image).convert(mode).save(tmp_path / f"{k}.{suffix}")
    read = [frame.image for frame in ImageFolder(tmp_path)]
    np.testing.assert_allclose(read, frames, atol=2 if suffix in LOSSY else 0)


def test_mixed_formats_are_one_video(tmp_path):
    assert order(write_named(tmp_path, ["1.png", "2.bmp", "3.TIF", "10.ppm"])) == [1, 2, 3, 4]


def test_strays_are_skipped_and_listed(tmp_path):
    write_named(tmp_path, ["1.png", "2.png"])
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "notes.txt", "frames.csv", "meta.json"):
        (tmp_path / name).write_bytes(b"stray")
    (tmp_path / "__MACOSX").mkdir()
    video = ImageFolder(tmp_path)
    assert len(list(video)) == 2
    (note,) = video.info.notes
    assert "skipped __MACOSX, desktop.ini, frames.csv, meta.json, notes.txt and 1 more" in note
    assert ".DS_Store" not in note


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "Thumbs.db").write_bytes(b"stray")
    with pytest.raises(AvsalError, match="holds no images: .*skipped Thumbs.db"):
        ImageFolder(tmp_path)


ORDERED = {
    "several numbers": ["cam1_frame2.png", "cam1_frame10.png", "cam2_frame1.png"],
    "no zeros in front": ["9.png", "10.png", "100.png"],
    "superscripts": ["²1.png", "²2.png", "²10.png"],
    "Arabic-Indic digits": ["\u0662.png", "\u0663.png", "\u0661\u0660.png"],
    "fullwidth digits": ["a\uff12.png", "a\uff11\uff10.png"],
    "digits of two scripts": ["1.png", "\u0662.png", "3.png"],
    "mixed case": ["Frame1.png", "frame2.png", "FRAME10.png"],
    "no numbers": ["Alpha.png", "beta.png", "gamma.png"],
    "some with numbers": ["end.png", "frame1.png", "frame2.png"],
    "numbers before and behind": ["1a.png", "1a2.png", "a.png", "a3.png"],
    "fractions and Roman numerals are letters": ["a1½.png", "aⅣ1.png"],
}


@pytest.mark.parametrize("case", ORDERED)
def test_frames_are_in_the_order_of_their_numbers(tmp_path, case):
    names = ORDERED[case]
    assert order(write_named(tmp_path, names)) == list(range(1, len(names) + 1))
    paths = [pathlib.Path(name) for name in reversed(names)]
    assert [path.name for path in sorted(paths, key=natural_order)] == names


def test_any_two_names_have_an_order():
    names = [
        "",
        "1",
        "01",
        "1²",
        "²",
        "²1",
        "a",
        "a1",
        "a1b",
        "a1b2",
        "1a",
        "1.png",
        "\u0663",
        "½",
        "1.2.3",
        "A1",
    ]
    paths = [pathlib.Path("x") / name for name in names]
    assert sorted(paths, key=natural_order) == sorted(reversed(paths), key=natural_order)


def test_two_numbers_that_vary_are_a_note(tmp_path):
    write_named(tmp_path, ORDERED["several numbers"])
    (note,) = ImageFolder(tmp_path).info.notes
    assert "2 numbers that vary" in note and "cam1_frame2.png to cam2_frame1.png" in note


@pytest.mark.parametrize("names", [("1.png", "001.png"), ("a.jpg", "a.png"), ("f1.png", "F1.png", "f2.png")])
def test_two_images_of_one_number_are_refused(tmp_path, names):
    with pytest.raises(AvsalError, match="two images of one number: their order is not known"):
        ImageFolder(write_named(tmp_path, names))


def test_animated_pictures_and_videos_in_a_folder_are_no_frames(tmp_path):
    write_named(tmp_path, ["1.gif", "2.gif"])
    write_animation(tmp_path / "3.gif", grey_frames(3), [40] * 3)
    contents = folder_contents(tmp_path)
    assert [p.name for p in contents.images] == ["1.gif", "2.gif"]
    assert [p.name for p in contents.videos] == ["3.gif"] and contents.are_mixed
    with pytest.raises(AvsalError, match="holds 2 images next to 1 videos, such as 3.gif: name the videos"):
        ImageFolder(tmp_path)


def write_animation(path, frames, milliseconds, **settings):
    first, *rest = [Image.fromarray(image) for image in frames]
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, **settings)
    return path


ANIMATED = {"gif": {}, "png": {}, "webp": {"lossless": True}, "avif": {"quality": 100}}


@pytest.mark.parametrize("suffix", ANIMATED)
def test_animated_pictures_have_all_frames_with_their_times(tmp_path, suffix):
    needs.pillow_format(suffix, f".{suffix}" in IMAGE_SUFFIXES)
    frames, milliseconds = grey_frames(6), [40, 80, 40, 200, 60, 40]
    path = write_animation(tmp_path / f"a.{suffix}", frames, milliseconds, **ANIMATED[suffix])
    video = ImageFile(path)
    read = list(video)
    np.testing.assert_allclose([f.image for f in read], frames, atol=2 if suffix == "avif" else 0)
    times = [float(frame.pts * video.info.time_base) for frame in read]
    np.testing.assert_allclose(times, [0, 0.04, 0.12, 0.16, 0.36, 0.42])
    assert float(video.info.rate) == pytest.approx(6 / 0.46, rel=1e-3)
    assert video.info.frames == 6 and video.info.notes == ()


def test_frames_without_a_time_take_a_tenth_of_a_second_as_in_browsers(tmp_path):
    path = write_animation(tmp_path / "a.gif", grey_frames(4), [0, 10, 20, 40])
    assert [frame.pts for frame in ImageFile(path)] == [0, 100, 200, 220]


def test_a_picture_that_is_shown_instead_of_an_animation_is_no_frame_of_it(tmp_path):
    frames = grey_frames(4)
    write_animation(tmp_path / "a.png", frames, 40, default_image=True)  # the first
    assert [round(f.image.mean() / 10) for f in ImageFile(tmp_path / "a.png")] == [2, 3, 4]


@pytest.mark.parametrize(("disposal", "lit"), [(1, [1, 2, 3]), (2, [1, 1, 1])])
def test_what_a_gif_keeps_of_the_frame_before(tmp_path, disposal, lit):
    """A square that moves over transparent ground, which is shown black."""
    frames = []
    for k in range(3):
        rgba = np.zeros((24, 32, 4), np.uint8)
        rgba[8:16, 8 * k : 8 * k + 8] = 250, 60, 60, 255
        frames.append(rgba)
    video = ImageFile(write_animation(tmp_path / "a.gif", frames, 40, disposal=disposal))
    assert [(f.image[..., 0] > 200).sum() / 64 for f in video] == lit
    assert "transparent pixels are shown over black" in video.info.notes[0]


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_an_animation_that_is_cut_off_goes_as_far_as_it_can(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (10, 24, 32, 3), np.uint8)
    path = write_animation(tmp_path / f"a.{suffix}", noise, 40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    video = ImageFile(path)
    assert 4 <= len(list(video)) <= 6 and video.damaged > 0


def test_pictures_without_times_are_one_frame(tmp_path):
    frames = grey_frames(3)
    Image.fromarray(frames[0]).save(tmp_path / "a.png")
    assert [(f.pts, f.image.mean()) for f in ImageFile(tmp_path / "a.png")] == [(0, 10)]
    Image.fromarray(frames[0]).save(
        tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(f) for f in frames[1:]]
    )
    video = ImageFile(tmp_path / "a.tif")
    assert [f.image.mean() for f in video] == [10]
    assert "holds 3 pictures without times: the first is read" in video.info.notes[0]


def test_pictures_are_known_by_their_content(tmp_path):
    animation = write_animation(tmp_path / "a.webp", grey_frames(3), 40, lossless=True).read_bytes()
    buffer = io.BytesIO()
    Image.fromarray(grey_frames(1)[0]).save(buffer, "jpeg")
    files = {
        "animated.mp4": (animation, True),
        "no_suffix": (animation, True),
        "frame.png": (buffer.getvalue(), True),
        "motion.mjpeg": (buffer.getvalue() * 3, False),  # motion JPEG is one after the other
        "words.png": (b"no picture", False),
        "film.jpg": (write_video(tmp_path / "film.mp4", moving_spot(3)).read_bytes(), False),
    }
    for name, (content, expected) in files.items():
        (tmp_path / name).write_bytes(content)
        assert is_image(tmp_path / name) == expected, name
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    with pytest.raises(AvsalError, match=r"photo.heic is a HEIC picture, which is not read: save it as JPEG"):
        is_image(tmp_path / "photo.heic")


RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
GREY, ALPHA = RGB[..., 0], RGB[..., 1]
OVER_BLACK = np.rint(RGB * (ALPHA[..., None] / 255))
THREE = np.repeat(GREY[..., None], 3, 2)


def palette(**settings):
    image = Image.fromarray(GREY)
    image.putpalette([v for i in range(256) for v in (i, 255 - i, i // 2)])
    return image, settings


PALETTE = np.stack([GREY, 255 - GREY, GREY // 2], -1)
MODES = {
    "rgba.png": (Image.fromarray(np.dstack([RGB, ALPHA])), OVER_BLACK),
    "la.png": (Image.fromarray(np.dstack([GREY, ALPHA])), np.rint(THREE * (ALPHA[..., None] / 255))),
    "grey.png": (Image.fromarray(GREY), THREE),
    "one_bit.png": (Image.fromarray(GREY > 127), np.where(THREE > 127, 255, 0)),
    "sixteen.png": (Image.fromarray(GREY.astype(np.uint16) * 257), THREE),
    "sixteen.tif": (Image.fromarray(GREY.astype(np.uint16) * 257), THREE),
    "cmyk.tif": (Image.fromarray(RGB).convert("CMYK"), RGB),
    "palette.png": (palette(), PALETTE),
    "palette_alpha.png": (palette(transparency=5), np.where(GREY[..., None] == 5, 0, PALETTE)),
}


@pytest.mark.parametrize("name", MODES)
def test_modes_of_pictures(tmp_path, name):
    image, expected = MODES[name]
    image, settings = image if isinstance(image, tuple) else (image, {})
    image.save(tmp_path / name, **settings)
    np.testing.assert_array_equal(read_image(tmp_path / name), expected)


@pytest.mark.parametrize("maximum", [65_535, 1023])
def test_portable_greymaps_of_more_than_8_bits(tmp_path, maximum):
    values = np.rint(GREY / 255 * maximum).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n30 20\n%d\n" % maximum + values.tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm"), THREE)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pictures_of_32_bits_are_refused(tmp_path, kind):
    Image.fromarray(GREY.astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(AvsalError, match="32 bits per channel; frames have 8 bits per channel, or 16"):
        read_image(tmp_path / "a.tif")


TURNS = {
    1: lambda i: i,
    2: lambda i: i[:, ::-1],
    3: lambda i: i[::-1, ::-1],
    4: lambda i: i[::-1],
    5: lambda i: np.swapaxes(i, 0, 1),
    6: lambda i: np.rot90(i, -1),
    7: lambda i: np.rot90(np.swapaxes(i, 0, 1), 2),
    8: lambda i: np.rot90(i, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_orientations_of_exif(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(RGB).save(tmp_path / "1.png", exif=exif)
    (frame,) = ImageFolder(tmp_path)
    np.testing.assert_array_equal(frame.image, TURNS[orientation](RGB))


@pytest.mark.parametrize("suffix", ["png", "avif"])
def test_pictures_in_hdr_are_shown_in_sdr(tmp_path, suffix):
    """Greys of an SDR picture as light relative to 203 cd/m2, coded by PQ (SMPTE ST 2084) in 8 bits."""
    sdr = np.array([40, 90, 150, 200, 220])
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    y = (203 / 10_000 * (sdr / 255) ** 2.2) ** m1
    coded = np.rint(255 * ((c1 + c2 * y) / (1 + c3 * y)) ** m2).astype(np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(coded[None], 20, 0), 16, 1)[..., None].repeat(3, 2))
    path = tmp_path / f"1.{suffix}"
    if suffix == "png":
        chunk = b"cICP" + bytes([9, 16, 0, 1])
        image.save(path)
        content = path.read_bytes()
        added = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(content[:33] + added + content[33:])  # behind the header
    else:
        needs.pillow_format("avif", ".avif" in IMAGE_SUFFIXES)
        image.save(path, quality=100)
        content = path.read_bytes()
        at = content.index(b"colrnclx") + 8
        path.write_bytes(content[:at] + struct.pack(">HH", 9, 16) + content[at + 4 :])
    for video in (ImageFile(path), ImageFolder(tmp_path)):
        (frame,) = video
        # a step of 8-bit PQ is up to three of SDR here; AVIF adds one
        np.testing.assert_allclose(frame.image[10, 8::16], sdr[:, None].repeat(3, 1), atol=6)
        assert "HDR (PQ, BT.2020)" in video.info.notes[0]


@pytest.mark.parametrize("rate", [-1, 0, 0.0001, float("nan"), float("inf")])
def test_a_rate_that_no_video_has_is_refused(tmp_path, rate):
    folder = write_named(tmp_path / "frames", ["1.png"])
    with pytest.raises(AvsalError, match=r"has 0.01 to 1,000 frames per second; got"):
        ImageFolder(folder, rate)
