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
from tests.training.test_recipes import ROWS, config_of, printed

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
# As the tables print them: 4 and 5 together, 1, 2, 3 of CASP-Net; I and II together, III, IV, V of AVRSP.
FIGURES = {
    "casp_net_av:visual": "0.638 2.54 0.902 0.529 0.555 2.65 0.882 0.449 0.756 6.01 0.961 0.566 "
    "0.671 3.67 0.931 0.515 0.613 3.30 0.938 0.471 0.481 2.50 0.901 0.374",
    "casp_net_av:audio_visual": "0.649 2.58 0.904 0.536 0.560 2.66 0.887 0.453 0.766 6.11 0.963 0.573 "
    "0.685 3.77 0.932 0.528 0.616 3.31 0.939 0.476 0.486 2.52 0.904 0.377",
    "casp_net_av:visual_dhf1k": "0.649 2.59 0.904 0.538 0.559 2.64 0.888 0.445 0.756 6.07 0.963 0.567 "
    "0.681 3.75 0.931 0.526 0.616 3.31 0.938 0.471 0.485 2.52 0.904 0.382",
    "casp_net_av:audio_visual_dhf1k": "0.655 2.61 0.906 0.543 0.561 2.65 0.889 0.456 0.788 6.34 0.963 0.585 "
    "0.691 3.81 0.933 0.528 0.620 3.34 0.940 0.478 0.499 2.60 0.907 0.387",
    "casp_net_ablations:table1_fcn": "1.77 0.659 3.57 0.509 0.606 3.21 0.463",
    "casp_net_ablations:table1_unet": "3.94 0.665 3.65 0.512 0.611 3.27 0.468",
    "casp_net_ablations:table1_sal": "2.49 0.671 3.67 0.515 0.613 3.30 0.471",
    "casp_net_ablations:table2_visual": "0.671 0.515 0.613 0.469",
    "casp_net_ablations:table2_bilinear": "0.670 0.510 0.609 0.469",
    "casp_net_ablations:table2_quadratic": "0.674 0.517 0.615 0.471",
    "casp_net_ablations:table2_linear": "0.675 0.519 0.615 0.470",
    "casp_net_ablations:table2_coding": "0.685 0.528 0.616 0.476",
    "casp_net_ablations:table3_stages1": "0.670 0.510 0.610 0.467",
    "casp_net_ablations:table3_stages2": "0.672 0.512 0.613 0.469",
    "casp_net_ablations:table3_stages3": "0.673 0.514 0.611 0.468",
    "casp_net_ablations:table3_stages4": "0.671 0.513 0.611 0.467",
    "casp_net_ablations:table3_stages234": "0.674 0.515 0.613 0.471",
    "casp_net_ablations:table3_stages1234": "0.675 0.518 0.615 0.470",
    "avrsp_av:visual": "0.545 0.668 2.67 0.907 0.470 0.611 3.33 0.930 0.533 0.697 3.75 0.933 "
    "0.459 0.590 2.83 0.895 0.602 0.820 6.28 0.963 0.374 0.494 2.57 0.900",
    "avrsp_av:audio_visual": "0.559 0.685 2.78 0.911 0.474 0.611 3.36 0.934 0.549 0.704 3.84 0.933 "
    "0.463 0.595 2.87 0.899 0.617 0.837 6.47 0.964 0.381 0.504 2.72 0.903",
    "avrsp_synergy:table3_v_bare": "0.519 0.628 2.38 0.901 0.514 0.673 3.56 0.927",
    "avrsp_synergy:table3_v_ms": "0.533 0.654 2.66 0.904 0.529 0.687 3.74 0.932",
    "avrsp_synergy:table3_v_mrg": "0.538 0.647 2.53 0.902 0.526 0.691 3.69 0.930",
    "avrsp_synergy:table3_v_both": "0.545 0.668 2.67 0.907 0.533 0.697 3.75 0.933",
    "avrsp_synergy:table3_av_bare": "0.539 0.663 2.57 0.905 0.528 0.683 3.69 0.922",
    "avrsp_synergy:table3_av_ms": "0.551 0.676 2.72 0.908 0.540 0.696 3.77 0.932",
    "avrsp_synergy:table3_av_mrg": "0.546 0.673 2.73 0.907 0.544 0.692 3.72 0.930",
    "avrsp_synergy:table3_av_both": "0.559 0.685 2.78 0.911 0.549 0.704 3.84 0.933",
    "avrsp_synergy:table4_v_4": "0.665 2.68 0.905 0.540",
    "avrsp_synergy:table4_v_3": "0.668 2.67 0.907 0.545",
    "avrsp_synergy:table4_v_2": "0.669 2.64 0.904 0.541",
    "avrsp_synergy:table4_v_1": "0.661 2.60 0.904 0.536",
    "avrsp_synergy:table4_v_0": "0.652 2.54 0.900 0.528",
    "avrsp_synergy:table4_av_4": "0.683 2.75 0.909 0.556",
    "avrsp_synergy:table4_av_3": "0.685 2.78 0.911 0.559",
    "avrsp_synergy:table4_av_2": "0.681 2.80 0.907 0.554",
    "avrsp_synergy:table4_av_1": "0.676 2.73 0.908 0.554",
    "avrsp_synergy:table4_av_0": "0.670 2.64 0.903 0.547",
    "avrsp_fusions:visual": "0.546 0.668 2.67 0.907 0.533 0.697 3.75 0.933",
    "avrsp_fusions:addition": "0.547 0.665 2.54 0.897 0.531 0.690 3.61 0.920",
    "avrsp_fusions:multiplication": "0.542 0.658 2.53 0.903 0.528 0.688 3.61 0.913",
    "avrsp_fusions:concatenation": "0.545 0.663 2.60 0.895 0.530 0.688 3.69 0.915",
    "avrsp_fusions:bilinear": "0.553 0.672 2.66 0.906 0.537 0.696 3.74 0.929",
    "avrsp_fusions:mbt": "0.547 0.673 2.73 0.908 0.541 0.697 3.78 0.927",
    "avrsp_fusions:ravf": "0.559 0.685 2.78 0.911 0.549 0.704 3.84 0.933",
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


@pytest.mark.parametrize("text", FIGURES)
def test_figures_stand_as_printed(text):
    assert printed(text) == FIGURES[text].split()


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
    for text in FIGURES:
        figures[text.partition(":")[0]] += 1
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
