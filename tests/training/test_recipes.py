"""Every shipped config and row: what it builds, shrinks to, states and is evaluated by."""

import argparse
import ast
import functools
import json
import math
import re
import shlex

import jax
import pytest

from avsal_jax import published, registry
from avsal_jax.cli import evaluate
from avsal_jax.cli.main import main
from avsal_jax.data.sets.datasets import find_dataset
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.slots import SLOTS, part_class
from avsal_jax.models.systems import build, preset_of
from avsal_jax.spec.input import Pixels
from avsal_jax.training import recipes
from avsal_jax.training.initialise import Init
from avsal_jax.training.objectives import SupervisedConfig
from avsal_jax.training.optimizers import Adam
from avsal_jax.training.schedules import check_steps
from avsal_jax.training.schema import build_config, changed_model

ALL_ROWS = [(recipe.name, row) for recipe in map(recipes.recipe, recipes.shipped()) for row in recipe.rows]
WITHOUT_MAPS = ("sound_classes",)  # see tests/test_sound_tools.py
ROWS = [(name, row) for name, row in ALL_ROWS if name not in WITHOUT_MAPS]
FIRST_ROWS = {name: row for name, row in reversed(ROWS)}
OTHERWISE_BUILT = ("casp_net", "avrsp", "gaze")  # see test_fusion_recipes, test_gaze_recipe
# How the papers' own code evaluates where it is not by protocol `vinet`: protocol, postprocess.
EVALUATIONS = {name: ("dhf1k", "vinet") for name in ("vinet_dhf1k", "vinet_hollywood2", "vinet_ucf")}
EVALUATIONS |= {name: ("dhf1k", None) for name in ("avrsp_dhf1k", "casp_net_dhf1k")} | {
    "gaze": ("gaze", None)
}
EVALUATIONS |= {f"casp_net_{name}": ("stavis", None) for name in ("av", "ablations", "iterations")}
# Parameters of the public code's classes; below them, counted by hand from the paper's words.
PARAMETERS = {
    "table2_t8": 31_079_105,
    "table2_t16": 31_097_537,
    "table2_t48": 31_100_641,
    "table1_no_hierarchy": 20_150_977,
    "hierarchy1": 27_339_457,
    "hierarchy2": 30_657_217,
    "t8": 31_079_105,
    "t16": 31_097_537,
    "avsal_mini": 1_948_193,
    "transposed": 31_099_585 + sum(16 * c * c + 2 * c for c in (832, 480, 192, 64, 32)),
    "join_channels": 7_910_048
    + 1024 * 832 * 9
    + 27 * (2 * 832 * 480 + 2 * 480 * 192 + 2 * 192 * 64)
    + 64 * 32 * 9
    + 32 * 32 * 16
    + 33,
}
# The figures of rows as the papers print them, transcribed independently of published.csv: metrics in an
# order -> config and row -> their values, of one published row after another.
FIGURES = {
    "cc sim nss": {
        "vinet_dhf1k:table1_no_hierarchy": "0.5002 0.361 2.7371",
        "vinet_dhf1k:table1_hierarchy": "0.5212 0.3881 2.9565 0.510 0.381 2.87",
        "vinet_dhf1k:table2_t8": "0.4978 0.363 2.8221",
        "vinet_dhf1k:table2_t16": "0.5112 0.378 2.9067",
        "vinet_dhf1k:table2_t32": "0.5212 0.3881 2.9565",
        "vinet_dhf1k:table2_t48": "0.5231 0.3807 2.9477",
        "vinet_dhf1k:transposed": "0.5178",
        "vinet_dhf1k:trilinear": "0.5212",
        "vinet_dhf1k:join_time": "0.5212 0.3881 2.9565",
    },
    "cc auc_shuffled auc_judd nss sim": {
        "vinet_hollywood2:table3": "0.693 0.813 0.930 3.73 0.550",
        "vinet_ucf:table3": "0.673 0.810 0.924 3.62 0.522",
        "vinet_ave:table6": "0.671 0.742 0.903 2.60 0.533",
        "avinet_ave:bilinear": "0.655 0.744 0.901 2.55 0.516",
        "avinet_ave:transformer": "0.655 0.744 0.901 2.55 0.516",
        "avinet_ave:concatenation": "0.655 0.744 0.901 2.55 0.516",
    },
    "cc nss": {
        "vinet_av:split2": "0.626 2.47 0.551 2.68 0.724 5.61 0.694 3.82 0.569 3.06 0.466 2.40",
        "avinet_av:bilinear": "0.632 2.53 0.56 2.73 0.754 5.95 0.674 3.77 0.571 3.08 0.463 2.41",
        "avinet_av:transformer": "0.637 2.54 0.561 2.71 0.738 5.73 0.689 3.74 0.576 3.07 0.470 2.42",
        "avinet_av:concatenation": "0.631 2.50 0.556 2.68 0.753 5.81 0.683 3.74 0.566 3.05 0.471 2.42",
    },
    "cc nss auc_shuffled auc_judd sim": {
        "dual_domain_av:cross_modal": "0.6138 3.428 0.6757 0.9191 0.4735 0.6138 3.428 0.6757 0.9191 0.4735",
        "dual_domain_av:bilinear": "0.6090 3.412 0.6965 0.9152 0.4427",
        "dual_domain_av:concatenation": "0.6167 3.367 0.6993 0.9155 0.4422",
        "dual_domain_av:avinet": "0.6118 3.3683 0.6998 0.9178 0.4445",
        "dual_domain_adapt:faces_no_da": "0.4099 1.670 0.5981 0.8442 0.3587",
        "dual_domain_adapt:faces_da_audio": "0.4352 1.785 0.6021 0.8591 0.3574",
        "dual_domain_adapt:faces_da_both": "0.4488 1.843 0.5988 0.8625 0.3608",
        "dual_domain_adapt:social_no_da": "0.477 1.9711 0.6019 0.8717 0.3742",
        "dual_domain_adapt:social_da_audio": "0.4951 2.064 0.6016 0.8721 0.3964",
        "dual_domain_adapt:social_da_both": "0.4985 2.084 0.6083 0.8727 0.3833",
        "dual_domain_adapt:coutrot1_no_da": "0.4685 2.274 0.5881 0.8673 0.3962",
        "dual_domain_adapt:coutrot1_da_audio": "0.4749 2.298 0.5926 0.8716 0.3962",
        "dual_domain_adapt:coutrot1_da_both": "0.4891 2.364 0.5927 0.8723 0.4057",
        "dual_domain_adapt:diem_no_da": "0.5640 2.281 0.6744 0.8857 0.4710",
        "dual_domain_adapt:diem_da_audio": "0.5692 2.300 0.6782 0.8898 0.4712",
        "dual_domain_adapt:diem_da_both": "0.5758 2.315 0.6797 0.8911 0.4714",
    },
    "sim cc nss auc_judd": {
        "avrsp_av:visual": "0.545 0.668 2.67 0.907 0.470 0.611 3.33 0.930 0.533 0.697 3.75 0.933 "
        "0.459 0.590 2.83 0.895 0.602 0.820 6.28 0.963 0.374 0.494 2.57 0.900",
        "avrsp_av:audio_visual": "0.559 0.685 2.78 0.911 0.474 0.611 3.36 0.934 0.549 0.704 3.84 0.933 "
        "0.463 0.595 2.87 0.899 0.617 0.837 6.47 0.964 0.381 0.504 2.72 0.903",
        "avrsp_fusions:visual": "0.546 0.668 2.67 0.907 0.533 0.697 3.75 0.933",
        "avrsp_fusions:addition": "0.547 0.665 2.54 0.897 0.531 0.690 3.61 0.920",
        "avrsp_fusions:multiplication": "0.542 0.658 2.53 0.903 0.528 0.688 3.61 0.913",
        "avrsp_fusions:concatenation": "0.545 0.663 2.60 0.895 0.530 0.688 3.69 0.915",
        "avrsp_fusions:bilinear": "0.553 0.672 2.66 0.906 0.537 0.696 3.74 0.929",
        "avrsp_fusions:mbt": "0.547 0.673 2.73 0.908 0.541 0.697 3.78 0.927",
        "avrsp_fusions:ravf": "0.559 0.685 2.78 0.911 0.549 0.704 3.84 0.933",
        "avrsp_synergy:table3_v_bare": "0.519 0.628 2.38 0.901 0.514 0.673 3.56 0.927",
        "avrsp_synergy:table3_v_ms": "0.533 0.654 2.66 0.904 0.529 0.687 3.74 0.932",
        "avrsp_synergy:table3_v_mrg": "0.538 0.647 2.53 0.902 0.526 0.691 3.69 0.930",
        "avrsp_synergy:table3_v_both": "0.545 0.668 2.67 0.907 0.533 0.697 3.75 0.933",
        "avrsp_synergy:table3_av_bare": "0.539 0.663 2.57 0.905 0.528 0.683 3.69 0.922",
        "avrsp_synergy:table3_av_ms": "0.551 0.676 2.72 0.908 0.540 0.696 3.77 0.932",
        "avrsp_synergy:table3_av_mrg": "0.546 0.673 2.73 0.907 0.544 0.692 3.72 0.930",
        "avrsp_synergy:table3_av_both": "0.559 0.685 2.78 0.911 0.549 0.704 3.84 0.933",
    },
    "cc nss auc_judd sim": {
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
        "casp_net_av:visual": "0.638 2.54 0.902 0.529 0.555 2.65 0.882 0.449 0.756 6.01 0.961 0.566 "
        "0.671 3.67 0.931 0.515 0.613 3.30 0.938 0.471 0.481 2.50 0.901 0.374",
        "casp_net_av:audio_visual": "0.649 2.58 0.904 0.536 0.560 2.66 0.887 0.453 0.766 6.11 0.963 0.573 "
        "0.685 3.77 0.932 0.528 0.616 3.31 0.939 0.476 0.486 2.52 0.904 0.377",
        "casp_net_av:visual_dhf1k": "0.649 2.59 0.904 0.538 0.559 2.64 0.888 0.445 0.756 6.07 0.963 0.567 "
        "0.681 3.75 0.931 0.526 0.616 3.31 0.938 0.471 0.485 2.52 0.904 0.382",
        "casp_net_av:audio_visual_dhf1k": "0.655 2.61 0.906 0.543 0.561 2.65 0.889 0.456 "
        "0.788 6.34 0.963 0.585 0.691 3.81 0.933 0.528 0.620 3.34 0.940 0.478 0.499 2.60 0.907 0.387",
    },
    "cc nss sim": {
        "casp_net_ablations:table1_fcn": "0.659 3.57 0.509 0.606 3.21 0.463",
        "casp_net_ablations:table1_unet": "0.665 3.65 0.512 0.611 3.27 0.468",
        "casp_net_ablations:table1_sal": "0.671 3.67 0.515 0.613 3.30 0.471",
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
    },
}  # fmt: skip


@functools.cache
def config_of(text):
    return build_config(recipes.config(text).to_dict())


@functools.cache
def parameters_of(preset_text):
    shapes = abstract_variables(build(preset_of(json.loads(preset_text), "system")))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))


def parameters(config):
    return parameters_of(json.dumps(config.model.preset().to_dict(), sort_keys=True))


def parts_of(preset):
    """Path -> (kind, part) of every slot and head; the part is None for an empty slot."""
    heads = {f"heads.{name}": ("head", part) for name, part in preset.parts["heads"].items()}
    return {slot: (slot, preset.parts[slot]) for slot in SLOTS} | heads


@pytest.mark.parametrize(("name", "row"), [pair for pair in ROWS if not pair[0].startswith(OTHERWISE_BUILT)])
def test_every_row_builds(name, row):
    config = config_of(f"{name}:{row}")
    slow = name == "dual_domain_adapt" and not row.endswith("_no_da")
    assert config.data.batch == (6 if slow else 8) and type(config.optimizer) is Adam
    if not name.endswith("_synthetic"):
        rate = 1e-5 if slow else 1e-4
        assert config.optimizer.learning_rate == rate and config.init and config.epochs == 40
    assert config.save_every == config.evaluation.every  # the best is among what is saved
    if name.startswith("vinet"):  # tests/models counts those of the audio-visual systems
        assert parameters(config) == PARAMETERS.get(row, 31_099_585)
    if row == FIRST_ROWS[name]:  # `smoke` makes the same parts of all rows as narrow
        assert 20_000 < parameters(config_of(f"{name}:{row},smoke")) < 300_000


def without_width(part):
    return {name: value for name, value in part.items() if name != "width"}


@pytest.mark.parametrize("variant", ["smoke", "mini"])
@pytest.mark.parametrize(("name", "row"), ROWS)
def test_every_row_shrinks_and_keeps_its_structure(name, row, variant):
    full, small = config_of(f"{name}:{row}"), config_of(f"{name}:{row},{variant}")
    assert small.data.sources == (("synthetic", None),) and small.init == {} and small.steps > 0
    check_steps(small.optimizer.schedule, small.steps)
    preset, small_preset = full.model.preset(), small.model.preset()
    spec, small_spec = preset.input, small_preset.input
    assert small_spec.frames == spec.frames and (small_spec.height, small_spec.width) == (64, 96)
    assert small_spec.audio == spec.audio
    small_parts = parts_of(small_preset)
    assert small_parts.keys() == parts_of(preset).keys()
    for path, (kind, part) in parts_of(preset).items():
        fields = small_parts[path][1]
        if part is None:
            assert fields is None
            continue
        if hasattr(part_class(kind, part["name"]), "width"):
            assert fields["width"] == (1 / 16 if variant == "smoke" else 1 / 4)
        else:
            assert "width" not in fields
        assert without_width(fields) == without_width(part)
    if full.objective == SupervisedConfig():
        assert small.objective == full.objective
    else:
        assert small.objective.features == full.objective.features
        assert small.objective.sources == (("synthetic", None),)


def test_recipes_are_those_of_the_paper_and_the_code():
    assert [init.slot for init in config_of("vinet_dhf1k").init.values()] == ["visual_encoder"]
    assert config_of("vinet_ucf").data.stride == 32 and config_of("vinet_av").data.stride == 64
    sources = config_of("vinet_av:split3").data.sources
    assert len(sources) == 6 and {fold for _, fold in sources} == {3}
    spec = config_of("vinet_dhf1k:table2_t48").model.preset().input
    assert (spec.frames, spec.height, spec.width) == (48, 224, 384)
    assert spec.pixels == Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255.0)  # ImageNet's
    assert config_of("vinet_dhf1k").model.norm_momentum == 0.999


def test_rows_of_adaptation():
    """Source, target and features. `no_da_slow` has the adapted rows' rate and batch, but no adaptation."""
    recipe = "dual_domain_adapt"
    configs = {row: config_of(f"{recipe}:{row}") for name, row in ROWS if name == recipe}
    for name in ("diem", "coutrot1", "faces", "social"):
        for row in ("no_da", "no_da_slow"):
            assert configs[f"{name}_{row}"].objective == SupervisedConfig()
        assert configs[f"{name}_da_audio"].objective.feature_names == ("audio",)
        adapted = configs[f"{name}_da_both"]
        objective = adapted.objective
        assert objective.feature_names == ("audio", "fused") and objective.reversal == "constant"
        assert [feature.weight for feature in objective.features] == [1.0, 1.0] and objective.strength == 1
        assert adapted.model.preset().parts["fusion"]["name"] == "cross_modal"
        for kind in ("da_audio", "da_both"):
            continued, literal = configs[f"{name}_then_{kind}"], configs[f"{name}_{kind}"]
            assert continued.init == {"no_da": Init(f"runs/{name}_no_da/model")}
            assert continued.evaluation.export == "last" and literal.evaluation.export == "best"
            assert continued.objective == literal.objective and continued.data == literal.data
    assert configs["diem_da_both"].data.sources == (("avad", 1),)
    assert configs["diem_da_both"].objective.sources == (("diem", 1),)
    assert configs["social_da_audio"].data.sources == ("social.txt",)
    assert configs["social_da_audio"].objective.sources == ("domain:nature_train",)


def test_audio_visual_rows():
    fusions = {row: config_of(f"avinet_av:{row}").model.preset().parts["fusion"]["name"]
               for row in ("bilinear", "transformer", "concatenation")}  # fmt: skip
    assert all(row == fusion for row, fusion in fusions.items())
    config = config_of("avinet_av:transformer,split2")
    assert config.data.sources[0] == ("diem", 2) and len(config.data.sources) == 6
    assert {name: init.slot for name, init in config.init.items()} == {
        "vinet": "",
        "soundnet": "audio_encoder",
    }
    picture = config_of("avinet_synthetic:picture")
    assert picture.model.preset().input.audio is None and picture.init == {}
    parts = [part for _, part in parts_of(picture.model.preset()).values()]
    assert {part and part["name"] for part in parts} == {"s3d", "vinet", None}


@functools.cache
def row_of(text):
    name, row = text.split(":")
    return recipes.recipe(name).rows[row]


FIGURE_ROWS = [(text, order.split(), of[text]) for order, of in FIGURES.items() for text in of]


@pytest.mark.parametrize(("text", "order", "figures"), FIGURE_ROWS, ids=[text for text, *_ in FIGURE_ROWS])
def test_figures_of_a_row_are_those_of_its_keys(text, order, figures):
    rows = [row for key in row_of(text).published for row in published.rows_of_key(key)]
    values = [row.printed_values[name] for row in rows for name in order if name in row.printed_values]
    assert values == figures.split()


@pytest.mark.parametrize("text", [f"{name}:{row}" for name, row in ALL_ROWS])
def test_every_key_exists_and_has_its_figures_above(text):
    """A row without a key has a text."""
    row, transcribed = row_of(text), {row_of(text).published for text, *_ in FIGURE_ROWS}
    assert all(map(published.rows_of_key, row.published))
    assert row.published in transcribed if row.published else row.about


def test_configs_are_short_and_say_how_to_run_them():
    for name, path in recipes.shipped().items():
        text = path.read_text()
        assert len(text.splitlines()) <= 75 and f"avsal train --config {name}" in text
        assert "Starts from:" in text and "Expected:" in text


def evaluations(name):
    """The arguments of each `avsal evaluate` in the docstring of a config, by the real parser."""
    docstring = ast.get_docstring(ast.parse(recipes.shipped()[name].read_text()))
    joined = re.sub(r"\n {8,}--", " --", docstring)  # continuation lines
    parser = argparse.ArgumentParser()
    evaluate.add_parser(parser.add_subparsers())
    lines = re.findall(r"^ {4}avsal (evaluate .*)", joined, re.MULTILINE)
    return [parser.parse_args(shlex.split(line, comments=True)) for line in lines]


@pytest.mark.parametrize("name", sorted({name for name, _ in ROWS}))
def test_every_recipe_has_its_evaluation_with_its_protocol(name):
    commands = evaluations(name)
    assert commands
    for args in commands:
        assert (args.protocol, args.postprocess) == EVALUATIONS.get(name, ("vinet", None))
        assert args.model and args.output and args.dataset in registry.table("dataset")
        if not args.model.startswith("1="):  # folds that are pooled
            find_dataset(args.dataset).check_fold(args.dataset, split=args.split, fold=args.fold)


def test_the_compare_command_of_a_recipe_names_a_published_row():
    text = recipes.shipped()["vinet_dhf1k"].read_text()
    (key,) = re.findall(r'^    avsal compare results/vinet_dhf1k "published:(.*)" --', text, re.MULTILINE)
    assert key in row_of("vinet_dhf1k:table2_t32").published and published.method_rows(key)


def test_list(capsys):
    assert main(["train", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {row} " in text for _, row in ALL_ROWS) and all(
        f"{name}: " in text for name, _ in ALL_ROWS
    )
    figures = "CC 0.5112, SIM 0.378, NSS 2.9067 (avinet, Table 2; published:avinet:2:ViNet(T=16))"
    assert f"\n  table2_t16             dhf1k val: {figures}\n" in text
    figures = "CC 0.576, SIM 0.410, NSS 3.07, AUC-J 0.931, s-AUC 0.740"
    source = "(avinet, Table 5; published:avinet:5:AViNet(T))"
    assert f"\n{'':25}etmd test: {figures} {source}\n" in text and "\n  smoke " in text


def test_variants_combine_in_any_order():
    first, second = (
        config_of(f"vinet_dhf1k:{v}") for v in ("smoke,table2_t16,transposed", "transposed,table2_t16,smoke")
    )
    assert first.model.preset() == second.model.preset() and first.model.preset().input.frames == 16


@pytest.mark.parametrize(
    ("first", "then", "joined"),
    [
        ({"frames": 16}, {}, {"frames": 16}),
        ({"frames": 16, "height": 64}, {"frames": 8}, {"height": 64, "frames": 8}),
        (
            {"fusion": {"name": "a", "heads": 2}, "frames": 8},
            {"fusion": "b"},
            {"frames": 8, "fusion": {"name": "b"}},
        ),
        ({"fusion": {"name": "a", "heads": 2}}, {"fusion.heads": 4}, {"fusion": {"name": "a", "heads": 4}}),
        ({"fusion": {"heads": 2}}, {"fusion": {"width": 0.5}}, {"fusion": {"heads": 2, "width": 0.5}}),
        ({"fusion": {"name": "a"}}, {"fusion": "none"}, {"fusion": None}),
        (
            {"heads": {"saliency": {"width": 0.5}}},
            {"heads": {"saliency": {"skips": "none"}}},
            {"heads": {"saliency": {"width": 0.5, "skips": "none"}}},
        ),
        ({"system": "vinet", "frames": 16}, {"system": "avinet"}, {"system": "avinet", "frames": 16}),
    ],
)
def test_settings_of_the_model_join(first, then, joined):
    assert changed_model(first, then) == joined


def test_recipes_of_papers_take_the_running_variance_of_torch():
    """Those with results keep Flax's, and so do the small runs on the generated set."""
    for name in recipes.shipped():
        torch_rule = not (name in ("gaze", *WITHOUT_MAPS) or name.endswith("_synthetic"))
        assert config_of(name).model.unbiased_variance is torch_rule, name
    assert not config_of("vinet_dhf1k:smoke").model.unbiased_variance
