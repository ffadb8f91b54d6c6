"""The configs of CASP-Net and AVRSP: their rows, what they start from, and the figures of the papers."""

import dataclasses
import functools
import re

import jax
import pytest

from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.training import recipes
from avsal_jax.training.optimizers import Adam, AdamW
from avsal_jax.training.schedules import Constant, Cosine, Plateau
from avsal_jax.training.schema import ModelConfig
from tests.training.test_recipes import FIGURE_ROWS, ROWS, config_of

CONFIG_ROWS = [(name, row) for name, row in ROWS if name.startswith(("casp_net", "avrsp"))]
EPOCHS = {
    "avrsp_av": 100,
    "avrsp_dhf1k": 80,
    "avrsp_fusions": 100,
    "avrsp_synergy": 100,
    "casp_net_ablations": 400,
    "casp_net_av": 200,
    "casp_net_dhf1k": 40,
    "casp_net_iterations": 200,
}
# What a row is about, by the papers' words: AVRSP's (fusion, pairs, gates, skips); CASP-Net's (decoder;
# interaction, stages, whether it has predictive coding).
NETWORKS = {
    "avrsp_av:visual": (None, 3, 3, "plain"),
    "avrsp_av:audio_visual": ("ravf", 3, 3, "plain"),
    "avrsp_dhf1k:bare": (None, 0, 0, "none"),
    "avrsp_dhf1k:ms": (None, 3, 0, "plain"),
    "avrsp_dhf1k:mrg": (None, 0, 3, "plain"),
    **{f"avrsp_dhf1k:pairs{n}": (None, n, n, "plain") for n in range(5)},
    "avrsp_synergy:table3_v_bare": (None, 0, 0, "none"),
    "avrsp_synergy:table3_v_ms": (None, 3, 0, "plain"),
    "avrsp_synergy:table3_v_mrg": (None, 0, 3, "plain"),
    "avrsp_synergy:table3_v_both": (None, 3, 3, "plain"),
    "avrsp_synergy:table3_av_bare": ("ravf", 0, 0, "none"),
    "avrsp_synergy:table3_av_ms": ("ravf", 3, 0, "plain"),
    "avrsp_synergy:table3_av_mrg": ("ravf", 0, 3, "plain"),
    "avrsp_synergy:table3_av_both": ("ravf", 3, 3, "plain"),
    **{f"avrsp_synergy:table4_v_{n}": (None, n, n, "plain") for n in range(5)},
    **{f"avrsp_synergy:table4_av_{n}": ("ravf", n, n, "plain") for n in range(5)},
    "avrsp_fusions:visual": (None, 3, 3, "plain"),
    "avrsp_fusions:addition": ("addition", 3, 3, "plain"),
    "avrsp_fusions:multiplication": ("multiplication", 3, 3, "plain"),
    "avrsp_fusions:concatenation": ("concatenation", 3, 3, "plain"),
    "avrsp_fusions:bilinear": ("bilinear", 3, 3, "plain"),
    "avrsp_fusions:mbt": ("mbt", 3, 3, "plain"),
    "avrsp_fusions:ravf": ("ravf", 3, 3, "plain"),
    "casp_net_ablations:table1_fcn": ("fcn", None),
    "casp_net_ablations:table1_unet": ("unet", None),
    "casp_net_ablations:table1_sal": ("sal", None),
    "casp_net_ablations:table2_visual": ("sal", None),
    "casp_net_ablations:table2_bilinear": ("sal", ("bilinear", (1, 2, 3, 4), False)),
    "casp_net_ablations:table2_quadratic": ("sal", ("quadratic", (1, 2, 3, 4), False)),
    "casp_net_ablations:table2_linear": ("sal", ("linear", (1, 2, 3, 4), False)),
    "casp_net_ablations:table2_coding": ("sal", ("linear", (1, 2, 3, 4), True)),
    **{
        f"casp_net_ablations:table3_stages{''.join(map(str, stages))}": ("sal", ("linear", stages, False))
        for stages in ((1,), (2,), (3,), (4,), (2, 3, 4), (1, 2, 3, 4))
    },
}


@functools.cache
def _leaves(network):
    shapes = jax.tree_util.tree_leaves_with_path(abstract_variables(network))
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in shapes}


def leaves(text):
    """Path -> shape of a row's parameters and statistics, by a stand-in for S3D that is traced sooner."""
    preset = config_of(f"{text},smoke").model.preset()
    encoder = {"visual_encoder": {"name": "small", "width": 1 / 16}}
    return _leaves(build(dataclasses.replace(preset, parts=preset.parts | encoder)))


@pytest.mark.parametrize(("name", "row"), CONFIG_ROWS)
def test_every_row_builds(name, row):
    config, paper = config_of(f"{name}:{row}"), name.partition("_")[0]
    cc = 0.1 if row == "literal_loss" else -0.1
    weights, forms = config.loss.weights, config.loss.forms
    assert (weights["kl"], weights["cc"], weights["sim"]) == (1.0, cc, -0.1)
    assert forms["kl"] == ("avrsp" if paper == "avrsp" else "casp_net")
    assert config.data.batch == 8 and config.save_every == config.evaluation.every
    optimizer = config.optimizer
    expected = (AdamW, 1e-5) if paper == "avrsp" else (Adam, 0.0)
    assert (type(optimizer), optimizer.weight_decay) == expected
    spec = config.model.preset().input
    if not name.endswith("_synthetic"):
        assert optimizer.learning_rate == 1e-4 and config.evaluation.metric == "loss" and config.init
        plateau = Plateau(factor=0.5) if paper == "avrsp" else Constant()
        assert optimizer.schedule == plateau
        six_directly = name == "casp_net_ablations" and row.startswith("six")
        assert config.epochs == (200 if six_directly else EPOCHS[name])
        assert (spec.frames, spec.height, spec.width) == (32 if paper == "avrsp" else 16, 224, 384)
    assert spec.label_frame == ("last" if paper == "avrsp" else "middle")
    assert build(config.model.preset())


@pytest.mark.parametrize("text", NETWORKS)
def test_each_row_is_the_network_of_its_name(text):
    preset = config_of(text).model.preset()
    network, parts = build(preset), preset.parts
    assert parts["visual_encoder"] == {"name": "s3d"}
    names = {slot: part and part["name"] for slot, part in parts.items() if slot != "heads"}
    if text.startswith("casp_net"):
        decoder, interaction = NETWORKS[text]
        assert parts["heads"]["saliency"]["name"] == decoder
        assert (network.audio_encoder is None) == (interaction is None)
        if interaction is None:
            assert network.fusion is None
        else:
            fusion = network.fusion
            assert (fusion.interaction, fusion.stages, fusion.coding is not None) == interaction
        return
    fusion, pairs, gates, skips = NETWORKS[text]
    assert (names["audio_encoder"], names["fusion"]) == (fusion and "soundnet", fusion)
    assert (network.neck.pairs, network.heads["saliency"].skips) == (pairs, skips)
    assert (network.regulator.gates if network.regulator else 0) == gates


def test_every_row_of_the_tables_is_there():
    figures = {name: 0 for name, _ in CONFIG_ROWS}
    for text, *_ in FIGURE_ROWS:
        if (name := text.partition(":")[0]) in figures:
            figures[name] += 1
    tables = {"avrsp_av": 2, "avrsp_fusions": 7, "avrsp_synergy": 8 + 10, "casp_net_ablations": 3 + 5 + 6}
    assert {name: count for name, count in figures.items() if count} == tables | {"casp_net_av": 4}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("avrsp_synergy:table3_v_both", "avrsp_synergy:table4_v_3"),
        ("avrsp_synergy:table3_av_both", "avrsp_synergy:table4_av_3"),
        ("avrsp_synergy:table3_v_both", "avrsp_fusions:visual"),
        ("avrsp_synergy:table3_av_both", "avrsp_fusions:ravf"),
        ("avrsp_synergy:table3_v_both,six2", "avrsp_av:visual,split2"),
        ("avrsp_synergy:table3_av_both,six2", "avrsp_av:audio_visual,split2"),
        ("casp_net_ablations:table1_sal", "casp_net_ablations:table2_visual"),
        ("casp_net_ablations:table2_linear", "casp_net_ablations:table3_stages1234"),
    ],
)
def test_rows_that_are_printed_twice_are_one_recipe(left, right):
    first, second = config_of(left), config_of(right)
    assert first.model.preset() == second.model.preset()
    first_rest, second_rest = (
        dataclasses.replace(config, model=ModelConfig(), data=dataclasses.replace(config.data, sources=()))
        for config in (first, second)
    )
    assert first_rest == second_rest
    assert set(first.data.sources) == set(second.data.sources)


def test_tables_three_and_four_differ_where_both_modules_are_off():
    first, second = (config_of(f"avrsp_synergy:{row}") for row in ("table3_v_bare", "table4_v_0"))
    assert first.model.preset() != second.model.preset() and first.init != second.init


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ("avrsp_av:audio_visual", "avrsp"),
        ("casp_net_av:audio_visual_dhf1k", "casp_net"),
        ("casp_net_ablations:table2_coding", "casp_net"),
        ("casp_net_iterations:figure5_n3", "casp_net"),
    ],
)
def test_the_whole_network_is_the_system(text, system):
    assert build(config_of(text).model.preset()) == build(resolve(system))


# Tracing takes a second. Rows that differ from one of these only by a count or a fusion are slow tests.
_FAST_ROWS = re.compile("avrsp_av:|avrsp_synergy:table3_av_bare|casp_net_av:|casp_net_ablations:table[12]")
TRACED = [
    pytest.param(*row, marks=[] if _FAST_ROWS.match(":".join(row)) else [pytest.mark.slow])
    for row in CONFIG_ROWS
]


@pytest.mark.parametrize(("name", "row"), TRACED)
def test_the_step_before_fits(name, row):
    """All weights of the step before are carried over; only sound and fusion keep their initial values."""
    config = config_of(f"{name}:{row}")
    hears = config.model.preset().input.audio is not None
    by_slot = {init.slot: init.path for init in config.init.values()}
    assert ("audio_encoder" in by_slot) == hears
    if hears and name.startswith("casp_net"):
        assert "vggish" in by_slot["audio_encoder"]
    elif hears:
        assert "soundnet" in by_slot["audio_encoder"]
    expected = leaves(f"{name}:{row}")
    if "" not in by_slot:
        assert expected
        return
    run = by_slot[""].split("/")[1]
    before = "casp_net_dhf1k:visual" if run == "casp_net_dhf1k" else run.replace("1k_", "1k:")
    previous = leaves(before)
    assert previous == {path: expected.get(path) for path in previous}
    slots = {path.split("'")[3] for path in expected.keys() - previous.keys()}
    assert slots <= ({"audio_encoder", "fusion"} if hears else set())


def test_sets_of_a_split():
    assert config_of("casp_net_ablations:table2_linear,split2").data.sources == (("avad", 2), ("etmd", 2))
    assert config_of("casp_net_iterations:figure5_n0").data.sources == (("avad", 1), ("diem", 1))
    six = config_of("casp_net_ablations:table1_fcn,six3")
    assert six.data.sources == tuple((name, 3) for name in recipes.SIX_SETS) and six.save_every == 105
    assert six.model.preset().parts["heads"]["saliency"]["name"] == "fcn"


def test_mini_has_a_schedule_of_its_own():
    schedule = config_of("avrsp_av:audio_visual,mini").optimizer.schedule
    assert schedule == Cosine(warmup_steps=20)


def test_synthetic_rows():
    presets = {row: config_of(f"casp_net_synthetic:{row}").model.preset() for row in ("linear", "heard")}
    assert presets["linear"].parts["fusion"] == {"name": "casp_net", "coding": None}
    assert presets["heard"].parts["fusion"] == {"name": "casp_net", "values": "audio"}
    assert presets["heard"].input.audio.shape == (1, 96, 64)
    ravf = config_of("avrsp_synthetic:ravf").model.preset()
    assert ravf.parts["fusion"] == {"name": "ravf", "width": 0.25} and ravf.input.frames == 8
    assert build(ravf).regulator.gates == 3
    started = [config_of(f"{name}_synthetic:concatenation").model.preset() for name in ("avinet", "avrsp")]
    assert started[0].input == started[1].input  # SoundNet's start fits both
