"""Which frames make which map: the window plan, and the stream against a direct evaluation of it."""

import dataclasses
import weakref

import jax
import numpy as np
import pytest

from avsal_jax import Clip
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.windows import oldest_needed, possible_frames, window
from avsal_jax.models.layers import Runtime
from avsal_jax.models.systems import build
from avsal_jax.testing.models import probe_model, tiny_stored


def test_last_by_hand():
    assert window(3, 100, 4, "last") == [0, 1, 2, 3]
    assert window(99, 100, 4, "last") == [96, 97, 98, 99]
    assert window(0, 100, 4, "last") == [3, 2, 1, 0]  # reversed: it ends at the frame
    assert window(2, 100, 4, "last") == [5, 4, 3, 2]
    assert window(2, None, 4, "last") == window(2, 100, 4, "last")


def test_short_videos_repeat_their_first_frame_in_front():
    # 5 frames, T = 4: padded to 7 as 0 0 0 1 2 3 4.
    padded = [0, 0, 0, 1, 2, 3, 4]
    assert window(0, 5, 4, "last") == padded[5:1:-1]  # frame 0 is number 2 there, so reversed
    assert window(1, 5, 4, "last") == padded[0:4]
    assert window(4, 5, 4, "last") == padded[3:7]
    assert window(0, 1, 4, "last") == [0, 0, 0, 0]


def test_middle_by_hand():
    assert window(50, 100, 4, "middle") == [48, 49, 50, 51]
    assert window(0, 100, 4, "middle") == [0, 0, 0, 1]
    assert window(99, 100, 4, "middle") == [97, 98, 99, 99]


def test_the_oldest_frame_by_hand():
    assert [oldest_needed(index, 4, "last") for index in (0, 3, 5)] == [0, 0, 2]
    assert [oldest_needed(index, 4, "middle") for index in (0, 2, 5)] == [0, 0, 3]
    assert oldest_needed(50, 5, "middle") == 48


def test_spaced_clips_by_hand():
    """With a spacing, the first and the last frame repeat, and no clip is reversed."""
    assert window(9, 100, 4, "last", 3) == [0, 3, 6, 9]
    assert window(50, None, 4, "last", 3) == [41, 44, 47, 50]
    assert window(4, 100, 4, "last", 3) == [0, 0, 1, 4]
    assert window(0, 100, 4, "last", 3) == window(0, 1, 4, "last", 3) == [0, 0, 0, 0]
    assert window(2, 3, 4, "last", 1) == [0, 0, 1, 2]  # not as with consecutive frames
    assert window(50, 100, 4, "middle", 3) == [44, 47, 50, 53]
    assert window(98, 100, 4, "middle", 3) == [92, 95, 98, 99]
    assert window(1, 3, 4, "middle", 3) == [0, 0, 1, 2]
    assert [oldest_needed(index, 4, "last", 3) for index in (0, 9, 12)] == [0, 0, 3]
    assert [oldest_needed(index, 5, "middle", 3) for index in (5, 10)] == [0, 4]


@pytest.mark.parametrize("label_frame", ["last", "middle"])
@pytest.mark.parametrize("spacing", [None, 1, 3])
def test_no_clip_has_a_frame_that_is_not_possible(label_frame, spacing):
    possible = [possible_frames(index, 4, label_frame, spacing) for index in range(30)]
    for count in range(1, 31):
        for index in range(count):
            assert set(window(index, count, 4, label_frame, spacing)) <= possible[index]
            assert min(possible[index]) >= oldest_needed(index, 4, label_frame, spacing)
    assert len(possible[20]) <= {None: 4, 1: 4, 3: 6}[spacing]


def images(count, height=64, width=96):
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def direct(model, frames):
    """Every window on its own, through the network's ordinary call."""
    spec = model.spec
    clips = [frames[window(i, len(frames), spec.frames, spec.label_frame)] for i in range(len(frames))]
    return np.concatenate([model(Clip(clip[None])).saliency for clip in clips])


T = 8


@pytest.mark.parametrize("count", [1, T - 1, T, 2 * T - 2, 2 * T - 1, 100])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_stream_equals_a_direct_evaluation(tiny_model, count, batch):
    frames = images(count)
    indices, maps = zip(*tiny_model.iter_frames(iter(frames), batch), strict=True)
    assert list(indices) == list(range(count))
    expected = direct(tiny_model, frames)
    np.testing.assert_allclose(np.stack(maps), expected, atol=1e-5)
    if count > 1:  # a shift by one frame would show
        assert np.abs(expected[1:] - expected[:-1]).max() > 1e-3


@pytest.mark.parametrize("label_frame", ["last", "middle"])
@pytest.mark.parametrize("count", [1, T - 1, T, 2 * T - 2, 100])
@pytest.mark.parametrize("batch", [1, 4])
def test_map_i_shows_frame_i(label_frame, count, batch):
    model = probe_model(T, label_frame=label_frame)
    frames = images(count)
    maps = np.stack([m for _, m in model.iter_frames(iter(frames), batch)])
    expected = np.concatenate([model(Clip(np.broadcast_to(f, (1, T, *f.shape)))).saliency for f in frames])
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_the_full_clip_length_at_a_small_width():
    model = Model(tiny_stored(frames=32, visual_encoder="s3d"))
    frames = images(40)
    maps = np.stack([m for _, m in model.iter_frames(iter(frames))])
    np.testing.assert_allclose(maps, direct(model, frames), atol=1e-5)


def test_frames_are_let_go(tiny_model):
    """Memory is a window's, whatever the length: of 60 frames, those in the queue and in hands are alive."""
    handed, peak = [], 0

    class Tracked(np.ndarray):
        """An array that can be referred to weakly."""

    def stream():
        nonlocal peak
        for i in range(60):
            frame = np.full((64, 96, 3), i, np.uint8).view(Tracked)
            handed.append(weakref.ref(frame))
            peak = max(peak, sum(ref() is not None for ref in handed))
            yield frame

    assert sum(1 for _ in tiny_model.iter_frames(stream(), 1)) == 60
    assert peak <= 10


def test_frames_in_memory(tiny_model):
    frames = images(9, 50, 70)
    maps = tiny_model.predict_frames(frames, fps=25)
    assert maps.shape == (9, 64, 96) and maps.dtype == np.float32
    with pytest.raises(ValueError, match="uint8"):
        tiny_model.predict_frames(frames.astype(np.float32), fps=25)
    with pytest.raises(ValueError, match="positive fps"):
        tiny_model.predict_frames(frames, fps=0)


def test_a_bfloat16_model_streams(tiny_model):
    half = Model(tiny_stored_with(Runtime(dtype=jax.numpy.bfloat16)))
    frames = images(9)
    maps = np.stack([m for _, m in half.iter_frames(iter(frames))])
    np.testing.assert_allclose(maps, direct(tiny_model, frames), atol=0.05)


def tiny_stored_with(runtime):
    stored = tiny_stored()
    return dataclasses.replace(stored, network=build(stored.preset, runtime))
