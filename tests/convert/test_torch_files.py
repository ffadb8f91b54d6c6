"""Real PyTorch files, zip and legacy; a hostile pickle; and operations against PyTorch itself."""

import os
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from tests import needs

torch = needs.torch()

from avsal_jax import AvsalError, Clip, load_model  # noqa: E402
from avsal_jax.cli.main import main  # noqa: E402
from avsal_jax.convert.reader import read_checkpoint  # noqa: E402
from avsal_jax.ops.convolution import conv_transpose3d  # noqa: E402
from avsal_jax.ops.pooling import avg_pool3d, max_pool3d  # noqa: E402
from avsal_jax.ops.resize import resize_linear  # noqa: E402
from avsal_jax.testing import golden  # noqa: E402
from tests.convert.test_convert import golden_file, golden_weights  # noqa: E402


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_torch_file_goes_the_whole_way(tests_dir, tmp_path, capsys, zipped, optimised):
    oracle = golden_file(tests_dir, "vinet_t16")
    state = {f"module.{k}": torch.from_numpy(v.copy()) for k, v in golden_weights(oracle["keys"]).items()}
    source = tmp_path / "ViNet.pt"
    torch.save({"epoch": 3, "state_dict": state}, source, _use_new_zipfile_serialization=zipped)
    assert source.read_bytes()[:2] == (b"PK" if zipped else b"\x80\x02")
    arguments = ["--system", "vinet", "--input", str(source), "--output", str(tmp_path / "m"), "--verify"]
    assert main(["convert", *arguments]) == 0
    assert "verified: 392 tensors equal their source" in capsys.readouterr().out
    clip = np.moveaxis(golden.inputs(16)[0], 1, -1)
    logits = np.asarray(load_model(tmp_path / "m")(Clip(clip, normalized=True)).logits)[:, None, None]
    assert golden.disagreement(logits, oracle["outputs"]["logits"]) <= 1e-4


class Hostile:
    """Would create a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_that_would_run_code_is_refused(tmp_path, capsys, zipped):
    trap = tmp_path / "executed"
    source = tmp_path / "hostile.pt"
    torch.save({"w": torch.ones(2), "x": Hostile(str(trap))}, source, _use_new_zipfile_serialization=zipped)
    assert (
        main(["convert", "--system", "vinet", "--input", str(source), "--output", str(tmp_path / "m")]) == 2
    )
    error = capsys.readouterr().err
    assert "would run code" in error and error.count("\n") == 1
    assert not trap.exists() and not (tmp_path / "m").exists()


def test_a_bare_pickle_is_refused(tmp_path):
    trap = tmp_path / "executed"
    source = tmp_path / "bare.pt"
    source.write_bytes(pickle.dumps(Hostile(str(trap)), protocol=2))
    with pytest.raises(AvsalError):
        read_checkpoint(source)
    assert not trap.exists()


def test_damaged_torch_files_are_told(tmp_path):
    source = tmp_path / "whole.pt"
    torch.save({"w": torch.ones(4000)}, source)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(source.read_bytes()[:5000])
    with pytest.raises(AvsalError, match="damaged PyTorch file"):
        read_checkpoint(cut)
    content = bytearray(source.read_bytes())
    content[content.index(b"\x00\x00\x80\x3f" * 99) + 40] ^= 64  # in the values, of which torch checks none
    cut.write_bytes(content)
    with pytest.raises(
        AvsalError, match="damaged PyTorch file: the checksum of its part whole/data/0 is wrong"
    ):
        read_checkpoint(cut)
    torch.save(torch.ones(2), source)
    with pytest.raises(AvsalError, match="holds a Tensor, not a state dict"):
        read_checkpoint(source)
    torch.save({"epoch": 3}, source)
    with pytest.raises(AvsalError, match="holds no tensors"):
        read_checkpoint(source)


def test_half_precision_and_nested_names_are_read(tmp_path):
    source = tmp_path / "half.pt"
    torch.save({"module.w": torch.full((3,), 1.5, dtype=torch.bfloat16)}, source)
    values = np.asarray(read_checkpoint(source).tensors["w"])
    assert values.dtype == np.float32 and values.tolist() == [1.5] * 3


def nchw(x):
    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy())


def nhwc(x):
    return np.moveaxis(x.numpy(), 1, -1)


X = np.random.default_rng(0).standard_normal((2, 5, 7, 9, 3)).astype(np.float32)


def test_transposed_convolution_equals_torch():
    weight = np.random.default_rng(1).standard_normal((3, 4, 1, 4, 4)).astype(np.float32)
    result = conv_transpose3d(
        jnp.asarray(X), jnp.asarray(weight.transpose(2, 3, 4, 0, 1)), stride=(1, 2, 2), padding=(0, 1, 1)
    )
    expected = torch.nn.functional.conv_transpose3d(
        nchw(X), torch.from_numpy(weight), stride=(1, 2, 2), padding=(0, 1, 1)
    )
    np.testing.assert_allclose(result, nhwc(expected), atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(10, 14, 18), (3, 4, 11), (1, 7, 9), (5, 1, 2)])
def test_resize_equals_torch(size, align_corners):
    expected = torch.nn.functional.interpolate(
        nchw(X), size=size, mode="trilinear", align_corners=align_corners
    )
    result = resize_linear(jnp.asarray(X), size, align_corners=align_corners)
    np.testing.assert_allclose(result, nhwc(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("window", "stride", "padding"), [((3, 3, 3), (2, 2, 2), (1, 1, 1)), ((1, 3, 3), (1, 2, 2), (0, 1, 1))]
)
def test_pools_equal_torch(window, stride, padding):
    functional = torch.nn.functional
    np.testing.assert_array_equal(
        max_pool3d(jnp.asarray(X), window, stride, padding),
        nhwc(functional.max_pool3d(nchw(X), window, stride, padding)),
    )
    for include in (True, False):
        expected = functional.avg_pool3d(nchw(X), window, stride, padding, count_include_pad=include)
        result = avg_pool3d(jnp.asarray(X), window, stride, padding, count_include_pad=include)
        np.testing.assert_allclose(result, nhwc(expected), atol=1e-6)
