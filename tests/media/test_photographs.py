"""Photographs: every mode and container as people have them, colours, names of results; what is refused."""

import io
import pathlib
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from avsal_jax import AvsalError
from avsal_jax.media.images import IMAGE_SUFFIXES, read_image
from avsal_jax.media.photographs import is_photograph, photographs_of_folder, read_photograph, result_names
from avsal_jax.testing.videos import moving_spot, write_video
from tests import needs

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)
GREY, ALPHA = RGB[..., 0], RGB[..., 1]
THREE = np.repeat(GREY[..., None], 3, 2)
WIDE = RNG.integers(0, 65_536, (6, 8, 3))
ORANGE = np.full((16, 16, 3), (200, 120, 40), np.uint8)  # which survives JPEG


def saved(**options):
    """Returns how a picture is written: (image, path) -> None."""
    return lambda image, path: image.save(path, **options)


def png_of_16_bits(array, path):
    """Pillow writes no colours of 16 bits."""
    height, width, channels = array.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def paletted(transparency=None):
    image = Image.fromarray(GREY)
    image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def turned(suffix):
    exif = Image.Exif()
    exif[0x112] = 6
    return Image.fromarray(RGB), saved(exif=exif)


def over_black(rgb, alpha):
    return np.rint(rgb * (alpha[..., None] / 255))


PALETTE = np.stack([GREY, 255 - GREY, GREY // 2], -1)
CMYK = Image.fromarray(ORANGE).convert("CMYK")
TWO = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
# name -> (picture, how it is written, RGB, tolerance in 8-bit levels, words of a note)
READ = {
    "rgb.png": (Image.fromarray(RGB), saved(), RGB, 0, None),
    "photo.JPG": (Image.fromarray(ORANGE), saved(quality=95), ORANGE, 2, None),
    "photo.avif": (Image.fromarray(ORANGE), saved(quality=95), ORANGE, 3, None),
    "photo.webp": (Image.fromarray(RGB), saved(lossless=True), RGB, 0, None),
    "photo.tif": (Image.fromarray(RGB), saved(compression="tiff_lzw"), RGB, 0, None),
    "photo.jp2": (Image.fromarray(RGB), saved(), RGB, 0, None),
    "photo.bmp": (Image.fromarray(RGB), saved(), RGB, 0, None),
    "alpha.png": (
        Image.fromarray(np.dstack([RGB, ALPHA])),
        saved(),
        over_black(RGB, ALPHA),
        0,
        "transparent pixels are shown over black",
    ),
    "la.png": (Image.fromarray(np.dstack([GREY, ALPHA])), saved(), over_black(THREE, ALPHA), 0, "over black"),
    "opaque.png": (Image.fromarray(np.dstack([RGB, 0 * ALPHA + 255])), saved(), RGB, 0, None),
    "grey.jpg": (Image.fromarray(ORANGE[..., 0]), saved(quality=95), np.full((16, 16, 3), 200), 2, None),
    "one_bit.png": (Image.fromarray(GREY > 127), saved(), np.where(THREE > 127, 255, 0), 0, None),
    "palette.gif": (paletted(), saved(), PALETTE, 0, None),
    "palette_alpha.png": (
        paletted(GREY[0, 0].item()),
        saved(),
        np.where(GREY[..., None] == GREY[0, 0], 0, PALETTE),
        0,
        "over black",
    ),
    "grey16.png": (Image.fromarray(WIDE[..., 0].astype(np.uint16)), saved(), WIDE[..., :1] / 257, 0.51, None),
    "grey16.tif": (Image.fromarray(WIDE[..., 0].astype(np.uint16)), saved(), WIDE[..., :1] / 257, 0.51, None),
    "rgb16.png": (WIDE, png_of_16_bits, WIDE / 257, 1, None),
    "la16.png": (
        np.dstack([WIDE[..., 0], WIDE[..., 0] * 0 + 65_535]),
        png_of_16_bits,
        WIDE[..., :1] / 257,
        1,
        None,
    ),
    "turned.jpg": (Image.fromarray(ORANGE[:8]), turned("jpg")[1], np.rot90(ORANGE[:8], -1), 2, None),
    "turned.png": (*turned("png"), np.rot90(RGB, -1), 0, None),
    "turned.tif": (*turned("tif"), np.rot90(RGB, -1), 0, None),
    "turned.webp": (Image.fromarray(ORANGE[:8]), turned("webp")[1], np.rot90(ORANGE[:8], -1), 4, None),
    "cmyk.jpg": (CMYK, saved(quality=95), ORANGE, 3, None),  # Pillow writes Adobe's inverted form
    "cmyk.tif": (CMYK, saved(), ORANGE, 0, None),
    "mpo.jpg": (
        Image.fromarray(ORANGE),
        saved(format="MPO", save_all=True, append_images=[Image.fromarray(255 - ORANGE)], quality=95),
        ORANGE,
        2,
        "it holds 2 pictures: the first is read",
    ),
    "pages.tif": (TWO[0], saved(save_all=True, append_images=TWO[1:]), RGB, 0, "2 pictures: the first"),
    "animated.gif": (
        paletted(),
        saved(save_all=True, append_images=[Image.fromarray(255 - GREY)], duration=40),
        PALETTE,
        0,
        "2 frames: the first",
    ),
    "animated.png": (TWO[0], saved(save_all=True, append_images=TWO[1:]), RGB, 0, "2 frames: the first"),
    "no_suffix": (Image.fromarray(RGB), saved(format="PNG"), RGB, 0, None),
    "wrong.jpg": (Image.fromarray(RGB), saved(format="PNG"), RGB, 0, None),
    "thin.png": (Image.fromarray(np.repeat(RGB[:1, :1], 5000, 1)), saved(), RGB[:1, :1], 0, None),
    "point.png": (Image.fromarray(RGB[:1, :1]), saved(), RGB[:1, :1], 0, None),
}


@pytest.mark.parametrize("name", READ)
def test_photographs_have_their_colours_upright(tmp_path, name):
    image, write, expected, tolerance, note = READ[name]
    needs.pillow_format("avif", name != "photo.avif" or ".avif" in IMAGE_SUFFIXES)
    write(image, tmp_path / name)
    photograph = read_photograph(tmp_path / name)
    assert photograph.image.dtype == np.uint8 and photograph.image.shape[-1] == 3
    expected = np.broadcast_to(expected, photograph.image.shape)
    np.testing.assert_allclose(photograph.image, expected, atol=tolerance)
    assert (note is None and photograph.notes == ()) or note in photograph.notes[0]
    assert is_photograph(tmp_path / name) != name.startswith("animated")


def rgb16_tiff(path):
    """Eight samples of 16 bits of each colour; old versions of Pillow refuse it."""
    samples = WIDE[:1].astype("<u2").tobytes()
    tags = [(256, 3, 8), (257, 3, 1), (258, 3, None), (259, 3, 1), (262, 3, 2), (273, 4, None), (277, 3, 3),
            (278, 3, 1), (279, 4, len(samples))]  # fmt: skip
    end = 8 + 2 + 12 * len(tags) + 4
    content = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, kind, value in tags:
        count = 3 if tag == 258 else 1
        place = {258: end, 273: end + 6}.get(tag, value)
        content += struct.pack("<HHII", tag, kind, count, place)
    path.write_bytes(content + struct.pack("<IHHH", 0, 16, 16, 16) + samples)


def test_a_tiff_of_16_bits_in_colour_is_right_or_refused(tmp_path):
    rgb16_tiff(tmp_path / "a.tif")
    try:
        image = read_photograph(tmp_path / "a.tif").image
    except AvsalError as error:
        assert "a.tif is not a picture that can be read" in str(error)
    else:
        np.testing.assert_allclose(image, WIDE[:1] / 257, atol=1)


def noise_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "jpeg")
    return buffer.getvalue()


def huge_png():
    """A header of 20,000 x 20,000 pixels, and one pixel."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "png")
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + buffer.getvalue()[24:29]
    return buffer.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + buffer.getvalue()[33:]


def float_tiff():
    buffer = io.BytesIO()
    Image.fromarray(GREY.astype(np.float32)).save(buffer, "tiff")
    return buffer.getvalue()


REFUSED = {  # content, words of the line
    "truncated.jpg": (lambda: noise_jpeg()[:1500], "image file is truncated"),
    "empty.jpg": (lambda: b"", "is empty"),
    "words.jpg": (lambda: b"just words\n" * 50, "is not a picture that can be read, whatever its name says"),
    "huge.png": (huge_png, "is too large: Image size (400000000 pixels) exceeds limit"),
    "photo.heic": (
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "is a HEIC picture, which is not read: save it as JPEG or PNG first (iPhone: Settings",
    ),
    "float.tif": (float_tiff, "32 bits per channel"),
    "missing.jpg": (None, "there is no file"),
}


def write_refused(folder, name):
    content = REFUSED[name][0]
    if content is not None:
        (folder / name).write_bytes(content())
    return folder / name


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line_with_the_name(tmp_path, name):
    path = write_refused(tmp_path, name)
    with pytest.raises(AvsalError) as caught:
        read_photograph(path)
    assert REFUSED[name][1] in str(caught.value) and str(path) in str(caught.value)
    assert is_photograph(path)  # so that the line is about a picture, not about a video


def test_films_and_folders_are_no_photographs(tmp_path):
    film = write_video(tmp_path / "film.mp4", moving_spot(2))
    (tmp_path / "film.jpg").write_bytes(film.read_bytes())
    (tmp_path / "folder.jpg").mkdir()
    names = ("film.mp4", "film.jpg", "folder.jpg", "missing.mp4")
    assert not any(is_photograph(tmp_path / name) for name in names)


def test_pictures_of_large_cameras_give_no_warning(tmp_path, monkeypatch):
    """Pillow warns from 89 million pixels on, and refuses from 178 million on."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_photograph(tmp_path / "a.png").image.shape == (40, 40, 3)


# Primaries (columns: red, green, blue) in XYZ relative to D50, as ICC profiles state them.
DISPLAY_P3 = [[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
ADOBE_RGB = [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
SRGB = [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]
WHITE = (0.9642, 1.0, 0.8249)


def matrix_profile(primaries, gamma, name=b"Wide"):
    """Returns an ICC profile (version 2) of primaries and a gamma."""

    def fixed(values):
        return b"".join(struct.pack(">i", round(65_536 * value)) for value in values)

    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0" + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"
    tags = {b"desc": text + bytes(-len(text) % 4), b"wtpt": b"XYZ \0\0\0\0" + fixed(WHITE)}
    for column, letter in enumerate(b"rgb"):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + fixed([row[column] for row in primaries])
        tags[bytes([letter]) + b"TRC"] = curve
    table, content = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(content), len(value))
        content += value
    header = struct.pack(">I4sI4s4s4s", start + len(content), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + fixed(WHITE)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + content


def srgb_of(rgb, primaries, gamma):
    """The colours of a matrix profile as sRGB, by its definition (IEC 61966-2-1), clipped."""
    linear = (np.asarray(rgb) / 255) ** gamma @ np.array(primaries).T @ np.linalg.inv(SRGB).T
    linear = np.clip(linear, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * coded


COLOURS = np.array(
    [[[200, 120, 40], [60, 160, 90], [90, 90, 200], [128, 128, 128], [240, 230, 220]]], np.uint8
)


@pytest.mark.parametrize(
    ("primaries", "suffix"), [(DISPLAY_P3, "png"), (ADOBE_RGB, "tif"), (DISPLAY_P3, "webp")]
)
def test_wide_gamuts_are_converted_to_srgb(tmp_path, primaries, suffix):
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(COLOURS).save(path, icc_profile=matrix_profile(primaries, 2.2), **options)
    photograph = read_photograph(path)
    expected = srgb_of(COLOURS, primaries, 2.2)
    assert np.abs(expected - COLOURS).max() > 10  # it matters
    np.testing.assert_allclose(photograph.image, expected, atol=2)  # the tables of Little CMS have 8 bits
    assert photograph.notes == ("its colours are Wide: converted to sRGB",)
    np.testing.assert_array_equal(read_image(path), COLOURS)  # frames of data sets, as in public code


def test_transparent_pictures_and_palettes_are_converted_too(tmp_path):
    profile = matrix_profile(DISPLAY_P3, 2.2)
    expected = srgb_of(COLOURS, DISPLAY_P3, 2.2)
    alpha = np.array([[255, 255, 128, 0, 255]], np.uint8)
    Image.fromarray(np.dstack([COLOURS, alpha])).save(tmp_path / "a.png", icc_profile=profile)
    image = read_photograph(tmp_path / "a.png").image
    np.testing.assert_allclose(image, expected * alpha[..., None] / 255, atol=2)
    image = Image.fromarray(np.arange(5, dtype=np.uint8)[None])
    image.putpalette(COLOURS.ravel().tolist())
    image.save(tmp_path / "b.png", icc_profile=profile)
    np.testing.assert_allclose(read_photograph(tmp_path / "b.png").image, expected, atol=2)


def test_profiles_that_are_srgb_change_nothing_and_unusable_ones_are_a_note(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    notes = {}
    for name, profile in {"srgb": srgb, "junk": b"no profile at all"}.items():
        Image.fromarray(RGB).save(tmp_path / f"{name}.png", icc_profile=profile)
        photograph = read_photograph(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(photograph.image, RGB)
        notes[name] = photograph.notes
    assert notes["srgb"] == () and "its ICC profile cannot be read" in notes["junk"][0]
    Image.fromarray(GREY).save(tmp_path / "grey.tif", icc_profile=srgb)
    photograph = read_photograph(tmp_path / "grey.tif")
    np.testing.assert_array_equal(photograph.image, THREE)
    assert "is for the colours RGB, and the picture has L" in photograph.notes[0]


NAMES = [
    (["a.jpg", "b.png"], ["a", "b"]),
    (["a.jpg", "A.png", "b.png"], ["a.jpg", "A.png", "b"]),
    (["x/a.jpg", "y/a.jpg", "a.png"], ["a.jpg", "a.jpg-2", "a.png"]),
    (["IMG.1.jpg", "IMG.2.jpg"], ["IMG.1", "IMG.2"]),
    (["x/a.jpg", "a.jpg-2", "y/a.jpg", "a"], ["a.jpg", "a.jpg-2", "a.jpg-3", "a"]),
    (["e\u0301.jpg", "\u00e9.png"], ["e\u0301.jpg", "\u00e9.png"]),  # one name on some disks
]


@pytest.mark.parametrize(("paths", "names"), NAMES)
def test_no_two_pictures_have_one_name(paths, names):
    assert result_names([pathlib.Path(path) for path in paths]) == names


def test_the_pictures_of_a_folder(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "b10.png")
    Image.fromarray(RGB).save(tmp_path / "b9.jpg")
    READ["animated.gif"][1](READ["animated.gif"][0], tmp_path / "c.gif")
    write_refused(tmp_path, "photo.heic")
    write_video(tmp_path / "film.mp4", moving_spot(2))
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "inner").mkdir()
    pictures, skipped = photographs_of_folder(tmp_path)
    assert [path.name for path in pictures] == ["b9.jpg", "b10.png", "c.gif", "photo.heic"]
    assert [path.name for path in skipped] == ["film.mp4", "inner", "notes.txt"]
