"""Frames as a player shows them: display matrices, matrices and ranges of colour, HDR, transparency."""

import fractions
import math
import struct

import av
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.media.color import ToneMapping
from avsal_jax.media.video import Video
from avsal_jax.testing.videos import moving_spot, write_video
from tests import needs

FIXED_POINT_ONE = 1 << 16


def write_matrix(path, a, b, c, d):
    """Writes a display matrix into the track header of an mp4: (x, y) is shown at (a x + c y, b x + d y)."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4
    assert content[at] == 0  # version 0: the matrix lies 40 bytes behind the version
    scaled = (round(v * FIXED_POINT_ONE) for v in (a, b, 0, c, d))
    content[at + 40 : at + 76] = struct.pack(">9i", *scaled, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def corners():
    """A picture without symmetry."""
    image = np.full((64, 96, 3), 60, np.uint8)
    image[4:20, 4:50] = 250, 40, 40
    image[30:60, 8:20] = 40, 250, 40
    image[40:60, 60:90] = 30, 30, 250
    return image


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """An mp4 without a matrix, and the frame that it decodes to."""
    path = write_video(tmp_path_factory.mktemp("stored") / "stored.mp4", np.stack([corners()] * 2))
    return path, next(iter(Video(path))).image


# The matrix, and the picture that `ffmpeg -autorotate` and QuickTime show, by hand.
DISPLAY_CASES = {
    "upright": ((1, 0, 0, 1), lambda i: i),
    "mirrored": ((-1, 0, 0, 1), lambda i: i[:, ::-1]),
    "upside down, mirrored": ((1, 0, 0, -1), lambda i: i[::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda i: i[::-1, ::-1]),
    "a quarter clockwise": ((0, 1, -1, 0), lambda i: np.rot90(i, -1)),
    "a quarter counter-clockwise": ((0, -1, 1, 0), lambda i: np.rot90(i, 1)),
    "transposed": ((0, 1, 1, 0), lambda i: np.swapaxes(i, 0, 1)),
    "transposed, half a turn": ((0, -1, -1, 0), lambda i: np.rot90(np.swapaxes(i, 0, 1), 2)),
    "twice as large": ((2, 0, 0, 2), lambda i: i),
    "nothing": ((0, 0, 0, 0), lambda i: i),
}


@pytest.mark.parametrize("name", DISPLAY_CASES)
def test_display_matrices(tmp_path, stored, name):
    matrix, show = DISPLAY_CASES[name]
    path = tmp_path / "given.mp4"
    path.write_bytes(stored[0].read_bytes())
    write_matrix(path, *matrix)
    video = Video(path)
    np.testing.assert_array_equal(next(iter(video)).image, show(stored[1]))
    assert video.info.notes == ()


@pytest.mark.parametrize(("degrees", "quarters"), [(30, 0), (60, -1), (-100, 1), (170, 2)])
def test_other_turns_are_the_nearest_quarter_with_a_note(tmp_path, stored, degrees, quarters):
    path, angle = tmp_path / "given.mp4", math.radians(degrees)
    path.write_bytes(stored[0].read_bytes())
    write_matrix(path, math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))
    video = Video(path)
    np.testing.assert_array_equal(next(iter(video)).image, np.rot90(stored[1], quarters))
    assert len(video.info.notes) == 1 and f"turns by {degrees} degrees" in video.info.notes[0]


@pytest.mark.parametrize(("name", "turned"), [("mirrored", False), ("transposed", True)])
def test_pixels_lie_on_their_side_after_odd_turns(tmp_path, name, turned):
    path = write_video(tmp_path / "wide.mp4", moving_spot(2), pixel_aspect=fractions.Fraction(4, 3))
    write_matrix(path, *DISPLAY_CASES[name][0])
    assert Video(path).info.pixel_aspect == (fractions.Fraction(3, 4) if turned else fractions.Fraction(4, 3))


def flat(pix_fmt, planes, count=2, **properties):
    """Frames of one colour, given as the code values of its planes; or of bars, given as arrays of values."""
    for index in range(count):
        frame = av.VideoFrame(64, 48, pix_fmt)
        for plane, values in zip(frame.planes, planes, strict=True):
            kind = np.uint16 if "10" in pix_fmt else np.uint8
            rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
            rows[:, : plane.width] = np.repeat(values, plane.width // np.size(values))
            plane.update(rows.tobytes())
        frame.pts = index
        for name, number in properties.items():
            setattr(frame, name, number)
        yield frame


def write_flat(path, pix_fmt, planes, codec="ffv1", **properties):
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for name, number in properties.items():
            setattr(stream.codec_context, name, number)
        for frame in flat(pix_fmt, planes, **properties):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


KR_KB = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # of H.273


def rgb_of(y, u, v, matrix, full, bits):
    """Y'CbCr code values -> R'G'B' in [0, 1], by the equations of ITU-T H.273."""
    scale = 2 ** (bits - 8)
    black, luma, chroma = (0, 2**bits - 1, 2**bits - 1) if full else (16 * scale, 219 * scale, 224 * scale)
    y, u, v = (y - black) / luma, (u - 128 * scale) / chroma, (v - 128 * scale) / chroma
    kr, kb = KR_KB[matrix]
    r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.array([r, (y - kr * r - kb * b) / (1 - kr - kb), b])


@pytest.mark.parametrize("matrix", KR_KB)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("pix_fmt", "bits"), [("yuv420p", 8), ("yuv444p10le", 10)])
def test_the_stated_matrix_and_range_give_the_colours(tmp_path, matrix, full, pix_fmt, bits):
    planes = [value * 2 ** (bits - 8) for value in (120, 100, 180)]
    path = write_flat(tmp_path / "a.mkv", pix_fmt, planes, colorspace=matrix, color_range=1 + full)
    image = next(iter(Video(path))).image
    # swscale rounds its coefficients: up to two steps in 4:2:0 and of ten bits
    assert np.abs(image[24, 32] - 255 * rgb_of(*planes, matrix, full, bits)).max() <= 2.5
    assert np.ptp(image, axis=(0, 1)).max() <= 1


def test_a_matrix_that_ffmpeg_does_not_read_is_an_error(tmp_path):
    path = write_flat(tmp_path / "a.mkv", "yuv420p", (120, 100, 180), colorspace=8)
    with pytest.raises(AvsalError, match="its colours are coded as YCgCo, which is not read; convert it"):
        Video(path)


def from_chromaticities(primaries):
    """Linear RGB -> XYZ, for white D65 (SMPTE RP 177)."""

    def xyz(x, y):
        return np.array([x / y, 1.0, (1 - x - y) / y])

    columns = np.stack([xyz(*xy) for xy in primaries], 1)
    return columns * np.linalg.solve(columns, xyz(0.3127, 0.3290))


BT709 = from_chromaticities([(0.640, 0.330), (0.300, 0.600), (0.150, 0.060)])
GAMUTS = {
    9: from_chromaticities([(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)]),
    12: from_chromaticities([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)]),
    1: BT709,
}


def pq_coded(light):
    """cd/m2 -> signal (SMPTE ST 2084, inverse EOTF)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    y = (light / 10_000) ** m1
    return ((c1 + c2 * y) / (1 + c3 * y)) ** m2


def hlg_coded(light):
    """R, G, B in cd/m2 on a display of 1,000 cd/m2 -> signal (BT.2100, inverse OOTF and OETF)."""
    luminance = np.dot([0.2627, 0.6780, 0.0593], light) / 1000
    scene = light / 1000 * luminance ** ((1 - 1.2) / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


CODED = {16: pq_coded, 18: hlg_coded, 14: lambda light: (light / 203) ** (1 / 2.2)}
NAMES = {16: "HDR (PQ, BT.2020)", 18: "HDR (HLG, BT.2020)", 14: "BT.2020"}
SCENE = np.array([(0.18, 0.18, 0.18), (0.5, 0.3, 0.2), (0.1, 0.2, 0.6), (0.78, 0.78, 0.78)])  # grey, skin ...


@pytest.mark.parametrize("transfer", CODED)
@pytest.mark.parametrize("full", [False, True])
def test_hdr_shows_the_colours_of_the_same_scene_in_sdr(tmp_path, transfer, full):
    """Four colours of BT.709, as light relative to 203 cd/m2, are coded in BT.2020 with 10 bits."""
    wide = np.linalg.solve(GAMUTS[9], BT709 @ SCENE.T) * 203
    r, g, b = CODED[transfer](wide)
    y = 0.2627 * r + 0.6780 * g + 0.0593 * b
    chroma = (b - y) / 1.8814, (r - y) / 1.4746
    black, luma, colour = (0, 1023, 1023) if full else (64, 876, 896)
    planes = np.rint([black + luma * y, *(512 + colour * c for c in chroma)])
    properties = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1 + full}
    path = write_flat(tmp_path / "a.mkv", "yuv444p10le", planes, **properties)
    video = Video(path)
    # ten bits, swscale's coefficients and a table of 65 nodes: up to three steps of 8 bits together
    bars = next(iter(video)).image[24, 8::16]
    assert np.abs(bars - 255 * SCENE ** (1 / 2.2)).max() <= 3.5
    assert len(video.info.notes) == 1 and NAMES[transfer] in video.info.notes[0]


@pytest.mark.parametrize("primaries", GAMUTS)
def test_gamuts(primaries):
    """Linear light of a gamut -> BT.709, from the chromaticities."""
    light = np.array([[0.3, 0.3, 0.3], [0.4, 0.35, 0.3], [0.2, 0.25, 0.2]])
    expected = light @ (np.linalg.inv(BT709) @ GAMUTS[primaries]).T
    mapped = ToneMapping(None, primaries).to_sdr(light ** (1 / 2.2)) ** 2.2
    np.testing.assert_allclose(mapped, expected, atol=2e-4)  # standards state four digits


def test_highlights_keep_their_order_and_their_hue():
    light = np.array([[203.0] * 3, [406.0] * 3, [1000.0] * 3, [10_000.0] * 3, [1000.0, 500.0, 250.0]])
    signal = ToneMapping("PQ", 1).to_sdr(pq_coded(light))
    assert 0.93 < signal[0, 0] < signal[1, 0] < signal[2, 0] < signal[3, 0] <= 1
    ratios = signal[4] ** 2.2 / signal[4, 0] ** 2.2
    np.testing.assert_allclose(ratios, [1, 0.5, 0.25], atol=1e-3)


def test_transparent_video_lies_over_black(tmp_path):
    path = tmp_path / "a.mov"
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[:, :32] = 200, 100, 50, 255
    rgba[:, 32:48] = 200, 100, 50, 51  # a fifth
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgba"
        for _ in range(2):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        out.mux(stream.encode(None))
    image = next(iter(Video(path))).image
    np.testing.assert_array_equal(image[0, [0, 40, 60]], [[200, 100, 50], [40, 20, 10], [0, 0, 0]])


@pytest.mark.parametrize("name", list(DISPLAY_CASES)[:8])
def test_display_matrices_of_matroska(tmp_path, name):
    (a, b, c, d), show = DISPLAY_CASES[name]
    path = tmp_path / "given.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        needs.display_matrices(stream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        stream.set_display_matrix([v * FIXED_POINT_ONE for v in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30])
        for _ in range(2):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(corners(), format="rgb24")))
        out.mux(stream.encode(None))
    np.testing.assert_array_equal(next(iter(Video(path))).image, show(corners()))


def test_a_turn_that_h264_states_once_applies_to_all_later_frames(tmp_path):
    """The first frame comes with a message that also applies to the frames after it (H.264, annex D)."""
    upright, path = moving_spot(5, 72, 128), tmp_path / "turned.mkv"
    plain = write_video(tmp_path / "stored.mp4", np.rot90(upright, -1, axes=(1, 2)))
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        turn = av.BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", stream)
        for packet in source.demux(stream):
            for turned in turn.filter(packet if packet.dts is not None else None):
                turned.stream = copy
                out.mux(turned)
    frames = [frame.image for frame in Video(path)]
    assert len(frames) == 5
    stored = [frame.image for frame in Video(plain)]
    for frame, before in zip(frames, stored, strict=True):
        np.testing.assert_array_equal(frame, np.rot90(before))


@pytest.mark.parametrize("order", [("sdr", "hdr"), ("hdr", "sdr")])
def test_each_part_of_a_joined_file_has_its_own_colours(tmp_path, order):
    """SDR leaves a grey of 150 of 255 unchanged. In PQ that grey is brighter than white at 203 cd/m2."""
    parts = {"sdr": (1, 1, 1), "hdr": (16, 9, 9)}
    for name, (transfer, primaries, matrix) in parts.items():
        properties = {"color_trc": transfer, "color_primaries": primaries, "colorspace": matrix}
        grey = 145, 128, 128  # 16 + 219 * 150 / 255
        write_flat(tmp_path / f"{name}.ts", "yuv420p", grey, "libx264", **properties)
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in order))
    greys = [frame.image.mean() for frame in Video(path)]
    expected = {"sdr": 150, "hdr": 255 * ToneMapping("PQ", 9).to_sdr(np.full((1, 3), 150 / 255)).mean()}
    assert expected["hdr"] > 240
    np.testing.assert_allclose(greys, np.repeat([expected[name] for name in order], 2), atol=2)
