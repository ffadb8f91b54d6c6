"""MATLAB files, zip archives (npz, PyTorch), safetensors: what lies behind checksums and compression."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import scipy.io

from tests.fuzz.formats.numbers import write_field
from tests.fuzz.formats.text import change_value


def mat_inner(content: bytes, rng) -> bytes:
    """Unpacks the variables of a MATLAB file, changes a number in one, and packs it again."""
    parts, place = [content[:128]], 128
    while place + 8 <= len(content):
        kind, size = struct.unpack("<II", content[place : place + 8])
        body = content[place + 8 : place + 8 + size]
        if kind == 15:
            try:
                inner = bytearray(zlib.decompress(body))
            except zlib.error:
                return content
            write_field(inner, [(4 * n, 4) for n in range(min(len(inner) // 4, 20))], "<", rng)
            body = zlib.compress(bytes(inner))
        parts.append(struct.pack("<II", kind, len(body)) + body)
        place += 8 + size
    return b"".join(parts)


def mat_variable(content: bytes, rng) -> bytes:
    """Stores another variable under the name, or the same one under another name."""
    try:
        variables = {k: v for k, v in scipy.io.loadmat(io.BytesIO(content)).items() if not k.startswith("__")}
    except Exception:  # damaged already
        return content
    name, value = next(iter(variables.items()), ("x", np.zeros((2, 2))))
    candidates = [
        value.astype(float) if value.dtype.kind in "biuf" else value,
        np.zeros((0, 0)),
        np.zeros((2, 3, 4)),
        "text",
        np.full((3, 3), np.nan),
        {"field": 1.0},
        np.array([1 + 2j]),
        np.zeros((1, 20_000), np.uint8),
        np.array(["a", "b"], object),
    ]
    other = candidates[rng.integers(len(candidates))]
    changed = {name: other} if rng.random() < 0.7 else {"another": value}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, changed, do_compression=bool(rng.integers(2)))
    return buffer.getvalue()


def unpacked_mat(content: bytes, rng) -> bytes:
    """Stores the same variables without compression."""
    variables = {k: v for k, v in scipy.io.loadmat(io.BytesIO(content)).items() if not k.startswith("__")}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=False)
    return buffer.getvalue()


def zip_member(content: bytes, rng) -> bytes:
    """Changes one member of an archive, with a right checksum; renames, drops or repeats it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # damaged already
        return content
    if not members:
        return content
    number = int(rng.integers(len(members)))
    name, body = members[number]
    draw = rng.integers(8)
    if draw < 4:
        members[number] = (name, _inner(name, body, rng))
    elif draw == 4:
        members[number] = (name + "x", body)
    elif draw == 5:
        members.append((name, body[::-1]))
    elif draw == 6:
        members.pop(number)
    else:
        members[number] = (name, body[: rng.integers(len(body) + 1)])
    return _zipped(members, zipfile.ZIP_STORED if rng.random() < 0.7 else zipfile.ZIP_DEFLATED)


def _inner(name: str, body: bytes, rng) -> bytes:
    array = bytearray(body)
    head = min(len(array), 128 if name.endswith(".npy") else len(array))
    for _ in range(rng.integers(1, 4)):
        if head:
            array[rng.integers(head)] = rng.integers(256)
    return bytes(array)


def npy_header(content: bytes, rng) -> bytes:
    """Changes the shape, the type or the order that the header of a member of an npz states."""
    shapes = [
        "()",
        "(0,)",
        "(0, 5, 5)",
        "(-1, 2)",
        "(1000000000000,)",
        "(3, 3)",
        "(2, 2, 2, 2)",
        "'x'",
        "(4, 36, 52, 1)",
    ]
    kinds = [
        "'<f8'",
        "'|O'",
        "'<c8'",
        "'|S3'",
        "'>f4'",
        "'<M8[s]'",
        "'|b1'",
        "'|u1'",
        "[('a', '<f4')]",
        "'<f2'",
        "5",
    ]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # damaged already
        return content
    header = (
        f"{{'descr': {kinds[rng.integers(len(kinds))]}, 'fortran_order': {bool(rng.integers(2))}, "
        f"'shape': {shapes[rng.integers(len(shapes))]}, }}"
    )
    header = header.encode().ljust(117) + b"\n"
    members = [
        (n, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b[128:]) for n, b in members
    ]
    return _zipped(members, zipfile.ZIP_STORED)


def zip_directory(content: bytes, rng) -> bytes:
    """Changes a number in the directory at the end of an archive."""
    place = content.find(b"PK\x01\x02")
    array = bytearray(content)
    if place >= 0:
        sizes = [(place + n, 2) for n in (6, 8, 10, 28, 30, 32, 34)] + [
            (place + n, 4) for n in (16, 20, 24, 42)
        ]
        end = content.rfind(b"PK\x05\x06")
        sizes += [(end + n, 2) for n in (8, 10, 20)] + [(end + n, 4) for n in (12, 16)] if end >= 0 else []
        write_field(array, sizes, "<", rng)
    return bytes(array)


def rezipped(content: bytes, rng) -> bytes:
    """Packs the same members in the other way."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    return _zipped(members, zipfile.ZIP_STORED)


def _zipped(members, method) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, body in members:
            archive.writestr(zipfile.ZipInfo(name), body)  # without the time
    return buffer.getvalue()


def tensor_header(content: bytes, rng) -> bytes:
    """Changes a type, shape or offset in the header of a safetensors file."""
    return _with_tensors(content, lambda header: change_value(header, rng))


def tensor_values(content: bytes, rng) -> bytes:
    """Makes one number of the data not finite, or huge."""
    array = bytearray(content)
    place = len(array) - 4 * int(rng.integers(1, max(2, len(array) // 8)))
    values = [np.nan, np.inf, -np.inf, 3e38, -1.0]
    array[place : place + 4] = np.float32(values[rng.integers(len(values))]).tobytes()
    return bytes(array)


def tensor_notes(content: bytes, rng) -> bytes:
    """Adds metadata and spaces to the header of a safetensors file."""

    def change(header):
        tree = {"__metadata__": {"by": "somebody"}, **json.loads(header)}
        text = json.dumps(tree)
        return (text + " " * (-len(text) % 8)).encode()

    return _with_tensors(content, change)


def _with_tensors(content: bytes, change: Callable) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + content[8 + size :]
