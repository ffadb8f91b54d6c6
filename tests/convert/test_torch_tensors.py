"""Kinds of tensors in PyTorch files, and what lies around a state dict there."""

import collections
import warnings

import numpy as np
import pytest

from tests import needs

torch = needs.torch()

from avsal_jax import AvsalError  # noqa: E402
from avsal_jax.convert.convert import convert_checkpoint, verify  # noqa: E402
from avsal_jax.convert.reader import read_checkpoint  # noqa: E402
from avsal_jax.convert.rules import Entry, apply_table  # noqa: E402
from avsal_jax.storage import flatten, read_model  # noqa: E402
from avsal_jax.testing.models import TINY_S3D  # noqa: E402
from tests.convert.test_convert import golden_weights, small_keys  # noqa: E402
from tests.convert.test_numbers import leaf  # noqa: E402

VALUES = torch.tensor([0.5, -2.0, 0.0, 448.0])
POSITIVE = torch.tensor([0.5, 2.0, 1.0, 256.0])


def stored(tmp_path, value, **entries):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse and quantised tensors
        torch.save({"w": value, **entries}, tmp_path / "f.pt")
    return read_checkpoint(tmp_path / "f.pt").tensors["w"]


@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "float32", "float64"]
)
def test_floats_have_their_values(tmp_path, name):
    tensor = stored(tmp_path, VALUES.to(getattr(torch, name)))
    assert tensor.dtype == name and leaf(tensor).tolist() == [0.5, -2, 0, 448]


@pytest.mark.parametrize("name", ["float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"])
def test_other_short_floats_have_their_values(tmp_path, name):
    value = POSITIVE[:3].to(needs.torch_type(name))  # no fnuz e4m3 is above 240, no e8m0 below 0
    assert leaf(stored(tmp_path, value)).tolist() == [0.5, 2, 1]


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors_have_the_values_that_they_stand_for(tmp_path):
    per_tensor = torch.quantize_per_tensor(torch.tensor([0.26, -1.0]), 0.25, 3, torch.qint8)
    assert leaf(stored(tmp_path, per_tensor)).tolist() == [0.25, -1]
    scales, zeros = torch.tensor([0.5, 0.25]), torch.zeros(2)
    channels = torch.quantize_per_channel(
        torch.tensor([[0.6, 2.0], [0.6, 1.0]]), scales, zeros, 0, torch.qint8
    )
    assert np.asarray(stored(tmp_path, channels)).tolist() == [[0.5, 2], [0.5, 1]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["sparse", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"])
def test_sparse_tensors_are_dense(tmp_path, layout):
    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    value = getattr(dense, f"to_{layout}")(*([(1, 1)] if layout[-3:] in ("bsr", "bsc") else []))
    tensor = stored(tmp_path, value)
    assert tensor.shape == (2, 2) and np.asarray(tensor).tolist() == dense.tolist()


def test_views_and_parameters_have_their_values(tmp_path):
    tensor = torch.arange(12.0).reshape(3, 4)
    cases = {
        "parameter": (torch.nn.Parameter(tensor), tensor),
        "transposed": (tensor.T, tensor.T),
        "every other": (tensor[::2, 1::2], tensor[::2, 1::2]),
        "expanded": (tensor[:1].expand(3, 4), tensor[:1].repeat(3, 1)),
        "negative view": (torch._neg_view(tensor), -tensor),
        "imaginary part of a conjugate": (torch.complex(tensor, tensor).conj().imag, -tensor),
    }
    for name, (value, expected) in cases.items():
        assert np.asarray(stored(tmp_path, value)).tolist() == expected.tolist(), name
    tied = stored(tmp_path, tensor, again=tensor)
    assert np.asarray(tied).tolist() == tensor.tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VALUES.to("meta"), "w is a meta tensor: it has a shape and no values"),
        (lambda: VALUES.to(torch.complex64), "w is of type complex64"),
        (lambda: VALUES.to(torch.complex32), "w is of type complex32"),
        (lambda: VALUES.to(torch.int64), "w is of type int64"),
        (lambda: VALUES > 0, "w is of type bool"),
        (
            lambda: torch.zeros(4, dtype=torch.uint8).view(needs.torch_type("float4_e2m1fn_x2")),
            "of type float4_e2m1",
        ),
        (lambda: VALUES * np.nan, "w has 4 of 4 values that are not finite"),
        (lambda: (VALUES * 1e9).to(torch.float8_e5m2), "w has 3 of 4 values that are not finite"),
    ],
)  # fmt: skip
def test_what_has_no_such_values_is_told_by_name(tmp_path, make, message):
    with pytest.raises(AvsalError, match=message):
        leaf(stored(tmp_path, make()))


@pytest.mark.filterwarnings("ignore")
def test_nested_tensors_are_told(tmp_path):
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
        with pytest.raises(AvsalError, match="w is a nested tensor, of torch.float32"):
            np.asarray(stored(tmp_path, nested))


def test_a_huge_view_is_refused_by_its_shape_before_it_is_read(tmp_path):
    tensor = stored(tmp_path, torch.zeros(1, dtype=torch.bfloat16).expand(10**12))
    assert tensor.shape == (10**12,)  # two bytes in the file
    with pytest.raises(AvsalError, match="w has shape .1000000000000,., not .4,."):
        apply_table({"w": tensor}, [Entry("w", "x", "vector")], (), {"x": (4,)})


def test_entries_that_are_not_tensors_are_ignored_and_noted(tmp_path):
    state = collections.OrderedDict(a=torch.ones(2), _extra_state=None, epoch=3)
    state._metadata = {"": {"version": 1}}
    torch.save(state, tmp_path / "f.pt")
    checkpoint = read_checkpoint(tmp_path / "f.pt")
    assert list(checkpoint.tensors) == ["a"]
    assert checkpoint.notes == ("ignored, since they are not tensors: _extra_state, epoch",)


def test_objects_are_named(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "f.pt")
    with pytest.raises(AvsalError, match="holds an object of torch.nn.modules.linear.Linear, and reading it"):
        read_checkpoint(tmp_path / "f.pt")


@pytest.mark.filterwarnings("ignore")
def test_a_real_torchscript_is_told(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "f.pt")
    with pytest.raises(AvsalError, match=r"is a TorchScript program, which runs code"):
        read_checkpoint(tmp_path / "f.pt")


def test_a_training_checkpoint_is_converted_and_verified(tests_dir, tmp_path):
    """bfloat16 under a compiled DataParallel, stored with its moving average and the optimizer state."""
    weights = {k: torch.from_numpy(v.copy()) for k, v in golden_weights(small_keys(tests_dir)).items()}
    short = {k: v.bfloat16() if v.ndim == 5 else v for k, v in weights.items()}
    ema = {f"module.{k}": v * 2 if v.is_floating_point() else v for k, v in weights.items()}
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
    content = {"epoch": 3, "model": {f"_orig_mod.module.{k}": v for k, v in short.items()}}
    content |= {"optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "a.pt")
    torch.save(content | {"ema": {"decay": 0.9, "model": ema}}, tmp_path / "b.pt")
    report = convert_checkpoint("vinet", tmp_path / "a.pt", tmp_path / "one", TINY_S3D)
    assert report.notes == (
        "read from model",
        f"prefix _orig_mod.module. removed from {len(weights)} names",
        f"{sum(v.ndim == 5 for v in weights.values())} tensors of bfloat16, stored as float32",
    )
    kernel, name = "decoder.convtsp1.0.weight", "params/heads/saliency/conv1/kernel"
    flat = flatten(read_model(report.output).variables)
    np.testing.assert_array_equal(flat[name], short[kernel].float().numpy().transpose(2, 3, 4, 1, 0))
    with pytest.raises(AvsalError, match=r"several of its entries match: ema.model \(\d+ tensors\), model"):
        convert_checkpoint("vinet", tmp_path / "b.pt", tmp_path / "two", TINY_S3D)
    report = convert_checkpoint("vinet", tmp_path / "b.pt", tmp_path / "two", TINY_S3D, key="ema")
    flat = flatten(read_model(report.output).variables)
    np.testing.assert_array_equal(flat[name], 2 * weights[kernel].numpy().transpose(2, 3, 4, 1, 0))
    assert "tensors equal their source" in verify("vinet", tmp_path / "b.pt", tmp_path / "two", "ema")
