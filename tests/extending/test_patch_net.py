"""A conversion from a plugin, for a system of parts from the same plugin; the numbers are PyTorch's."""

import json

import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import Clip, load_model
from avsal_jax.cli.main import main
from avsal_jax.plugins import isolated
from avsal_jax.testing.videos import moving_spot, write_video

CHANNELS = 5


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "module.patches.weight": rng.standard_normal((CHANNELS, 3, 1, 8, 8)).astype(np.float32),
        "module.patches.bias": rng.standard_normal(CHANNELS).astype(np.float32),
        "module.score.weight": rng.standard_normal((1, CHANNELS)).astype(np.float32),
        "module.score.bias": rng.standard_normal(1).astype(np.float32),
    }
    safetensors.numpy.save_file(tensors, tmp_path / "patch_net.safetensors")
    return tmp_path / "patch_net.safetensors"


def command(source, output, *flags):
    return ["convert", "--system", "patch_net", "--input", str(source), "--output", str(output), *flags]


def scores(tensors, frame):
    """`Linear(ReLU(Conv3d(frame)))` of each patch, by einsum; frame [H, W, 3], normalised."""
    height, width = frame.shape[0] // 8, frame.shape[1] // 8
    patches = frame.reshape(height, 8, width, 8, 3)
    hidden = np.einsum("oczij,hiwjc->hwo", tensors["module.patches.weight"], patches)
    hidden = np.maximum(hidden + tensors["module.patches.bias"], 0)
    return hidden @ tensors["module.score.weight"][0] + tensors["module.score.bias"]


def test_the_converted_network_computes_what_its_weights_say(source, plugin, tmp_path, capsys):
    plugin("patch_net")
    assert main(command(source, tmp_path / "model", "--verify")) == 0
    text = capsys.readouterr().out
    assert "patch_net: visual_encoder.channels=5" in text and "verified: 4 tensors equal their source" in text
    assert "prefix module. removed from 4 names" in text
    tensors = safetensors.numpy.load_file(source)
    frame = np.random.default_rng(1).standard_normal((64, 96, 3)).astype(np.float32)
    logits = load_model(tmp_path / "model")(Clip(frame[None, None], normalized=True)).logits[0]
    # Bilinear by 8: the mean of the two middle pixels is 30/32 of the patch and 1/32 of each neighbour.
    expected = scores(tensors, frame)
    for _ in range(2):
        expected = (expected[:-2] + 30 * expected[1:-1] + expected[2:]).T / 32
    inner = np.asarray(logits).reshape(8, 8, 12, 8)[:, 3:5, :, 3:5].mean((1, 3))[1:-1, 1:-1]
    np.testing.assert_allclose(inner, expected, atol=1e-4 * np.abs(expected).max())


def test_it_is_converted_and_predicts_by_the_command_and_needs_its_plugin(
    source, tmp_path, tests_dir, capsys
):
    file = tests_dir / "extending/plugins/patch_net.py"
    clip, model = write_video(tmp_path / "a.mp4", moving_spot(3, 64, 96)), tmp_path / "model"
    assert main(command(source, model)) == 2
    assert "unknown conversion 'patch_net'" in capsys.readouterr().err
    predict = [
        "predict",
        str(clip),
        "--model",
        str(model),
        "--save",
        "npz",
        "--output",
        str(tmp_path / "out"),
    ]
    with isolated():
        assert main(command(source, model, "--plugin", str(file))) == 0
        assert main([*predict, "--plugin", str(file)]) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["maps"] == 3
    capsys.readouterr()
    assert main([*predict[:-1], str(tmp_path / "other")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("avsal: ")]
    assert "patch_net" in line and "plugin" in line
