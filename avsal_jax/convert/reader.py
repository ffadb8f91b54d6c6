"""Reads tensors from checkpoint files: safetensors, and PyTorch's zip and legacy formats.

The only module that imports torch, and only with `weights_only=True`: a file that needs code to be
unpickled is refused.
"""

from __future__ import annotations

import pathlib
import pickle

import numpy as np
import safetensors
import safetensors.numpy

from avsal_jax.errors import AvsalError

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # dictionaries that training scripts save
_REFUSED = (
    "it holds more than tensors, and reading it would run code from the file. It is refused; load it "
    "where you trust it, save its plain state_dict, and convert that"
)


def read_checkpoint(path) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint by name, without a leading `module.`.

    Args:
      path: safetensors, or what `torch.save` wrote (zip or legacy), holding a state dict or a
        dictionary with one under `state_dict`.

    Raises:
      AvsalError: the file is missing, of another format, damaged, or needs code to be read.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    if head[8:9] == b"{":
        try:
            tensors = safetensors.numpy.load_file(path)
        except (safetensors.SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise AvsalError(
                f"{path} is a damaged safetensors file, or of a type of number: {error}"
            ) from error
    elif head[:2] == b"PK" or head[:1] == b"\x80":
        tensors = _read_torch(path)
    else:
        raise AvsalError(f"{path} is neither a safetensors file nor a PyTorch checkpoint")
    if not tensors:
        raise AvsalError(f"{path} holds no tensors")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise AvsalError(
            f"{path} is a PyTorch file; reading it needs torch: pip install 'avsal-jax[torch]'"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise AvsalError(f"cannot read {path}: {_REFUSED}") from error
    except Exception as error:  # torch raises many kinds for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AvsalError(f"{path} is a damaged PyTorch file: {reason}") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise AvsalError(f"{path} holds a {type(content).__name__}, not a state dict of named tensors")
    others = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise AvsalError(f"{path} is not a state dict: {others[0]!r} is no tensor")
    return {name: _to_numpy(value, torch) for name, value in content.items()}


def _to_numpy(tensor, torch) -> np.ndarray:
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.detach().to_dense().numpy() if tensor.is_sparse else tensor.detach().numpy()
