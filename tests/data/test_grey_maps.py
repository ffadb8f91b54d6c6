"""One picture in every mode and file that it may come in: the same grey map, or a line that says why not."""

import io
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.data.truth.frame_truth import FileTruth
from avsal_jax.data.truth.grey_maps import MapStack, read_grey, to_8_bit
from avsal_jax.data.truth.truth_files import read_size
from avsal_jax.media.images import read_image

ROWS, COLUMNS = np.mgrid[:24, :36]
GREY = np.round(255 * np.exp(-((ROWS - 9) ** 2 + (COLUMNS - 20) ** 2) / 60)).astype(np.uint8)
WHITE = np.full_like(GREY, 255)


def bands(*channels, mode=None):
    return Image.merge(mode, [Image.fromarray(c) for c in channels])


def inverted_palette():
    image = Image.fromarray(255 - GREY).convert("P")
    image.putpalette([level for k in range(255, -1, -1) for level in (k, k, k)])
    return image


PICTURES = {  # (picture, name of the file, options) and the levels that it may be off
    "grey": (Image.fromarray(GREY), "a.png", {}, 0),
    "bmp": (Image.fromarray(GREY), "a.bmp", {}, 0),
    "tif": (Image.fromarray(GREY), "a.tif", {}, 0),
    "gif": (Image.fromarray(GREY), "a.gif", {}, 0),
    "pgm": (Image.fromarray(GREY), "a.pgm", {}, 0),
    "16 bit pgm": (Image.fromarray(257 * GREY.astype(np.uint16)), "a.pgm", {}, 0),
    "tga": (Image.fromarray(GREY), "a.tga", {}, 0),
    "jfif": (Image.fromarray(GREY), "a.jfif", {"quality": 95}, 6),
    "webp": (Image.fromarray(GREY).convert("RGB"), "a.webp", {"lossless": True}, 0),
    "jpeg": (Image.fromarray(GREY), "a.jpg", {"quality": 95}, 6),
    "RGB": (bands(GREY, GREY, GREY, mode="RGB"), "a.png", {}, 0),
    "RGB jpeg": (bands(GREY, GREY, GREY, mode="RGB"), "a.jpg", {"quality": 95}, 6),
    "RGBA": (bands(GREY, GREY, GREY, WHITE, mode="RGBA"), "a.png", {}, 0),
    "LA": (bands(GREY, WHITE, mode="LA"), "a.png", {}, 0),
    "palette": (Image.fromarray(GREY).convert("P"), "a.png", {}, 0),
    "another palette": (inverted_palette(), "a.png", {}, 0),
    "palette of 64": (bands(GREY, GREY, GREY, mode="RGB").quantize(64), "a.png", {}, 12),
    "CMYK of RGB": (bands(GREY, GREY, GREY, mode="RGB").convert("CMYK"), "a.jpg", {"quality": 95}, 8),
    "CMYK of black": (bands(*3 * [0 * GREY], 255 - GREY, mode="CMYK"), "a.tif", {}, 0),
    "16 bit": (Image.fromarray(257 * GREY.astype(np.uint16)), "a.png", {}, 0),
    "16 bit tif": (Image.fromarray(257 * GREY.astype(np.uint16)), "a.tif", {}, 0),
    "16 bit ppm": (Image.fromarray(257 * GREY.astype(np.uint16)), "a.ppm", {}, 0),
    "32 bit": (Image.fromarray(9000 * GREY.astype(np.int32)), "a.tif", {}, 0),
    "float": (Image.fromarray(GREY.astype(np.float32) / 3), "a.tif", {}, 0),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_every_mode_are_the_plain_grey_one(tmp_path, name):
    image, file, options, levels = PICTURES[name]
    image.save(tmp_path / file, **options)
    grey = read_grey(tmp_path / file)
    assert grey.dtype == (np.float64 if "bit" in name or name == "float" else np.uint8)
    pixels = grey if grey.dtype == np.uint8 else 255 * grey
    np.testing.assert_allclose(pixels.astype(float), GREY, atol=levels + 1e-4)  # 1e-4: float32 thirds
    np.testing.assert_allclose(
        255 * FileTruth(tmp_path / file, None, variable="").density, GREY, atol=levels + 1e-4
    )
    with Image.open(io.BytesIO(FileTruth(tmp_path / file, None, variable="").encoded)) as encoded:
        assert encoded.mode == "L" and encoded.format in ("PNG", "JPEG")
        np.testing.assert_allclose(np.asarray(encoded, float), GREY, atol=levels)


def test_black_and_white_pictures_are_0_and_255(tmp_path):
    Image.fromarray(GREY > 99).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "a.png"), 255 * (GREY > 99))


def test_16_bits_are_not_rounded(tmp_path):
    fine = np.arange(24 * 36, dtype=np.uint16).reshape(24, 36)  # less than four levels of 8 bits
    Image.fromarray(fine).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_grey(tmp_path / "a.png"), fine / 65_535, rtol=1e-12)


def jet_like(grey):
    level = grey.astype(float) / 255
    channels = [np.clip(1.5 - np.abs(4 * level - peak), 0, 1) for peak in (3, 2, 1)]
    return bands(*(np.uint8(255 * c) for c in channels), mode="RGB")


@pytest.mark.parametrize(
    ("image", "file", "options", "words"),
    [
        (
            jet_like(GREY),
            "a.png",
            {},
            r"is a coloured picture \(mode RGB, .* as heat maps are; maps are grey",
        ),
        (jet_like(GREY).quantize(64), "a.png", {}, r"is a coloured picture \(mode P"),
        (jet_like(GREY).convert("CMYK"), "a.jpg", {}, r"is a coloured picture \(mode CMYK"),
        (
            bands(GREY, GREY, mode="LA"),
            "a.png",
            {},
            r"is transparent \(alpha from 0 to 255\); save the map with",
        ),
        (bands(*3 * [WHITE], GREY, mode="RGBA"), "a.png", {}, "is transparent"),
        (Image.fromarray(GREY), "a.png", {"transparency": 0}, "is transparent"),
        (
            Image.fromarray(GREY / np.float32(255) - np.float32(0.1)),
            "a.tif",
            {},
            "negative numbers, down to -0.1",
        ),
        (Image.fromarray(np.where(GREY > 250, np.nan, GREY).astype(np.float32)), "a.tif", {}, "not finite"),
        (
            Image.fromarray(GREY),
            "a.tif",
            {"save_all": True, "append_images": [Image.fromarray(GREY)]},
            "holds several pictures; a map is one",
        ),
    ],
)
def test_what_has_no_one_grey_is_refused(tmp_path, image, file, options, words):
    image.save(tmp_path / file, **options)
    with pytest.raises(AvsalError, match=words) as error:
        read_grey(tmp_path / file)
    assert str(tmp_path / file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [GREY, GREY.astype(np.float16) / 255, GREY * 3.7, GREY.astype(">f4"), GREY.astype(np.int64), GREY[None],
     GREY[..., None], np.asfortranarray(GREY)],
)  # fmt: skip
def test_numbers_are_divided_by_their_largest(tmp_path, values):
    scipy.io.savemat(tmp_path / "a.mat", {"anything": np.squeeze(values), "fps": 25.0, "by": "me"})
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", values)
    for name in ("a.npy", "a.npz", "a.mat"):
        grey = read_grey(tmp_path / name)
        pixels = grey if grey.dtype == np.uint8 else 255 * grey
        np.testing.assert_allclose(pixels.astype(float), GREY, atol=0.13)  # float16 has 11 bits, 255 / 2048
    assert to_8_bit(grey).dtype == np.uint8


def test_matlab_files_with_several_maps_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"one": GREY, "two": GREY})
    with pytest.raises(AvsalError, match="must hold one map, a matrix of numbers; it holds one, two"):
        read_grey(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "a.mat", {"maps": np.zeros((4, 5, 6))})
    with pytest.raises(AvsalError, match="must hold one map, a matrix of numbers; it holds maps"):
        read_grey(tmp_path / "a.mat")


def test_negative_numbers_are_stretched_where_that_is_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", GREY / 255 - 0.3)
    np.testing.assert_allclose(read_grey(tmp_path / "a.npy", stretch=True), GREY / 255, atol=1e-12)


def test_all_maps_of_a_video_are_read_one_at_a_time(tmp_path):
    maps = np.stack([GREY // k for k in range(1, 6)])
    np.save(tmp_path / "a.npy", maps)
    np.savez_compressed(tmp_path / "a.npz", maps=maps[..., None], other=np.zeros(3))
    for name in ("a.npy", "a.npz"):
        with MapStack(tmp_path / name) as stack:
            assert (stack.count, stack.shape, stack.full) == (5, (24, 36), 255)
            np.testing.assert_array_equal(list(stack), maps)


def header(shape, descr="<f8"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


def test_numpy_files_that_are_no_maps(tmp_path):
    path = tmp_path / "a.npy"
    for content, words in (
        (header((10**6, 5000, 5000)) + bytes(100), "is cut short: it has .* too few for shape"),
        (header((5, 20_000, 3)), "has shape .*; maps are"),
        (header((9000, 9000)), "maps have up to"),
        (header((0, 4, 4)), "has shape .*; maps are"),
        (header((4,)), "has shape .*; maps are"),
        (header((4, 4), "|O") + bytes(999), "holds object; maps are real numbers"),
        (header((4, 4), "<c16") + bytes(999), "holds complex128; maps are real numbers"),
        (header((4, 4), "<U9") + bytes(999), "holds <U9; maps are real numbers"),
        (header((4, 4))[:40], "is not a NumPy file that can be read"),
        (b"no array", "is not a NumPy file that can be read"),
        (b"", "is not a NumPy file that can be read"),
        (header((2, 4, 4)) + bytes(256), "holds 2 maps, not one map"),
    ):
        path.write_bytes(content)
        with pytest.raises(AvsalError, match=words) as error:
            read_grey(path)
        assert "\n" not in str(error.value)
    with pytest.raises(AvsalError, match="there is no file"):
        read_grey(tmp_path / "none.npy")


def test_archives_that_are_no_maps(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=GREY, y=GREY)
    with pytest.raises(AvsalError, match="must hold an array named maps, or one array; it holds x, y"):
        MapStack(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(AvsalError, match="is not a NumPy file that can be read"):
        MapStack(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # as long as it says, and of zeros
        archive.writestr("maps.npy", header((2, 4, 4)) + bytes(100))
    with pytest.raises(AvsalError, match="is cut short"):
        MapStack(path)
    np.savez_compressed(path, maps=np.random.default_rng(0).random((3, 40, 40)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(AvsalError, match="is damaged"):
        list(MapStack(path))


# EXIF orientation -> the upright picture (TIFF 6.0, tag 274: what the stored first row and column show).
UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("suffix", "options", "atol"), [
    ("png", {}, 0), ("jpg", {"quality": 95}, 6), ("tif", {}, 0), ("tif", {"compression": "tiff_lzw"}, 0),
    ("webp", {"lossless": True}, 0),
])  # fmt: skip
def test_maps_are_upright_as_frames_are(tmp_path, suffix, options, atol, orientation):
    path, exif, expected = tmp_path / f"a.{suffix}", Image.Exif(), UPRIGHT[orientation](GREY)
    exif[274] = orientation
    Image.fromarray(GREY).save(path, exif=exif, **options)
    assert read_size(path, "") == expected.shape
    np.testing.assert_allclose(read_grey(path).astype(int), expected, atol=atol)
    np.testing.assert_allclose(read_image(path)[..., 1].astype(int), expected, atol=atol)
    with Image.open(io.BytesIO(FileTruth(path, None, variable="").encoded)) as stored:
        np.testing.assert_allclose(np.asarray(stored).astype(int), expected, atol=atol)
