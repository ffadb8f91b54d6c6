"""Reads untrusted MATLAB files (version 5 to 7.2); checks them before it allocates memory."""

from __future__ import annotations

import contextlib
import io
import pathlib
import struct
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
import scipy.io

from avsal_jax.errors import AvsalError, damage_reason

MAX_SIDE, MAX_PIXELS = 10_000, 1 << 25  # of a map; 8K has 33 million
_MAX_BYTES = 1 << 30  # of a file, and of its unpacked parts
_MAX_RATIO = 1032  # of deflate: a small file cannot become a large one
_COMPRESSED, _MATRIX = 15, 14  # miCOMPRESSED, miMATRIX: MAT-File Format, table 1-1
_TEXTS = frozenset({16, 17, 18})  # miUTF8 and on
_CELLS, _SPARSE = frozenset({1, 2, 3}), 5  # classes of matrices, of which the first hold others; table 1-3
_MAX_DEPTH = 20  # of structures in structures
# miINT8 and following, which are independent of the class of the array
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBERS = frozenset({"double", "single", "logical", "sparse"}) | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def mat_variables(path: pathlib.Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Returns (name, shape, class) of the variables of a file, from its headers; errors as in `load_mat`."""
    with _as_one_line(path):
        _check_size(path)
        return scipy.io.whosmat(path)


def mat_shape(path: pathlib.Path, variable: str) -> tuple[int, int]:
    """Returns (rows, columns) of a map from the file's headers; see `mat_map` for the errors."""
    return _shape_of(mat_variables(path), path, variable)


def _shape_of(
    variables: list[tuple[str, tuple[int, ...], str]], path: pathlib.Path, variable: str
) -> tuple[int, int]:
    """Returns (rows, columns) of a map among the variables of a file; see `mat_map` for the errors."""
    matches = [(shape, kind) for name, shape, kind in variables if name == variable]
    if not matches:
        names = ", ".join(sorted(name for name, _, _ in variables)) or "nothing"
        raise AvsalError(f"{path} has no variable {variable}; it holds {names}")
    for shape, kind in matches:
        if kind not in _NUMBERS or len(shape) != 2:
            raise AvsalError(f"{variable} in {path} is not a map: {kind} of shape {tuple(shape)}")
        if not all(0 < side <= MAX_SIDE for side in shape):
            raise AvsalError(f"{variable} in {path} has shape {tuple(shape)}; sides are 1 to {MAX_SIDE}")
        if shape[0] * shape[1] > MAX_PIXELS:
            raise AvsalError(
                f"{variable} in {path} has shape {tuple(shape)}; maps have up to {MAX_PIXELS} pixels"
            )
    return int(shape[0]), int(shape[1])


def only_map(path: pathlib.Path) -> str:
    """Returns the name of the only variable that is a map; there may be scalars, vectors and texts.

    Raises:
      AvsalError: there is no map or more than one; as `load_mat`.
    """
    variables = mat_variables(path)
    maps = [
        name for name, shape, kind in variables if kind in _NUMBERS and len(shape) == 2 and min(shape) > 1
    ]
    if len(maps) != 1:
        names = ", ".join(name for name, _, _ in variables) or "nothing"
        raise AvsalError(f"{path} must hold one map, a matrix of numbers; it holds {names}")
    return maps[0]


def mat_map(path: pathlib.Path, variable: str):
    """Returns a map, [rows, columns] of real numbers: an array, or a scipy.sparse matrix.

    Raises:
      AvsalError: the file is missing, damaged, of version 7.3 or too large, or holds no such map.
    """
    with _as_one_line(path):
        content = _plain_content(path)
        shape = _shape_of(scipy.io.whosmat(io.BytesIO(content)), path, variable)
    array = _load(content, path, variable)
    if array.shape != shape:
        raise AvsalError(f"{path} is damaged: {variable} has shape {array.shape}, its header says {shape}")
    if array.dtype.kind not in "buif":
        raise AvsalError(f"{variable} in {path} is not a map: its numbers are {array.dtype}")
    return array


def load_mat(path: pathlib.Path, variable: str):
    """Returns one variable as scipy does; structures are objects with their fields as attributes.

    Raises:
      AvsalError: the file is missing, damaged, of version 7.3 or too large, or has no such variable.
    """
    with _as_one_line(path):
        content = _plain_content(path)
    return _load(content, path, variable)


def _plain_content(path: pathlib.Path) -> bytes:
    """Returns the checked bytes of a file; for version 5 to 7.2, with its matrices unpacked."""
    _check_size(path)
    content = path.read_bytes()
    if scipy.io.matlab.matfile_version(io.BytesIO(content))[0] != 1:  # scipy checks version 4 itself
        return content
    order = "<" if content[126:128] == b"IM" else ">"
    content = _unpacked(content, order)
    _check_elements(content[128:], order)
    return content


def _unpacked(content: bytes, order: str) -> bytes:
    """Returns a file of version 5 to 7.2 with its packed matrices unpacked, to unpack them only once.

    Like scipy, it reads one matrix per packed element. Any other element is unchanged.
    """
    parts, place = [content[:128]], 128
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        end = place + 8 + size
        if kind != _COMPRESSED or end > len(content):
            break
        element = zlib.decompress(content[place + 8 : end])
        inner_kind, inner_size = struct.unpack_from(f"{order}II", element)
        if inner_kind != _MATRIX or 8 + inner_size > len(element) or inner_size % 8:
            break
        parts.append(element[: 8 + inner_size])
        place = end
    parts.append(content[place:])
    return b"".join(parts)


def _load(content: bytes, path: pathlib.Path, variable: str):
    """Returns one variable of checked bytes; see `load_mat`."""
    with _as_one_line(path):
        variables = scipy.io.loadmat(io.BytesIO(content), variable_names=[variable], struct_as_record=False)
    if variable not in variables:
        raise AvsalError(f"{path} has no variable {variable}")
    return variables[variable]


@contextlib.contextmanager
def _as_one_line(path: pathlib.Path):
    """Turns any exception that scipy raises for a damaged file into an AvsalError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns about variables that it skips
            yield
    except AvsalError:
        raise
    except FileNotFoundError as error:
        raise AvsalError(f"there is no file {path}") from error
    except NotImplementedError as error:
        raise AvsalError(
            f"{path} is a MATLAB 7.3 file, which is not read; in MATLAB, load it and save it with -v7"
        ) from error
    except Exception as error:
        raise AvsalError(f"{path} is not a MATLAB file that can be read: {damage_reason(error)}") from error


def _check_size(path: pathlib.Path) -> None:
    """Raises AvsalError if the file, packed or unpacked, is too large."""
    size = path.stat().st_size
    if not path.is_file():  # a device states no size
        raise AvsalError(f"{path} is not a file")
    if size > _MAX_BYTES:
        raise AvsalError(f"{path} is too large: {size} bytes; {_MAX_BYTES} are read")
    if size * _MAX_RATIO > _MAX_BYTES and _inflated(path) > _MAX_BYTES:
        raise AvsalError(f"{path} is too large: unpacked, it has more than {_MAX_BYTES} bytes")


def _inflated(path: pathlib.Path) -> int:
    """Returns the bytes of the unpacked parts; counting stops above the limit."""
    total = 0
    with path.open("rb") as file:
        order = ">" if file.read(128)[126:128] == b"MI" else "<"
        while len(tag := file.read(8)) == 8 and total <= _MAX_BYTES:
            kind, remaining = struct.unpack(f"{order}II", tag)
            if kind != _COMPRESSED:
                file.seek(remaining, 1)
                continue
            engine = zlib.decompressobj()
            while remaining > 0 and total <= _MAX_BYTES and (piece := file.read(min(remaining, 1 << 16))):
                remaining -= len(piece)
                total += len(engine.decompress(piece))  # at most 68 MB at a time
    return total


def _check_elements(data: bytes, order: str, depth: int = 0) -> None:
    """Raises ValueError if the data elements of a file of version 5 are inconsistent.

    scipy (1.17) uses types as table indices, and the indices of a sparse matrix as addresses, without a
    check. A wrong value crashes the process.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("its variables are nested too deep")
    for kind, content in _elements(data, order):
        if kind == _COMPRESSED:
            _check_elements(zlib.decompress(content), order, depth + 1)
        elif kind == _MATRIX and content:
            _check_matrix(list(_elements(content, order)), order, depth)
        elif kind not in _TYPES and kind not in _TEXTS and content:
            raise ValueError(f"it has data of the unknown type {kind}")


def _check_matrix(parts: list[tuple[int, bytes]], order: str, depth: int) -> None:
    """Checks a matrix: its flags, sides and name, and the content that they describe."""
    if [kind for kind, _ in parts[:3]] != [6, 5, 1] or len(parts[0][1]) != 8:  # miUINT32, miINT32, miINT8
        raise ValueError("it has a variable without flags, sides and name")
    flags = np.frombuffer(parts[0][1], f"{order}u4")
    if (matrix_class := int(flags[0]) & 255) == _SPARSE:
        _check_sparse(parts, order)
    elif matrix_class in _CELLS:
        for kind, content in parts[3:]:
            if kind == _MATRIX and content:
                _check_matrix(list(_elements(content, order)), order, depth + 1)
            elif kind not in (1, 5, _MATRIX):  # names of fields, their length, and what they hold
                raise ValueError(f"it has a field of the unknown type {kind}")
    elif not all(kind in _TYPES or kind in _TEXTS for kind, _ in parts[3:]):
        raise ValueError("it has numbers of an unknown type")


def _check_sparse(parts: list[tuple[int, bytes]], order: str) -> None:
    """Checks flags, sides, name, rows, columns and numbers (and their imaginary parts) of a sparse matrix."""
    arrays = [np.frombuffer(data, np.dtype(_TYPES[kind]).newbyteorder(order)) for kind, data in parts]
    if len(arrays) < 6 or not all(array.dtype.kind in "iu" for array in arrays[3:5]):
        raise ValueError("its sparse matrix has no indices")
    sides, rows, columns = arrays[1].astype(np.int64), arrays[3].astype(np.int64), arrays[4].astype(np.int64)
    count = int(columns[-1])
    rising = (
        len(sides) == 2 and len(columns) == sides[1] + 1 and columns[0] == 0 and (np.diff(columns) >= 0).all()
    )
    if not rising or count > min(map(len, (rows, *arrays[5:]))):
        raise ValueError("the indices of its sparse matrix are not those of its sides")
    if ((rows[:count] < 0) | (rows[:count] >= sides[0])).any():
        raise ValueError("the indices of its sparse matrix lead outside it")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yields (type, content) of consecutive data elements; small elements are inside their tag."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        begin, padding = place + 8, 0 if kind == _COMPRESSED else -size % 8
        if kind >> 16:
            kind, size, begin, padding = kind & 0xFFFF, kind >> 16, place + 4, 4 - (kind >> 16)
        if padding < 0 or begin + size > len(data):
            raise ValueError("it is cut short")
        yield kind, data[begin : begin + size]
        place = begin + size + padding
