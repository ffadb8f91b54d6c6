"""Clips with seconds between their frames, maps that are smoothed over time, and maps of some frames only."""

import numpy as np
import pytest

from avsal_jax import AvsalError, Clip, InputSpec, Waveform, load_model
from avsal_jax.cli.main import main
from avsal_jax.inference.predict import predict_file
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.settings import Settings
from avsal_jax.media.video import Video
from avsal_jax.spec.input import input_from_dict, input_to_dict
from avsal_jax.testing.models import order_probe, tiny_stored
from avsal_jax.testing.videos import moving_spot, write_video

T = 4
# Seconds between frames; the spacing at each rate, by hand: 0.2 s at 3 fps are less than a frame.
INTERVAL, SPACINGS = 0.2, {3: 1, 10: 2, 25: 5, 29.97: 6}


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 64, 3), np.uint8)


def direct(model, frames, clips):
    """The maps of clips, through the network's ordinary call."""
    return np.concatenate([model(Clip(frames[clip][None])).saliency for clip in clips])


def spaced_clips(count, spacing, label):
    """Frame number `label` of a clip is the one whose map it gives; the others are `spacing` apart."""
    clips = []
    for index in range(count):
        places = [index + (number - label) * spacing for number in range(T)]
        clips.append([min(max(place, 0), count - 1) for place in places])
    return clips


def mean_maps(maps, radius):
    """Plainly, in float64."""
    means = []
    for index in range(len(maps)):
        near = maps[max(0, index - radius) : index + radius + 1].astype(np.float64)
        means.append(near.mean(0))
    return np.stack(means)


@pytest.mark.parametrize(("label_frame", "label"), [("last", 3), ("middle", 2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_stream_of_spaced_clips_by_hand(label_frame, label, batch):
    """One compiled engine serves all rates."""
    model = order_probe(T, interval=INTERVAL, label_frame=label_frame)
    engine = model.engine(batch)
    for fps, spacing in SPACINGS.items():
        for count in (1, 2, 7, 60):
            frames = noise(count)
            indices, maps = zip(*model.iter_frames(frames, batch, fps=fps), strict=True)
            assert list(indices) == list(range(count))
            expected = direct(model, frames, spaced_clips(count, spacing, label))
            np.testing.assert_allclose(np.stack(maps), expected, atol=1e-5)
    assert model.engine(batch) is engine
    if label_frame == "last":
        np.testing.assert_allclose(model.predict_frames(noise(7), fps=10), direct(
            model, noise(7), [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 1, 3], [0, 0, 2, 4],
                              [0, 1, 3, 5], [0, 2, 4, 6]]), atol=1e-5)  # fmt: skip


def test_the_rings_have_room_for_the_highest_rate():
    model = order_probe(T, interval=0.1)
    frames = noise(50)
    maps = np.stack([saliency for _, saliency in model.iter_frames(frames, 2, fps=120)])
    np.testing.assert_allclose(maps, direct(model, frames, spaced_clips(50, 12, 3)), atol=1e-5)
    with pytest.raises(AvsalError, match="at most 120 frames per second, .* got 240: use --frame-step"):
        model.predict_frames(frames, fps=240)


@pytest.mark.parametrize("fields", [{"interval": 0.1}, {"smoothing": 0.1}])
def test_the_rate_is_needed(fields):
    with pytest.raises(AvsalError, match="needs fps"):
        order_probe(T, **fields).iter_frames(noise(3))
    still = order_probe(T, **fields).predict_image(noise(1)[0])
    np.testing.assert_allclose(still, direct(order_probe(T), noise(1), [[0] * T])[0], atol=1e-6)


@pytest.mark.parametrize(("smoothing", "fps", "radius"), [(0.1, 25, 2), (0.1, 3, 0), (1.0, 25, 25)])
@pytest.mark.parametrize("batch", [1, 3])
def test_smoothed_maps_are_means(smoothing, fps, radius, batch):
    frames = noise(20)
    unsmoothed = np.stack([saliency for _, saliency in order_probe(T).iter_frames(frames, batch)])
    model = order_probe(T, smoothing=smoothing)
    indices, maps = zip(*model.iter_frames(frames, batch, fps=fps), strict=True)
    assert list(indices) == list(range(20)) and maps[0].dtype == np.float32
    np.testing.assert_allclose(np.stack(maps), mean_maps(unsmoothed, radius), rtol=1e-6)


SELECTIONS = [{15, 40, 65}, {0}, {69}, {2, 3, 4, 5, 30}, set(range(70)), set(), {15, 200}]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"label_frame": "middle"},
        {"interval": 0.1},
        {"interval": 0.1, "label_frame": "middle", "smoothing": 0.1},
        {"smoothing": 0.2},
    ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_maps_of_selected_frames_are_those_of_the_whole_video(fields, batch):
    model = order_probe(T, **fields)
    for count in (1, 5, 70):
        frames = noise(count)
        complete = dict(model.iter_frames(frames, batch, fps=30))
        for selection in SELECTIONS:
            maps = dict(model.iter_frames(frames, batch, fps=30, selection=selection))
            assert list(maps) == sorted(selection & set(complete))
            for index, saliency in maps.items():
                np.testing.assert_array_equal(saliency, complete[index])


def test_selected_maps_of_convolutions_are_those_of_the_whole_video():
    model = Model(tiny_stored(interval=0.1, smoothing=0.05))
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), np.uint8)
    complete = dict(model.iter_frames(frames, 1, fps=30))
    for index, saliency in model.iter_frames(frames, 1, fps=30, selection={11, 30}):
        np.testing.assert_array_equal(saliency, complete[index])


@pytest.mark.parametrize(
    ("fields", "fps", "selection", "encoded"),
    [
        ({"interval": 0.1}, 30, {40, 65}, {31, 34, 37, 40, 56, 59, 62, 65}),
        ({"interval": 0.1}, 30, {5}, {0, 2, 5}),
        ({}, 30, {40}, {37, 38, 39, 40}),
        ({"smoothing": 1 / 30}, 30, {40}, {36, 37, 38, 39, 40, 41}),
        ({"interval": 0.1, "smoothing": 1 / 30}, 30, {40}, {30, 33, 36, 39, 31, 34, 37, 40, 32, 35, 38, 41}),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_only_frames_that_are_needed_are_encoded(fields, fps, selection, encoded, batch):
    """By the pictures that reach the encoder, each once; a full batch is filled up by the last of them."""
    model = order_probe(T, **fields)
    engine, pushed = model.engine(batch), []
    frames = np.stack([np.full((32, 64, 3), index, np.uint8) for index in range(70)])
    push = engine._push
    engine._push = lambda variables, ring, images, slots: (
        pushed.append(sorted({int(image[0, 0, 0]) for image in images})),
        push(variables, ring, images, slots),
    )[1]
    read = []
    maps = dict(
        model.iter_frames(
            (read.append(i) or f for i, f in enumerate(frames)), batch, fps=fps, selection=selection
        )
    )
    assert set(maps) == selection
    assert sorted(index for group in pushed for index in group) == sorted(encoded)
    assert len(read) < 70 or 65 in selection  # nothing is read after the last of them, but for what is ahead


def test_specs_of_intervals():
    spec = InputSpec(frames=8, interval=0.2, smoothing=0.5)
    assert input_from_dict(input_to_dict(spec)) == spec
    plain = input_to_dict(InputSpec())
    assert (plain["interval"], plain["smoothing"]) == (0.0, 0.0)
    earlier = {name: value for name, value in plain.items() if name not in ("interval", "smoothing")}
    assert input_from_dict(earlier) == InputSpec()
    assert (spec.spacing(25), spec.spacing(2), InputSpec().spacing(25)) == (5, 1, None)
    with pytest.raises(AvsalError, match="network with sound takes consecutive frames"):
        InputSpec(interval=0.1, audio=Waveform(35_280))
    with pytest.raises(AvsalError, match="clip lasts at most 30 s; 32 frames at an interval of 1.0 s"):
        InputSpec(frames=32, interval=1)
    with pytest.raises(AvsalError, match="interval must be a number from 0 to 10; got -1"):
        InputSpec(interval=-1)


def test_a_smoothing_of_the_command_line_is_part_of_the_job(tiny_dir, tmp_path, capsys):
    source = write_video(tmp_path / "clip.mp4", moving_spot(12), 10)
    arguments = [
        "predict",
        str(source),
        "--model",
        str(tiny_dir),
        "--output",
        str(tmp_path / "out"),
        "--save",
        "npz",
    ]
    maps = {}
    for smoothing, is_new in (
        ((), True),
        (("--smoothing", "0.2"), True),
        (("--smoothing", "0.2"), False),
        ((), True),
    ):
        assert main([*arguments, *smoothing]) == 0
        assert ("is done already" in capsys.readouterr().err) != is_new
        with np.load(tmp_path / "out" / "maps.npz", allow_pickle=False) as archive:
            maps[smoothing] = archive["maps"].astype(np.float32)
    np.testing.assert_allclose(maps["--smoothing", "0.2"], mean_maps(maps[()], 2), atol=2e-3)  # float16
    assert np.abs(maps["--smoothing", "0.2"] - maps[()]).max() > 0.005
    model = load_model(tiny_dir, smoothing=0.2)
    assert model.spec.smoothing == 0.2 and model.identity != load_model(tiny_dir).identity
    with pytest.raises(SystemExit):
        main([*arguments, "--smoothing", "-1"])
    assert "not a number of seconds from 0 to 10" in capsys.readouterr().err


def test_files_have_spaced_clips_at_their_rate(tmp_path):
    """Every second frame of 20 per second is a video of 10 per second; far rates give no warning."""
    model = order_probe(T, interval=0.2)
    frames = moving_spot(12, 32, 64)
    source = write_video(tmp_path / "clip.mp4", frames, 20)
    summary = predict_file(model, source, tmp_path / "out", Settings(save=("npz",), frame_step=2))
    assert summary["notes"] == []
    with np.load(tmp_path / "out" / "maps.npz", allow_pickle=False) as archive:
        maps = archive["maps"]
    decoded = np.stack([frame for frame in _decoded(source)])[::2]
    expected = direct(model, decoded, spaced_clips(6, 2, 3))
    np.testing.assert_allclose(maps, expected, atol=2e-3)
    np.testing.assert_allclose(
        model.predict_video(source), direct(model, _decoded(source), spaced_clips(12, 4, 3)), atol=1e-5
    )


def _decoded(source):
    return np.stack([frame.image for frame in Video(source)])
