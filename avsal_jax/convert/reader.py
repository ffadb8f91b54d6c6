"""Reads tensors from checkpoint files: safetensors, and PyTorch's zip and legacy formats.

The only module that imports torch, and only with `weights_only=True`: a file that needs code to be
unpickled is refused.
"""

from __future__ import annotations

import functools
import json
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import ml_dtypes
import numpy as np
import safetensors

from avsal_jax.convert.candidates import Checkpoint, Content, StoredTensor, choose, printable
from avsal_jax.convert.file_kinds import SAFETENSORS, checkpoint_format
from avsal_jax.errors import AvsalError, damage_reason

_REFUSED = (
    "reading it would run code from the file, which is refused; load it if you trust it, save its plain "
    "state_dict, and convert that"
)
_MAX_DEPTH, _MAX_ENTRIES = 12, 200_000
_SAFETENSORS_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
}


def read_checkpoint(path, marks: Sequence[str] = (), key: str | None = None) -> Checkpoint:
    """Returns the tensors of a checkpoint by name; values are read lazily.

    Args:
      path: safetensors, or what `torch.save` wrote (zip or legacy), holding a state dict or dictionaries
        with one.
      marks: names that identify the tensors of the system; see `candidates.choose`.
      key: the entry to use if several match.

    Raises:
      AvsalError: the file is missing, damaged, of another format (which the message names), or cannot be
        read without running code; or as `choose`.
    """
    path = pathlib.Path(path)
    content = _safetensors(path) if checkpoint_format(path) == SAFETENSORS else _torch(path)
    if not content.tensors:
        raise AvsalError(f"{path} holds no tensors")
    try:
        return choose(content, marks, key)
    except AvsalError as error:
        raise AvsalError(f"{path}: {error}") from error


def _safetensors(path: pathlib.Path) -> Content:
    try:
        with safetensors.safe_open(path, framework="np"):
            pass  # checks the header: names, types, shapes and offsets
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (safetensors.SafetensorError, ValueError, OSError, RecursionError) as error:
        raise AvsalError(
            f"{path} is a damaged safetensors file, or has an unsupported dtype: {error}; "
            "download it again, or save it as float32"
        ) from error
    header.pop("__metadata__", None)

    def tensor(name: str, entry: dict) -> StoredTensor:
        begin, _ = entry["data_offsets"]
        load = functools.partial(_raw, path, name, entry["dtype"], tuple(entry["shape"]), 8 + length + begin)
        return StoredTensor("", name=name, shape=tuple(entry["shape"]), dtype=entry["dtype"], load=load)

    return Content(tuple(tensor(name, entry) for name, entry in header.items()))


def _raw(path: pathlib.Path, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> np.ndarray:
    """Reads the values of a tensor; its offset was checked before."""
    if dtype not in _SAFETENSORS_TYPES:
        raise _unfit(name, dtype)
    count = int(np.prod(shape, dtype=np.int64))
    try:
        array = np.fromfile(path, _SAFETENSORS_TYPES[dtype], count, offset=offset)
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    return array.reshape(shape)


def _torch(path: pathlib.Path) -> Content:
    try:
        import torch
    except ImportError as error:
        raise AvsalError(
            f"{path} is a PyTorch file; reading it needs torch: pip install 'avsal-jax[torch]'"
        ) from error
    _check_sums(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the APIs of sparse and quantised tensors may change
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it holds an object of {match[1]}" if match else "it holds more than tensors"
        raise AvsalError(f"cannot read {path}: {reason}, and {_REFUSED}") from error
    except Exception as error:  # torch raises many kinds for damaged files
        raise AvsalError(f"{path} is a damaged PyTorch file: {damage_reason(error)}") from error
    if not isinstance(content, Mapping | list | tuple):
        raise AvsalError(f"{path} holds a {type(content).__name__}, not a state dict of named tensors")
    tensors, non_tensors = [], []
    for number, (folder, name, value) in enumerate(_entries(content)):
        if number > _MAX_ENTRIES:
            raise AvsalError(
                f"{path} has more than {_MAX_ENTRIES:,} entries, too many for a checkpoint of a network"
            )
        if isinstance(value, torch.Tensor):
            tensors.append(_stored(folder, name=name, tensor=value, torch=torch))
        else:
            non_tensors.append((folder, name))
    return Content(tuple(tensors), tuple(non_tensors))


def _check_sums(path: pathlib.Path) -> None:
    """Verifies the checksums of a zip file, which torch.load does not check."""
    if not zipfile.is_zipfile(path):
        return  # the legacy format has none
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile raises many kinds for damaged files
        raise AvsalError(f"{path} is a damaged PyTorch file: {error}; fetch it again") from error
    if damaged is not None:
        raise AvsalError(
            f"{path} is a damaged PyTorch file: the checksum of its part {printable(damaged)} is wrong"
        )


def _entries(content, folder: str = "", depth: int = 0) -> Iterator[tuple[str, str, object]]:
    """Yields (folder, name, value) of all entries of nested dictionaries and lists."""
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content)
    for name, value in pairs:
        if isinstance(value, Mapping | list | tuple) and depth < _MAX_DEPTH:
            yield from _entries(value, f"{folder}{name}.", depth + 1)
        else:
            yield folder, str(name), value


def _stored(folder: str, name: str, tensor, torch) -> StoredTensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    shape = () if tensor.is_nested else tuple(tensor.shape)
    return StoredTensor(
        folder,
        name=name,
        shape=shape,
        dtype=dtype,
        load=functools.partial(_values, folder + name, tensor, torch),
    )


def _values(name: str, tensor, torch) -> np.ndarray:
    """Returns the values of a tensor; other layouts are made dense, short floats become float32."""
    if tensor.is_meta:
        raise AvsalError(
            f"{printable(name)} is a meta tensor: it has a shape and no values; save the state dict once the "
            "weights are loaded"
        )
    if tensor.is_nested:
        raise AvsalError(f"{printable(name)} is a nested tensor, of {tensor.dtype}: save it as plain float32")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensor = tensor.detach()
            tensor = tensor.dequantize() if tensor.is_quantized else tensor
            tensor = tensor if tensor.layout is torch.strided else tensor.to_dense()
            tensor = tensor.resolve_conj().resolve_neg()
            if tensor.is_floating_point() and tensor.itemsize < 4:
                tensor = tensor.float()
            return tensor.numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise _unfit(name, str(tensor.dtype).removeprefix("torch.")) from error


def _unfit(name: str, dtype: str) -> AvsalError:
    return AvsalError(f"{printable(name)} is of type {dtype}, which is not supported; save it as float32")
