"""SoundNet out of every kind of file: two ports, STAViS's, and inside the systems."""

import re

import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import Clip, load_model
from avsal_jax.cli.main import main
from avsal_jax.testing import golden

CHANNELS, KERNELS = (1, 1, 2, 4, 8, 16, 32, 64), (64, 32, 16, 8, 4, 4, 4)
POSITIONS = (0, 4, 8, 11, 14, 18, 21)  # of the convolutions in STAViS's sequence
NORM = ("weight", "bias", "running_mean", "running_var")


def renamed(conv, norm, row=False):
    """A SoundNet of a sixteenth of the width with the same values under any names."""
    tensors = {}
    for n in range(1, 8):
        shape = (CHANNELS[n], CHANNELS[n - 1], KERNELS[n - 1], 1)
        kernel = golden.fill(f"conv{n}.weight", shape)
        tensors[f"{conv(n)}.weight"] = kernel.swapaxes(2, 3).copy() if row else kernel
        tensors[f"{conv(n)}.bias"] = golden.fill(f"conv{n}.bias", shape[:1])
        tensors |= {f"{norm(n)}.{leaf}": golden.fill(f"batchnorm{n}.{leaf}", shape[:1]) for leaf in NORM}
        tensors[f"{norm(n)}.num_batches_tracked"] = np.array(1, np.int64)
    return tensors


def stavis(n):
    return f"soundnet8.{POSITIONS[n - 1]}"


def stavis_norm(n):
    return f"soundnet8.{POSITIONS[n - 1] + 1}"


PLAIN = renamed(lambda n: f"conv{n}", lambda n: f"batchnorm{n}")
NESTED = renamed(lambda n: f"conv{n}.0", lambda n: f"conv{n}.1")
INSIDE = renamed(lambda n: f"audionet.conv{n}", lambda n: f"audionet.batchnorm{n}")
ROWS = renamed(stavis, stavis_norm, row=True)
ONES = np.ones(2, np.float32)
PICTURE = {
    "conv1.weight": np.ones((64, 3, 7, 7, 7), np.float32),
    "bn1.weight": ONES,
    "layer2.0.bn1.bias": ONES,
}
FILES = {
    "soundnet8_final": {
        **PLAIN,
        "conv8_objs.weight": np.ones((9, 64, 8, 1), np.float32),
        "conv8_scns.bias": ONES,
    },
    "smallflyingpig": {**NESTED, "conv8.0.bias": ONES, "conv8_2.0.weight": np.ones((2, 2, 8, 1), np.float32)},
    "stavis soundnet8": {f"module.{name}": value for name, value in ROWS.items()},
    "avinet": {**INSIDE, "visual_model.decoder.convtsp4.8.bias": ONES, "bilinear.bias": ONES},
    "stavis": {f"module.{name}": value for name, value in {**ROWS, **PICTURE, "fuseav.bias": ONES}.items()},
}
WAVE = (8 * np.random.default_rng(0).standard_normal((1, 6000))).astype(np.float32)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    def run(name, tensors, *flags):
        folder = tmp_path_factory.mktemp("soundnet")
        safetensors.numpy.save_file(tensors, folder / f"{name}.safetensors")
        arguments = ["--input", str(folder / f"{name}.safetensors"), "--output", str(folder / "m"), *flags]
        code = main(["convert", "--system", "soundnet", "--set", "audio_encoder.width=0.0625", *arguments])
        return code, folder / "m"

    return run


@pytest.fixture(scope="module")
def expected():
    """The same network by hand: numpy in float64, one output sample at a time."""
    x = WAVE.astype(np.float64)  # [C, L]
    for n, kernel in enumerate(KERNELS, start=1):
        weight, bias = PLAIN[f"conv{n}.weight"][..., 0], PLAIN[f"conv{n}.bias"]
        padded = np.pad(x, ((0, 0), (kernel // 2, kernel // 2)))
        places = range(0, padded.shape[1] - kernel + 1, 2)
        x = np.stack([np.einsum("oik,ik->o", weight, padded[:, p : p + kernel]) for p in places], 1)
        scale, shift, mean, var = (PLAIN[f"batchnorm{n}.{leaf}"][:, None] for leaf in NORM)
        x = np.maximum((x + bias[:, None] - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)
        pool = {1: 8, 2: 8, 5: 4}.get(n, 1)
        length = x.shape[1] // pool
        x = x[:, : length * pool].reshape(len(x), length, pool).max(2)
    return x.T


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_network(converted, expected, capsys, name, optimised):
    code, folder = converted(name, FILES[name], "--verify")
    assert code == 0
    assert "verified: 42 tensors equal their source" in capsys.readouterr().out
    model = load_model(folder)
    assert model.card["kind"] == "part" and model.spec.audio.samples == 70_560
    tokens = model(Clip(None, WAVE), features=("audio",)).features["audio"]
    assert tokens.shape == (1, *expected.shape) == (1, 1, 64)
    np.testing.assert_allclose(tokens[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"conv1.weight": PICTURE["conv1.weight"]}, "this file does not contain SoundNet"),
        ({**PLAIN, "conv9.weight": ONES}, "1 in the checkpoint but not known: conv9.weight"),
        ({k: v for k, v in PLAIN.items() if k != "conv4.bias"}, "1 missing from the checkpoint: conv4.bias"),
        ({**PLAIN, "conv3.weight": ROWS["soundnet8.8.weight"]}, "conv3.weight has shape .* look transposed"),
    ],
    ids=["no SoundNet", "surplus", "missing", "a row amid columns"],
)
def test_what_does_not_fit_is_one_line(converted, capsys, tensors, message):
    code, folder = converted("bad", tensors)
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and not folder.exists()
    assert re.search(message, error)
