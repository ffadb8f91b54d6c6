"""AViNet checkpoints: parity with the public code and with torch, recognition, strictness."""

import json

import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, Clip, load_model
from avsal_jax.cli.main import main
from avsal_jax.convert.convert import convert_checkpoint, verify
from avsal_jax.convert.tables.avinet import AViNetConversion
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.ops.attention import sinusoids
from avsal_jax.storage import flatten
from avsal_jax.testing import golden
from avsal_jax.testing.models import TINY_S3D
from tests import needs

HEAD = {"heads.saliency.hierarchy": 3, "heads.saliency.upsample": "trilinear"}
SMALL = {**TINY_S3D, "audio_encoder.width": 1 / 16, "height": 64, "width": 96}


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
def test_avinet_b_agrees_with_the_public_code(tests_dir, tmp_path, optimised):
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
    grid, reference = np.asarray(prediction.logits)[0, 5::16, 5::16], np.array(oracle["logits_grid"])
    assert np.abs(grid - reference).max() <= 1e-4 * np.abs(reference).max()
    assert prediction.features["fused"].shape == (1, 336, 1024)


def small_tensors(fusion, **settings):
    """A small AViNet state dict with the public names, filled from the names; for the T variant its table."""
    variant = {"frames": 32, **HEAD, "fusion": fusion}
    if fusion == "transformer":
        variant["fusion.layers"] = 3
    preset = resolve("avinet", {**variant, **SMALL, **settings})
    shapes = {k: v.shape for k, v in flatten(abstract_variables(build(preset))).items()}
    names = {"audionet.conv1.weight": np.zeros((1, 1, 64, 1))}
    keys = {"audionet.conv8_objs.weight": (1000, 64, 8, 1), "audionet.conv8_objs.bias": (1000,)}
    keys |= {"audionet.conv8_scns.weight": (401, 64, 8, 1), "audionet.conv8_scns.bias": (401,)}
    for row in AViNetConversion().table(variant, names):
        first, *rest = row.shape_in_source(shapes[row.target])
        keys[row.source] = (first * row.piece[1], *rest)
        if row.source.endswith("running_var"):
            keys[row.source.replace("running_var", "num_batches_tracked")] = ()
    tensors = {name: golden.fill(name, shape) for name, shape in keys.items()}
    if fusion == "transformer":
        channels = shapes["params/fusion/layer0/norm1/scale"][0]
        tensors["transformer.pos_encoder.pe"] = sinusoids(339, channels)[:, None]
        tensors |= {
            "bilinear.weight": np.zeros((2, 3, 4), np.float32),
            "bilinear.bias": np.zeros(2, np.float32),
        }
    return tensors


@pytest.fixture(scope="module")
def b_tensors():
    return small_tensors("bilinear")


@pytest.fixture(scope="module")
def t_tensors():
    """The transformer as published (512 channels), between small encoders."""
    return small_tensors("transformer")


def converted(tensors, tmp_path, **settings):
    safetensors.numpy.save_file(tensors, tmp_path / "small.safetensors")
    return convert_checkpoint("avinet", tmp_path / "small.safetensors", tmp_path / "m", {**SMALL, **settings})


def test_the_names_of_the_small_checkpoints_are_the_published_ones(tests_dir, b_tensors, t_tensors):
    published = json.loads((tests_dir / "golden" / "avinet_b.json").read_text())["keys"]
    assert set(b_tensors) == set(published) and len(b_tensors) == 525
    added = set(t_tensors) - set(published)  # parameters that only the public class of AViNet(T) has
    stems = {"conv_in_1x1", "audio_conv_1x1"}
    for number in range(3):
        layer = f"transformer.transformer_encoder.layers.{number}"
        stems |= {
            f"{layer}.{name}" for name in ("self_attn.out_proj", "linear1", "linear2", "norm1", "norm2")
        }
    expected = {f"{stem}.{leaf}" for stem in stems for leaf in ("weight", "bias")}
    for number in range(3):
        attention = f"transformer.transformer_encoder.layers.{number}.self_attn"
        expected |= {f"{attention}.in_proj_weight", f"{attention}.in_proj_bias"}
    assert added == expected | {"transformer.pos_encoder.pe"} and len(t_tensors) == 566


@pytest.mark.slow
def test_a_small_avinet_is_recognised_and_verified(b_tensors, tmp_path):
    report = converted(b_tensors, tmp_path)
    assert report.settings["fusion"] == "bilinear" and report.settings["frames"] == 32
    assert (report.used, report.ignored) == (437, 88)  # 84 counters of batches, 4 of unused classifiers
    assert "437 tensors equal their source" in verify("avinet", tmp_path / "small.safetensors", report.output)


def test_the_transformer_agrees_with_torch(t_tensors, tmp_path):
    """The converted fusion against torch.nn.TransformerEncoder, at 336 + 3 tokens of 512 channels."""
    torch = needs.torch()
    report = converted(t_tensors, tmp_path)
    assert (report.settings["fusion"], report.settings["fusion.layers"]) == ("transformer", 3)
    model = load_model(report.output)
    rng = np.random.default_rng(0)
    level = rng.standard_normal((2, 4, 7, 12, 64)).astype(np.float32)
    sound = rng.standard_normal((2, 3, 64)).astype(np.float32)
    fusion, parameters = model.network.fusion, {"params": model.variables["params"]["fusion"]}
    (out,), recorded = fusion.apply(parameters, (level,), sound, mutable=["intermediates"])

    state = {name: torch.from_numpy(value) for name, value in t_tensors.items()}
    functional, prefix = torch.nn.functional, "transformer.transformer_encoder."
    layer = torch.nn.TransformerEncoderLayer(512, 4, 512)
    encoder = torch.nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    y0 = torch.from_numpy(np.moveaxis(level, -1, 1).copy())
    audio = torch.from_numpy(sound.swapaxes(1, 2).copy())[..., None]
    with torch.no_grad():
        v = functional.conv3d(y0, state["conv_in_1x1.weight"], state["conv_in_1x1.bias"]).flatten(2)
        a = functional.conv2d(audio, state["audio_conv_1x1.weight"], state["audio_conv_1x1.bias"]).flatten(2)
        tokens = torch.cat([v, a], 2).permute(2, 0, 1) + state["transformer.pos_encoder.pe"]
        tokens = encoder(tokens).permute(1, 2, 0)
        picture = tokens[:, :, :336].reshape(2, 512, 4, 7, 12)
        mean = tokens[:, :, 336:].mean(2)[:, :, None, None, None].expand(2, 512, 4, 7, 12)
        expected = torch.cat([picture, mean], 1).numpy()
    fused = np.asarray(recorded["intermediates"]["fused"][0])
    np.testing.assert_allclose(fused, tokens.permute(0, 2, 1), atol=1e-4 * np.abs(fused).max())
    np.testing.assert_allclose(channels_first(out), expected, atol=1e-4 * np.abs(expected).max())


LAYER = "transformer.transformer_encoder.layers.1"


def changed(tensors, name, value):
    return {**tensors, name: value} if value is not None else {k: v for k, v in tensors.items() if k != name}


def test_a_checkpoint_that_does_not_fit_is_refused(b_tensors, t_tensors, tmp_path):
    positions = t_tensors["transformer.pos_encoder.pe"]
    cases = [
        (t_tensors, f"{LAYER}.self_attn.in_proj_weight", np.ones((1535, 512), np.float32), "has shape .1535"),
        (t_tensors, f"{LAYER}.self_attn.in_proj_bias", np.ones((1, 1536), np.float32), "not 1 axes"),
        (t_tensors, "transformer.pos_encoder.pe", positions + 1, "is not the sinusoid table"),
        (t_tensors, "transformer.pos_encoder.pe", None, "has no table transformer.pos_encoder.pe"),
        (t_tensors, "transformer.pos_encoder.pe", positions[:, :, :0].copy(), "has no table"),
        (t_tensors, "transformer.pos_encoder.pe", positions * np.nan, "is not the sinusoid table"),
        (t_tensors, "conv_out_1x1.weight", np.ones((3, 3), np.float32), "not known: conv_out_1x1.weight"),
        (b_tensors, "bilinear.weight", None, "1 missing from the checkpoint: bilinear.weight"),
        (b_tensors, "bilinear.weight", b_tensors["bilinear.weight"].swapaxes(0, 1).copy(), "look transposed"),
        (b_tensors, "audionet.conv3.weight", None, "missing from the checkpoint: audionet.conv3.weight"),
        (b_tensors, "audionet.conv1.weight", None, "does not contain SoundNet"),
        (b_tensors, "audionet.conv2.weight", np.ones((2, 1, 32, 2), np.float32), "not .2, 1, 32, 1."),
        (b_tensors, "extra", np.ones(2, np.float32), "1 in the checkpoint but not known: extra"),
    ]
    for tensors, name, value, message in cases:
        with pytest.raises(AvsalError, match=message) as error:
            converted(changed(tensors, name, value), tmp_path)
        assert "\n" not in str(error.value) and not (tmp_path / "m").exists(), name
    with pytest.raises(AvsalError, match="not an AViNet checkpoint: no name begins with visual_model"):
        converted({"conv1.weight": np.ones((16, 1, 64, 1), np.float32)}, tmp_path)


def test_another_size_of_clip_is_refused(b_tensors, tmp_path):
    with pytest.raises(AvsalError, match=r"bilinear.weight has shape \(24, 4, 3\), not \(336, 42, 3\)"):
        converted(b_tensors, tmp_path, height=224, width=384)
    with pytest.raises(AvsalError, match=r"not \(24, 4, 2\)"):
        converted(b_tensors, tmp_path, **{"audio.samples": 35_280})
