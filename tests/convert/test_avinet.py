"""AViNet checkpoints: parity with the public code and with torch, recognition, strictness."""

import json

import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, Clip, load_model
from avsal_jax.cli.main import main
from avsal_jax.convert import avinet
from avsal_jax.convert.convert import convert_checkpoint, verify
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.ops.attention import sinusoids
from avsal_jax.storage import flatten
from avsal_jax.testing import golden
from avsal_jax.testing.models import TINY

SMALL = {**TINY, "audio_encoder.width": 1 / 16, "height": 64, "width": 96}
PUBLISHED = {"decoder.hierarchy": 3, "decoder.upsample": "trilinear"}
HEADS = {"audionet.conv8_objs": (1000, 64, 8, 1), "audionet.conv8_scns": (401, 64, 8, 1)}
TRANSFORMER = {
    **{f"{name}.{leaf}" for name in ("conv_in_1x1", "audio_conv_1x1") for leaf in ("weight", "bias")},
} if False else None


def written(tensors, path):
    """Writes what torch 1.4 wrote, if torch is here; else safetensors."""
    try:
        import torch
    except ImportError:
        safetensors.numpy.save_file(tensors, path)
    else:
        state = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
        torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


def channels_first(array):
    return np.moveaxis(np.asarray(array), -1, 1)


@pytest.mark.slow
def test_avinet_b_agrees_with_the_public_code(tests_dir, tmp_path):
    oracle = json.loads((tests_dir / "golden" / "avinet_b.json").read_text())
    tensors = {name: golden.fill(name, shape) for name, shape in oracle["keys"].items()}
    source = written(tensors, tmp_path / "AViNet_Dave.pt")
    arguments = ["--system", "avinet", "--input", str(source), "--output", str(tmp_path / "m")]
    assert main(["convert", *arguments]) == 0
    model = load_model(tmp_path / "m")
    assert (model.spec.frames, model.spec.audio.samples) == (32, 70_560)
    clip, wave = golden.inputs(32)
    clip = Clip(np.moveaxis(clip, 1, -1), wave[:, 0, :, 0], normalized=True)
    prediction = model(clip, features=("taps", "audio", "fused"))
    outputs = {f"y{3 - i}": channels_first(tap) for i, tap in enumerate(prediction.features["taps"])}
    outputs["audio"] = channels_first(prediction.features["audio"])[..., None]
    outputs["logits"] = np.asarray(prediction.logits)[:, None, None]
    outputs["saliency"] = np.asarray(prediction.saliency)
    assert set(outputs) == set(oracle["outputs"])
    for key, expected in oracle["outputs"].items():
        assert golden.disagreement(outputs[key], expected) <= 1e-4, key
    grid, wanted = np.asarray(prediction.logits)[0, 5::16, 5::16], np.array(oracle["logits_grid"])
    assert np.abs(grid - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert prediction.features["fused"].shape == (1, 336, 1024)
