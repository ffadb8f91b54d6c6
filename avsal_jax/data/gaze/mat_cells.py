"""Cells, texts and columns out of MATLAB files of gaze, each checked before it is used."""

from __future__ import annotations

import pathlib

import numpy as np

from avsal_jax.data.truth.mat_files import load_mat
from avsal_jax.errors import AvsalError

_MAX_CELLS = 1_000_000


def cells_of(path: pathlib.Path, variable: str) -> np.ndarray:
    """Returns a variable that is a cell array, object [rows, columns]; AvsalError if it is something else."""
    cells = load_mat(path, variable)
    if not isinstance(cells, np.ndarray) or cells.dtype != object or cells.ndim != 2:
        raise AvsalError(f"{path}: {variable} is not a cell array")
    if cells.size > _MAX_CELLS:
        raise AvsalError(f"{path}: {variable} has {cells.size} cells; at most {_MAX_CELLS} are read")
    return cells


def unwrapped(value):
    """Returns what lies in arrays and cells of one element each."""
    while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    return value


def text_of(value) -> str | None:
    """Returns a text, or None where a value is not a text."""
    value = unwrapped(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1:
        value = value.item()
    return value if isinstance(value, str) else None


def column_of(value) -> np.ndarray | None:
    """Returns numbers as float64 [N], or None where a value is not a row or column of real numbers."""
    value = unwrapped(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        return None
    return value.astype(np.float64).ravel() if value.size == max(value.shape, default=0) else None
