"""Conversion: parity with the public PyTorch code through the real path, and strictness both ways."""

import json

import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, Clip, load_model
from avsal_jax.cli.main import main
from avsal_jax.convert.convert import convert_checkpoint, verify
from avsal_jax.convert.tables.vinet import ViNetConversion
from avsal_jax.models.network import Network, abstract_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import flatten, read_model
from avsal_jax.testing import golden
from avsal_jax.testing.models import TINY_S3D
from avsal_jax.types import Outputs


def golden_file(tests_dir, name):
    return json.loads((tests_dir / "golden" / f"{name}.json").read_text())


def golden_weights(keys):
    return {name: golden.fill(name, shape) for name, shape in keys.items()}


def channels_first(array):
    return np.moveaxis(np.asarray(array), -1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames"), [("vinet_t16", 16), ("vinet_t32", 32)])
def test_vinet_agrees_with_the_public_code(tests_dir, tmp_path, optimised, name, frames):
    oracle = golden_file(tests_dir, name)
    source = tmp_path / "vinet.safetensors"
    safetensors.numpy.save_file(golden_weights(oracle["keys"]), source)
    assert (
        main(["convert", "--system", "vinet", "--input", str(source), "--output", str(tmp_path / "m")]) == 0
    )
    model = load_model(tmp_path / "m")
    assert (model.spec.frames, model.spec.height, model.spec.width) == (frames, 224, 384)
    clip = np.moveaxis(golden.inputs(frames)[0], 1, -1)
    prediction = model(Clip(clip, normalized=True), features=("taps",))
    outputs = {f"y{3 - i}": channels_first(tap) for i, tap in enumerate(prediction.features["taps"])}
    outputs["logits"] = np.asarray(prediction.logits)[:, None, None]
    outputs["saliency"] = np.asarray(prediction.saliency)
    assert set(outputs) == set(oracle["outputs"])
    for key, expected in oracle["outputs"].items():
        assert golden.disagreement(outputs[key], expected) <= 1e-4, key
    grid = np.asarray(prediction.logits)[0, 5::16, 5::16]
    reference = np.array(oracle["logits_grid"])
    assert np.abs(grid - reference).max() <= 1e-4 * np.abs(reference).max()


@pytest.mark.slow
def test_s3d_agrees_with_the_public_code(tests_dir, tmp_path, optimised):
    oracle = golden_file(tests_dir, "s3d")
    weights = {f"module.{name}": value for name, value in golden_weights(oracle["keys"]).items()}
    source = tmp_path / "s3d.safetensors"
    safetensors.numpy.save_file(weights, source)
    arguments = [
        "--system",
        "s3d",
        "--input",
        str(source),
        "--output",
        str(tmp_path / "m"),
        "--set",
        "frames=32",
    ]
    assert main(["convert", *arguments]) == 0
    model = load_model(tmp_path / "m")
    clip = np.random.RandomState(2).standard_normal((1, 3, 32, 128, 160)).astype(np.float32)
    result = model(Clip(np.moveaxis(clip, 1, -1), normalized=True), features=("taps", "class_logits"))
    names = ("base.3", "base.6", "base.12", "base.15")
    outputs = dict(zip(names, map(channels_first, result.features["taps"]), strict=True))
    outputs["class_scores"] = np.asarray(result.features["class_logits"])
    assert set(outputs) == set(oracle["outputs"])
    for key, expected in oracle["outputs"].items():
        assert golden.disagreement(outputs[key], expected) <= 1e-4, key


def small_keys(tests_dir, frames=32, hierarchy=3):
    """A ViNet state dict of a sixteenth of the width: the keys of the public one with small shapes."""
    settings = {
        "frames": frames,
        "heads.saliency.hierarchy": hierarchy,
        "heads.saliency.upsample": "trilinear",
    }
    preset = resolve("vinet", {**settings, **TINY_S3D})
    shapes = {k: v.shape for k, v in flatten(abstract_variables(build(preset))).items()}
    keys = {}
    for row in ViNetConversion().table(settings, {}):
        shape = shapes[row.target]
        keys[row.source] = (shape[4], shape[3], *shape[:3]) if len(shape) == 5 else shape
        if row.source.endswith("running_var"):
            keys[row.source.replace("running_var", "num_batches_tracked")] = ()
    return keys


@pytest.fixture
def small(tests_dir, tmp_path):
    """Writes a small ViNet checkpoint after `change`, and converts it."""

    def run(change=lambda tensors: None, settings=TINY_S3D, **variant):
        tensors = golden_weights(small_keys(tests_dir, **variant))
        change(tensors)
        source = tmp_path / "small.safetensors"
        safetensors.numpy.save_file(tensors, source)
        return convert_checkpoint("vinet", source, tmp_path / "out", {**settings}), source

    return run


def test_the_names_of_the_small_checkpoint_are_the_published_ones(tests_dir):
    assert set(small_keys(tests_dir)) == set(golden_file(tests_dir, "vinet_t32")["keys"])
    assert set(small_keys(tests_dir, frames=16)) == set(golden_file(tests_dir, "vinet_t16")["keys"])


@pytest.mark.parametrize(
    ("frames", "hierarchy"), [(8, 3), (16, 3), (32, 3), (48, 3), (32, 0), (32, 1), (16, 2)]
)
def test_the_variant_is_recognised(small, frames, hierarchy):
    report, source = small(frames=frames, hierarchy=hierarchy)
    assert (report.settings["frames"], report.settings["heads.saliency.hierarchy"]) == (frames, hierarchy)
    assert report.settings["heads.saliency.upsample"] == "trilinear"
    flat, tensors = flatten(read_model(report.output).variables), safetensors.numpy.load_file(source)
    assert report.used == len(flat)
    for name, target in (("convtsp1.0", "conv1"), ("convtsp4.0", "conv4")):
        expected = tensors[f"decoder.{name}.weight"].transpose(2, 3, 4, 1, 0)
        np.testing.assert_array_equal(flat[f"params/heads/saliency/{target}/kernel"], expected)
    if (frames, hierarchy) in ((8, 3), (16, 2)):  # which compiles the network
        assert "tensors equal their source" in verify("vinet", source, report.output)


def test_transposed_upsampling_is_recognised(tests_dir, tmp_path):
    settings = {"frames": 32, "heads.saliency.hierarchy": 3, "heads.saliency.upsample": "transposed"}
    preset = resolve("vinet", {**settings, **TINY_S3D})
    shapes = {k: v.shape for k, v in flatten(abstract_variables(build(preset))).items()}
    orders = {"conv3d": (4, 3, 0, 1, 2), "conv_transpose3d": (3, 4, 0, 1, 2), "vector": (0,)}
    keys = {
        row.source: [shapes[row.target][axis] for axis in orders[row.transform]]
        for row in ViNetConversion().table(settings, {})
    }
    assert keys["decoder.convtsp4.7.weight"] == [2, 2, 1, 4, 4]
    source = tmp_path / "transposed.safetensors"
    safetensors.numpy.save_file(golden_weights(keys), source)
    report = convert_checkpoint("vinet", source, tmp_path / "out", TINY_S3D)
    assert report.settings == {**settings, **TINY_S3D}
    assert "tensors equal" in verify("vinet", source, report.output)


def drop(name):
    return lambda tensors: tensors.pop(name)


def transpose(name, order):
    def change(tensors):
        tensors[name] = np.ascontiguousarray(tensors[name].transpose(order))

    return change


def put(name, value):
    return lambda tensors: tensors.__setitem__(name, value)


KERNEL = "backbone.base2.0.branch0.0.conv.weight"
BAD = {
    "missing": (drop(KERNEL), f"1 missing from the checkpoint: {KERNEL}"),
    "surplus": (
        put("extra.weight", np.ones(3, np.float32)),
        "1 in the checkpoint but not known: extra.weight",
    ),
    "transposed": (transpose(KERNEL, (1, 0, 2, 3, 4)), f"{KERNEL} has shape .*axes look transposed"),
    "channels last": (transpose(KERNEL, (2, 3, 4, 1, 0)), f"{KERNEL} has shape .*axes look transposed"),
    "rank": (put(KERNEL, np.ones((4, 12), np.float32)), f"{KERNEL} has shape .*not 5 axes"),
    "no decoder": (drop("decoder.convtsp2.0.weight"), "not a ViNet checkpoint"),
    "odd decoder": (drop("decoder.convtsp4.6.weight"), "8, 16, 32, 48 frames have"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_checkpoint_that_does_not_fit_is_refused(small, tmp_path, case):
    change, message = BAD[case]
    with pytest.raises(AvsalError, match=message):
        small(change)
    assert not (tmp_path / "out").exists()


def test_settings_that_contradict_the_tensors_are_refused(small):
    with pytest.raises(AvsalError, match="has shape"):
        small(settings={**TINY_S3D, "heads.saliency.hierarchy": 2})
    with pytest.raises(AvsalError, match="does not fit"):
        small(settings={})


def test_verify_finds_a_difference(small, tmp_path):
    report, source = small()
    tensors = safetensors.numpy.load_file(source)
    tensors[KERNEL][0, 0, 0, 0, 0] += 1e-6
    safetensors.numpy.save_file(tensors, source)
    with pytest.raises(AvsalError, match=r"branch0/conv/kernel in .* differs from backbone"):
        verify("vinet", source, report.output)


def test_bad_files_are_one_line_and_exit_code_2(tmp_path, capsys):
    files = {
        "missing.pt": (None, "No such file"),
        "text.pt": (
            b"hello world, no checkpoint at all",
            "is a text that begins with 'hello world, no checkpoint",
        ),
        "cut.safetensors": (b'\x40\0\0\0\0\0\0\0{"a":', "damaged safetensors"),
        "empty.safetensors": (b"\x02\0\0\0\0\0\0\0{}", "holds no tensors"),
    }
    for name, (content, message) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        arguments = ["--system", "vinet", "--input", str(tmp_path / name), "--output", str(tmp_path / "out")]
        assert main(["convert", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists()
    assert main(["convert", "--system", "vnet", "--input", "x", "--output", "y"]) == 2
    assert "did you mean 'vinet'?" in capsys.readouterr().err


def test_an_output_that_is_there_is_not_overwritten(small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(AvsalError, match="exists already"):
        small()
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_help_lists_all_systems_and_parts(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    parts = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "s3d", "soundnet", "vggish")
    assert all(f"{name}," in text for name in ("vinet", "avinet", *parts))


def test_a_checkpoint_of_another_system_is_named(tmp_path, capsys):
    tensors = {"base.0.conv_s.weight": np.ones((2, 3, 1, 7, 7), np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "s3d.safetensors")
    arguments = ["--input", str(tmp_path / "s3d.safetensors"), "--output", str(tmp_path / "out")]
    assert main(["convert", "--system", "vinet", *arguments]) == 2
    error = capsys.readouterr().err
    assert "it has 1 tensors, base.0.conv_s.weight; it looks like one of s3d" in error


def test_the_range_over_all_outputs_is_reported(small, monkeypatch):
    report, source = small()
    logits = {"saliency": np.float32([0, 1]), "other": np.float32([-3, 4])}

    def run(self, variables, clip, features=()):
        return Outputs(logits, {"taps": np.float32([-1, 5])}, {})

    monkeypatch.setattr(Network, "run", run)
    assert verify("vinet", source, report.output).endswith("outputs on a random clip from -3 to 5")
