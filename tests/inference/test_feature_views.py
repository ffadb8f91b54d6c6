"""Features as maps with a place: axes of each kind, ranges of colours, and the fusions that record them."""

import numpy as np
import pytest

from avsal_jax import Waveform
from avsal_jax.inference.feature_pictures import draw
from avsal_jax.inference.feature_views import Layout, Lines, Maps, view
from avsal_jax.models.fusion.cross_modal import CrossModal
from avsal_jax.models.fusion.mbt import MBT
from avsal_jax.models.fusion.ravf import RAVF
from avsal_jax.models.fusion.transformer import Transformer
from avsal_jax.pictures import false_colour
from avsal_jax.testing.models import fusing_probe

SOUND = Waveform(1_000)


def record(fusion):
    """Evaluates a network with `fusion` on noise. Returns the names, the features and the view of each."""
    engine = fusing_probe(fusion, SOUND).feature_engine()
    random = np.random.default_rng(0)
    arrays = engine(random.integers(0, 256, (8, 32, 64, 3), np.uint8), random.standard_normal(1_000))
    return engine.names, arrays, {name: view(name, arrays, engine.layout, ()) for name in engine.names}


def test_ravf_shows_what_each_block_retains():
    names, arrays, views = record(RAVF(blocks=2, heads=2, width=1 / 64))
    assert names == (
        "retention_audio",
        "retention_visual",
        "retention_heads",
        "head_weights",
        "fused",
        "taps",
    )
    retained = arrays["retention_audio"]
    assert retained.shape == (2, 2, 4, 4, 8, 1)
    maps = views["retention_audio"]
    assert [caption for caption, _ in maps.rows] == ["block 1", "block 2"] and len(maps.columns) == 4
    np.testing.assert_allclose(maps.rows[1][1][3], (retained[1, 0] + retained[1, 1])[3, :, :, 0] / 2)
    visual_map = views["retention_visual"].rows[0][1][2]
    np.testing.assert_allclose(visual_map, (arrays["retention_visual"][0, :, 0, 2]).mean(0))
    by_head, weights = views["retention_heads"], arrays["head_weights"][1]  # of the last block
    assert [caption for caption, _ in by_head.rows] == [
        f"head {number}, weight {weight:.2f}" for number, weight in enumerate(weights, 1)
    ]
    np.testing.assert_allclose(by_head.rows[1][1][3], retained[1, 1, 3, :, :, 0], rtol=1e-6)
    heads = views["head_weights"]
    assert isinstance(heads, Lines) and heads.lines[1][0] == "head 2"
    np.testing.assert_array_equal(heads.lines[1][1], arrays["head_weights"][:, 1])


def test_cross_modal_attention_lies_on_the_pooled_level():
    _, arrays, views = record(CrossModal(width=1 / 64))
    assert arrays["attention"].shape == (1, 16, 1)  # 1 x 4 x 4 places read from one token of sound
    ((caption, maps),) = views["attention"].rows
    assert caption == "sound 1" and len(maps) == 1
    np.testing.assert_array_equal(maps[0], arrays["attention"][0, :, 0].reshape(4, 4))
    np.testing.assert_allclose(views["fused"].rows[0][1][0], arrays["fused"].mean(-1).reshape(4, 4))


def test_a_transformer_shows_what_picture_reads_from_sound():
    _, arrays, views = record(Transformer(width=1 / 64, layers=1, heads=2))
    assert arrays["attention"].shape == (2, 129, 129)
    expected = arrays["attention"][:, :128, 128].mean(0).reshape(4, 4, 8)
    np.testing.assert_allclose(np.stack(views["attention"].rows[0][1]), expected)
    fused = arrays["fused"][:128].mean(-1).reshape(4, 4, 8)
    np.testing.assert_allclose(np.stack(views["fused"].rows[0][1]), fused, atol=1e-6)


def test_attention_without_a_place_is_not_shown():
    names, arrays, views = record(MBT(blocks=2, heads=2, width=1 / 64))
    attention = [name for name in names if name.endswith("/attention")]
    blocks = ("audio1", "visual1", "visual2")
    assert attention == [f"fusion/{block}/attention/attention" for block in blocks]
    assert set(attention) < set(arrays) and all(views[name] is None for name in attention)
    assert views["fused"] is not None


def test_time_is_averaged_to_the_steps_of_the_coarsest_level():
    layout = Layout(((8, 4, 6), (4, 2, 3), (2, 2, 3), (2, 1, 2)), 1)
    levels = {f"taps_{i}": np.random.default_rng(i).random(s) for i, s in enumerate(layout.levels, 1)}
    maps = view("taps", levels, layout, ())
    assert maps.columns == ["time 1 of 2", "time 2 of 2"] and maps.by_row
    np.testing.assert_allclose(maps.rows[0][1][1], levels["taps_1"][4:].mean(0))
    np.testing.assert_array_equal(maps.rows[3][1][0], levels["taps_4"][0])


def test_tokens_of_sound_differ_along_rows():
    weights = np.random.default_rng(0).random((2, 12, 3))
    maps = view("attention", {"attention": weights}, Layout(((2, 4, 6), (2, 2, 3)), 3), ())
    assert [caption for caption, _ in maps.rows] == ["sound 1", "sound 2", "sound 3"]
    np.testing.assert_allclose(maps.rows[2][1][1], weights.mean(0)[6:, 2].reshape(2, 3))


def test_coding_and_unknown_features():
    error = np.arange(12.0).reshape(4, 3)
    lines = view("coding_error", {"coding_error": error}, Layout(((1, 1, 1),)), ())
    assert [name for name, _ in lines.lines] == ["e_0", "e_1", "e_2"] and lines.first == 0
    np.testing.assert_array_equal(lines.lines[2][1], [2, 5, 8, 11])
    assert view("class_logits", {"class_logits": error}, Layout(((1, 1, 1),)), ()) is None


def test_false_colours():
    colours = false_colour(np.array([[0.0, 1.0, 2.0, np.nan, -5.0]]), 0, 2)[0].tolist()
    assert colours == [[68, 1, 84], [33, 145, 140], [253, 231, 37], [128, 128, 128], [68, 1, 84]]  # viridis
    assert false_colour(np.full((1, 1), 3.0), 3, 3).tolist() == [[[68, 1, 84]]]


@pytest.mark.parametrize(("by_row", "equal"), [(False, False), (True, True)])
def test_blocks_share_a_range_of_colours(by_row, equal):
    """The row `low` spans its own range alone, or that of the row `high`; never that of one block."""

    def block(scale):
        ramp = np.repeat(np.linspace(0, scale, 4)[None], 2, 0)
        return Maps(["all"], [("low", [ramp]), ("high", [10 * ramp])], "", by_row)

    picture = draw([("one", block(1)), ("two", block(0.5))], 0.5)
    height, width = picture.shape[0], picture.shape[1] // 2
    assert width < 300 and height == 2 * 16 + 6 + 2 * (72 + 6)
    low, high = ((picture[row : row + 72, 118 : 118 + 144]) for row in (38, 38 + 78))
    assert (low[36, 140] == high[36, 140]).all() == equal
    assert (high[36, 140] == [253, 231, 37]).all()
    assert (picture[38 + 78 + 36, width + 118 + 140] != [253, 231, 37]).any()  # half as high
    wide = draw([("", Maps([""] * 5, [("", [np.eye(3)] * 5)], ""))] * 2, 0.5)
    assert wide.shape[1] < 900  # one below the other
