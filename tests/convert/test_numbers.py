"""Values of checkpoints and of model directories: types of number, what is not finite, what has no values."""

import hashlib
import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, load_model
from avsal_jax.convert.candidates import StoredTensor
from avsal_jax.convert.reader import read_checkpoint
from avsal_jax.convert.rules import Entry, apply_table
from avsal_jax.storage import value_fault, write_model
from avsal_jax.testing.models import tiny_stored

# Type -> bytes (little-endian), and what they mean by IEEE 754 and by the OCP's 8-bit floats.
ENCODED = {
    "F64": (struct.pack("<2d", 1.5, -2.0), [1.5, -2.0]),
    "F32": (struct.pack("<2f", 1.5, -2.0), [1.5, -2.0]),
    "F16": (b"\x00\x3e\x00\xc0", [1.5, -2.0]),
    "BF16": (b"\xc0\x3f\x00\xc0", [1.5, -2.0]),
    "F8_E4M3": (b"\x3c\xc0\x01\x7e", [1.5, -2.0, 2.0**-9, 448.0]),
    "F8_E5M2": (b"\x3e\xc0\x01\x7b", [1.5, -2.0, 2.0**-16, 57344.0]),
    "F8_E8M0": (b"\x7f\x80\x7d", [1.0, 2.0, 0.25]),
}


def raw_file(path, dtype, content, count):
    header = json.dumps({"w": {"dtype": dtype, "shape": [count], "data_offsets": [0, len(content)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)
    return path


@pytest.mark.parametrize("dtype", ENCODED)
def test_floats_of_safetensors_have_their_values(tmp_path, dtype):
    content, expected = ENCODED[dtype]
    tensors = read_checkpoint(raw_file(tmp_path / "f.safetensors", dtype, content, len(expected))).tensors
    assert tensors["w"].dtype == dtype and tensors["w"].shape == (len(expected),)
    assert leaf(tensors["w"]).tolist() == expected and leaf(tensors["w"]).dtype == np.float32


def leaf(tensor):
    """A vector as the table takes it."""
    row, shapes = Entry("w", "params/x/bias", "vector"), {"params/x/bias": tuple(tensor.shape)}
    return apply_table({"w": tensor}, [row], (), shapes)["params/x/bias"]


def test_the_metadata_of_safetensors_is_no_tensor(tmp_path):
    """Which PyTorch's libraries write into every file."""
    file = tmp_path / "f.safetensors"
    safetensors.numpy.save_file({"w": np.float32([1.5, -2.0])}, file, metadata={"format": "pt"})
    tensors = read_checkpoint(file).tensors
    assert list(tensors) == ["w"] and leaf(tensors["w"]).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("dtype", "size", "message"),
    [
        ("I64", 8, "w is of type int64, where floating point is expected"),
        ("U8", 1, "w is of type uint8"),
        ("BOOL", 1, "w is of type bool"),
        ("C64", 8, "w is of type complex64"),
        ("F4", 0.5, "w is of type F4, which is not supported; save it as float32"),
    ],
)
def test_other_types_are_told_by_name(tmp_path, dtype, size, message):
    tensors = read_checkpoint(raw_file(tmp_path / "f.safetensors", dtype, bytes(int(4 * size)), 4)).tensors
    with pytest.raises(AvsalError, match=message):
        leaf(tensors["w"])


def test_an_unknown_type_is_one_line(tmp_path):
    with pytest.raises(AvsalError, match="has an unsupported dtype|damaged safetensors") as error:
        read_checkpoint(raw_file(tmp_path / "f.safetensors", "F3_X", bytes(8), 4))
    assert "\n" not in str(error.value)


WRONG = {
    "NaN": ([1, np.nan], np.float32, "x", r"has 1 of 2 values that are not finite"),
    "infinite": ([np.inf, -np.inf], np.float16, "x", "has 2 of 2 values that are not finite"),
    "NaN in float8": ([np.nan, 1], ml_dtypes.float8_e4m3fn, "x", "1 of 2 values that are not finite"),
    "beyond float32": ([1e300, 1], np.float64, "x", "has 1 of 2 values that are beyond float32"),
    "just beyond": ([3.5e38, 1], np.float64, "x", "beyond float32"),
    "negative variance": ([1, -1e-3], np.float32, "batch_stats/n/var", "1 of 2 values below 0, and is a var"),
    "integers": ([1, 2], np.int32, "x", "of type int32, where floating point is expected"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_network_has_is_refused(name):
    values, dtype, leaf_name, message = WRONG[name]
    array = np.array(values, dtype)
    assert message.replace(r"\b", "") in value_fault(array, leaf_name)
    row = Entry("theirs.w", leaf_name, "vector")
    with pytest.raises(AvsalError, match=f"theirs.w .*{message}"):
        apply_table({"theirs.w": array}, [row], (), {leaf_name: (2,)})


def test_what_is_right_passes():
    assert value_fault(np.array([3.4e38, 1e-300, -0.0]), "batch_stats/n/var") is None
    assert value_fault(np.array([-1.0], np.float32), "params/n/scale") is None
    assert value_fault(np.array([1.5], ml_dtypes.bfloat16), "x") is None
    assert value_fault(np.zeros((0,), np.float32), "x") is None


def test_tensors_that_are_not_used_may_hold_anything(tmp_path):
    def refuse():
        raise AssertionError("it is read, and not needed")

    tensors = {"w": np.ones(2, np.float32), "unused": StoredTensor("", "unused", (3,), "int4", refuse)}
    row = Entry("w", "params/x/bias", "vector")
    assert apply_table(tensors, [row], ("unused",), {"params/x/bias": (2,)})["params/x/bias"].tolist() == [
        1,
        1,
    ]


@pytest.fixture(scope="module")
def stored():
    return tiny_stored()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("params/heads/saliency/conv1/kernel", lambda v: v * np.nan, "values that are not finite"),
        ("params/heads/saliency/conv1/kernel", lambda v: v.astype(np.float64) * 1e300, "beyond float32"),
        ("params/heads/saliency/conv1/kernel", lambda v: v.astype(np.int32), "is of type int32"),
        ("batch_stats/visual_encoder/first/norm/batch/var", lambda v: v - 2, "below 0, and is a variance"),
    ],
)
def test_a_model_directory_with_such_values_is_refused(stored, tmp_path, name, change, message):
    path = write_model(tmp_path / "m", stored.preset, stored.variables)
    tensors = safetensors.numpy.load_file(path / "weights.safetensors")
    tensors[name] = change(tensors[name])
    safetensors.numpy.save_file(tensors, path / "weights.safetensors")
    card = json.loads((path / "model.json").read_text())
    card["weights"]["sha256"] = hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest()
    (path / "model.json").write_text(json.dumps(card))
    with pytest.raises(AvsalError, match=f"weights.safetensors: {name} .*{message}"):
        load_model(path)


def test_of_many_names_four_are_listed():
    six = {f"w{i}": np.ones(2, np.float32) for i in range(6)}
    with pytest.raises(AvsalError, match="6 in the checkpoint but not known: w0, w1, w2, w3 and 2 more"):
        apply_table(six, [], (), {})
    four = [Entry(f"w{i}", f"params/{i}/bias", "vector") for i in range(4)]
    with pytest.raises(AvsalError, match="4 missing from the checkpoint: w0, w1, w2, w3(?! and)"):
        apply_table({}, four, (), {})
