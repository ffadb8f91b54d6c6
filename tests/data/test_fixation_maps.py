"""What counts as fixated: binary maps in any file, compressed ones, counts; and what is refused."""

import io

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import scipy.sparse
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.data.truth.fixation_maps import COUNTS, NOISE, PATCHES, Fixations, fixation_findings
from avsal_jax.data.truth.truth_files import read_fixation_map

SIZE = (64, 96)


def places(seed=0, count=9):
    """Fixations that gather around a place, as people's do; sorted, each once."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((16, 16), (48, 80)) + 5 * rng.normal(size=(count, 2))
    return np.unique(np.clip(points.astype(int), 0, np.array(SIZE) - 1), axis=0)


def binary(points, value=255):
    image = np.zeros(SIZE, np.uint8)
    image[tuple(points.T)] = value
    return image


def read(folder, content, name="a.png", **options):
    """Reads the fixations of an array that is written as a picture, or as variable `I` of a .mat."""
    path = folder / name
    if path.suffix == ".mat":
        scipy.io.savemat(path, {"I": content})
    else:
        image = content if isinstance(content, Image.Image) else Image.fromarray(content)
        image.save(path, **options)
    return read_fixation_map(path, "I").fixations


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a.png", lambda b: b),
        ("a.bmp", lambda b: b),
        ("a.png", lambda b: b // 255),
        ("a.png", lambda b: b > 0),
        ("a.png", lambda b: b.astype(np.uint16)),
        ("a.png", lambda b: Image.fromarray(b).convert("P")),
        ("a.png", lambda b: np.dstack([b, b, b])),
        ("a.png", lambda b: np.dstack([b, np.full_like(b, 255)])),
        ("a.tif", lambda b: b.astype(np.float32)),
        ("a.mat", lambda b: b),
        ("a.mat", lambda b: b > 0),
        ("a.mat", lambda b: b / 255),
        ("a.mat", lambda b: scipy.sparse.csc_matrix(b / 255.0)),
    ],
)
def test_binary_maps_of_any_kind(tmp_path, name, change):
    points = places()
    fixations = read(tmp_path, change(binary(points)), name)
    assert fixations.points.dtype == np.int32 and (fixations.kind, fixations.damaged) == ("", 0)
    np.testing.assert_array_equal(fixations.points, points)


def test_a_map_without_fixations(tmp_path):
    for name in ("a.png", "a.jpg", "a.mat"):
        assert read(tmp_path, np.zeros(SIZE, np.uint8), name).points.shape == (0, 2)


@pytest.mark.parametrize(("name", "quality"), [("a.jpg", 70), ("a.jpg", 75), ("a.jpg", 95), ("a.webp", 80)])
def test_binary_maps_after_compression(tmp_path, name, quality):
    """Every point is found, and nothing else, though hundreds of pixels are above zero."""
    for seed in range(8):
        points = places(seed)
        fixations = read(tmp_path, binary(points), name, quality=quality)
        np.testing.assert_array_equal(fixations.points, points)
        with Image.open(tmp_path / name) as image:
            assert np.count_nonzero(np.asarray(image.convert("L"))) > 2 * len(points)
        assert fixations.kind == NOISE
    buffer = io.BytesIO()
    Image.fromarray(binary(points)).save(buffer, "JPEG")
    with Image.open(buffer) as image:  # and saved again without loss
        np.testing.assert_array_equal(read(tmp_path, np.asarray(image)).points, points)


def test_counts_are_points(tmp_path):
    points = places()
    counts = binary(points, 1)
    counts[tuple(points[:3].T)] = (2, 3, 7)
    for name, content in (
        ("a.png", counts),
        ("a.mat", counts),
        ("a.mat", counts.astype(float)),
        ("a.mat", scipy.sparse.csc_matrix(counts.astype(float))),
    ):
        fixations = read(tmp_path, content, name)
        np.testing.assert_array_equal(fixations.points, points)
        assert fixations.kind == COUNTS


def test_nan_are_not_fixated_and_counted(tmp_path):
    points = places()
    content = binary(points, 1).astype(float)
    content[0, :5] = np.nan
    fixations = read(tmp_path, content, "a.mat")
    np.testing.assert_array_equal(fixations.points, points)
    assert (fixations.kind, fixations.damaged) == ("", 5)


def blurred(points, sigma=4):
    smooth = scipy.ndimage.gaussian_filter(binary(points).astype(float), sigma)
    return smooth / smooth.max()


def resized(points, scale, kind):
    size = int(SIZE[1] * scale), int(SIZE[0] * scale)
    return Image.fromarray(binary(points)).resize(size, kind)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("a.png", lambda p: np.uint8(255 * blurred(p)), "as in a density, a resized map"),
        ("a.png", lambda p: np.uint8(60 * blurred(p)), "as in a density, a resized map"),
        ("a.png", lambda p: np.uint8(5 * blurred(p)), "are adjacent, as in a density"),
        ("a.mat", blurred, "it has fractions, as densities"),
        ("a.png", lambda p: 255 - binary(p), "of its pixels are fixated: it is inverted"),
        ("a.jpg", lambda p: 255 - binary(p), "of its pixels are fixated: it is inverted"),
        ("a.mat", lambda p: 1.0 - binary(p, 1), "of its pixels are fixated: it is inverted"),
        ("a.mat", lambda p: binary(p, 1) - 1.0, "it has numbers down to -1"),
        ("a.mat", lambda p: np.full(SIZE, np.nan), "all its numbers are NaN"),
        ("a.mat", lambda p: np.where(binary(p), np.inf, 0), "it has infinite numbers"),
        ("a.png", lambda p: resized(p, 0.5, Image.Resampling.BILINEAR), "as in a density, a resized map"),
        ("a.png", lambda p: resized(p, 2, Image.Resampling.BILINEAR), "as in a density, a resized map"),
        ("a.png", lambda p: resized(p, 2, Image.Resampling.BICUBIC), "as in a density, a resized map"),
        ("a.png", lambda p: resized(p, 4, Image.Resampling.LANCZOS), "as in a density, a resized map"),
    ],
)
def test_what_is_no_fixation_map_is_refused(tmp_path, name, change, words):
    content = change(places())
    with pytest.raises(AvsalError, match=words) as error:
        read(tmp_path, content, name)
    line = str(error.value)
    assert (
        f"{tmp_path / name} is not a fixation map (binary: 0, and one other number" in line
        and "\n" not in line
    )


def test_spots_are_read_with_a_note(tmp_path):
    """Every pixel of a map enlarged three times counts, and the note says so; single points have none."""
    enlarged = np.kron(binary(places()), np.ones((3, 3), np.uint8))
    fixations = read(tmp_path, enlarged)
    assert fixations.kind == PATCHES and len(fixations.points) == np.count_nonzero(enlarged)
    assert "are adjacent" in fixation_findings([fixations])["fixation maps"]
    pair = np.zeros((9, 9), np.uint8)
    pair[4, 4:6] = pair[0, 8] = pair[1, 0] = 255  # one adjacent pair; the ends of two rows are not adjacent
    assert read(tmp_path, pair).kind == ""


def test_dots_in_colour_and_strong_compression_are_refused(tmp_path):
    dots = binary(places())
    with pytest.raises(AvsalError, match="is a coloured picture"):
        read(tmp_path, np.dstack([dots, 0 * dots, 0 * dots]))
    with pytest.raises(AvsalError, match="a strongly compressed one"):
        read(tmp_path, dots, "a.jpg", quality=20)


def test_findings_are_reported_once_with_their_number():
    empty = np.zeros((0, 2), np.int32)
    kinds = ((), (COUNTS, 2), (NOISE,), (NOISE, 1))
    frames = [Fixations(empty, *kind) for kind in kinds]
    lines = fixation_findings(frames)
    assert lines["fixation maps"].startswith("1 of 4 fixation maps hold counts: a pixel counts once; 2 of 4 ")
    assert lines["NaN"] == "3 values of fixation maps are NaN; they count as not fixated"
    assert fixation_findings(frames[:1]) == {}
