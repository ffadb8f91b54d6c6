"""Containers, codecs, rotation, times: the same maps, the same number, and sound in step."""

import fractions

import av
import numpy as np
import pytest

from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.media.audio import read_sound
from avsal_jax.testing.models import probe_model
from avsal_jax.testing.videos import moving_spot, spot_centre, transcode, write_video

FORMATS = [
    ("mp4", "libx264", "aac"),
    ("mkv", "libx265", "pcm_s16le"),  # sound that mp4 cannot hold as it is
    ("webm", "libvpx-vp9", "libopus"),
    ("avi", "mpeg4", "libmp3lame"),
]
CLIPS = {"big_buck_bunny_5s.mp4": 132, "nasa_13s.mp4": 390}


# The NASA clip holds its picture in two sizes.
pytestmark = pytest.mark.filterwarnings("ignore:.*it has 2 video streams:UserWarning")


def correlation(a, b):
    return np.corrcoef(np.asarray(a).ravel(), np.asarray(b).ravel())[0, 1]


@pytest.fixture(scope="module")
def probe():
    return probe_model()


@pytest.fixture(scope="module")
def originals(probe, tests_dir):
    return {name: probe.predict_video(tests_dir / "media" / name) for name in CLIPS}


def test_unrelated_clips_do_not_correlate(originals):
    first, second = originals.values()
    assert correlation(first, second[: len(first)]) < 0.5


def frame_times(path):
    with av.open(str(path)) as container:
        return np.array([float(f.time) for f in container.decode(container.streams.best("video"))])


def lag_of_sound(overlay, source):
    """Seconds by which the sound of `overlay` comes later than that of `source`, relative to the picture."""
    rate, loud = 1000, []
    for path in (overlay, source):
        sound = read_sound(path)
        start = frame_times(path)[0]
        bins = int(len(sound.wave) * rate / sound.rate)
        edges = (np.arange(bins) * sound.rate / rate).astype(int)
        power = np.add.reduceat(np.abs(sound.wave), edges)
        late = round((sound.start - start) * rate)
        loud.append(np.pad(power, (max(0, late), 0))[max(0, -late) :])  # from the first frame on
    a, b = (x[: min(map(len, loud))] - x.mean() for x in loud)
    lags = range(-500, 501)
    scores = [(a[max(0, k) : len(a) + min(0, k)] * b[max(0, -k) : len(b) + min(0, -k)]).sum() for k in lags]
    return lags[int(np.argmax(scores))] / rate


@pytest.mark.slow
@pytest.mark.parametrize(("container", "codec", "audio"), FORMATS, ids=[f[0] for f in FORMATS])
@pytest.mark.parametrize("name", CLIPS)
def test_real_clips_in_four_containers(tests_dir, tmp_path, probe, originals, name, container, codec, audio):
    original = tests_dir / "media" / name
    source = transcode(original, tmp_path / f"clip.{container}", codec, audio, (180, 320))
    summary = predict_file(probe, source, tmp_path / "out", Settings(save=("overlay", "npz")))
    maps = np.load(tmp_path / "out" / "maps.npz")["maps"]
    assert summary["frames"] == len(maps) == CLIPS[name]
    worst = min(correlation(a, b) for a, b in zip(maps[::13], originals[name][::13], strict=True))
    assert worst > 0.98
    overlay_times, source_times = (frame_times(path) for path in (tmp_path / "out" / "overlay.mp4", source))
    assert len(overlay_times) == CLIPS[name]
    np.testing.assert_allclose(overlay_times - overlay_times[0], source_times - source_times[0], atol=0.001)
    assert abs(lag_of_sound(tmp_path / "out" / "overlay.mp4", source)) <= 0.025  # less than a frame


def spot_errors(maps, count, size, indices=None):
    """Distances between each map's centre of mass and the spot, in pixels of the model's 64x96 map."""
    rows, columns = np.mgrid[0:64, 0:96]
    errors = []
    for index, saliency in zip(indices or range(len(maps)), maps, strict=True):
        weight = np.clip(saliency.astype(float) - np.quantile(saliency, 0.9), 0, None)
        y, x = (rows * weight).sum() / weight.sum(), (columns * weight).sum() / weight.sum()
        spot = spot_centre(index, count, *size)
        errors.append(
            np.hypot(y - (spot[0] + 0.5) * 64 / size[0] + 0.5, x - (spot[1] + 0.5) * 96 / size[1] + 0.5)
        )
    return np.array(errors)


def test_map_i_shows_frame_i_whatever_the_times(tmp_path, probe):
    """Variable rate and an offset: maps go by frame, the overlay keeps the times."""
    path, count = tmp_path / "times.mkv", 40
    times = 700 + np.cumsum(np.random.default_rng(0).integers(20, 90, count))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, 1000)
        for time, image in zip(times, moving_spot(count), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = int(time), fractions.Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    maps = probe.predict_video(path)
    assert len(maps) == count and spot_errors(maps, count, (72, 128)).max() < 1.0
    assert spot_errors(maps[1:], count, (72, 128), range(count - 1)).max() > 1.0  # one frame off would show
    predict_file(probe, path, tmp_path / "out", Settings(save=("overlay",)))
    times_in_overlay = frame_times(tmp_path / "out" / "overlay.mp4")
    np.testing.assert_allclose(times_in_overlay, (times - times[0]) / 1000, atol=0.001)


def test_rotation_reaches_maps_and_overlay(tmp_path, probe):
    from tests.media.test_video import MATRICES, rotate_header

    stored = np.rot90(moving_spot(12), -1, axes=(1, 2))
    path = write_video(tmp_path / "turned.mp4", stored)
    rotate_header(path, MATRICES[1])
    summary = predict_file(probe, path, tmp_path / "out", Settings(save=("overlay", "npz")))
    assert (summary["height"], summary["width"]) == (72, 128)
    maps = np.load(tmp_path / "out" / "maps.npz")["maps"]
    assert spot_errors(maps, 12, (72, 128)).max() < 1.0
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
        assert (overlay.streams.video[0].height, overlay.streams.video[0].width) == (72, 128)


def test_pixel_aspect_is_carried_over(tmp_path, probe):
    path = write_video(tmp_path / "wide.mp4", moving_spot(3), pixel_aspect=fractions.Fraction(4, 3))
    predict_file(probe, path, tmp_path / "out", Settings(save=("overlay",)))
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
        assert overlay.streams.video[0].sample_aspect_ratio == fractions.Fraction(4, 3)


def test_sound_and_picture_that_begin_apart_stay_in_step(tmp_path, probe, tests_dir):
    """The picture of this file begins 0.4 s after its sound."""
    source = tests_dir / "media" / "nasa_13s.mp4"
    shifted = tmp_path / "late.mkv"
    with av.open(str(source)) as inside, av.open(str(shifted), "w") as out:
        streams = [inside.streams.best("video"), inside.streams.best("audio")]
        copies = {stream.index: out.add_stream_from_template(stream) for stream in streams}
        late = round(0.4 / streams[0].time_base)
        for packet in inside.demux(*streams):
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
            packet.stream = copies[packet.stream.index]
            out.mux(packet)
    predict_file(probe, shifted, tmp_path / "out", Settings(save=("overlay",)))
    assert abs(lag_of_sound(tmp_path / "out" / "overlay.mp4", shifted)) <= 0.025
