"""Checks whether a media file is as long as its outermost boxes or chunks state."""

from __future__ import annotations

import os
import pathlib
import struct
from typing import BinaryIO


def is_whole(path: pathlib.Path) -> bool | None:
    """Returns whether a file is as long as its container states, or None if the container states no length.

    Reads the headers of the boxes of MP4 and MOV, of the chunks of AVI, of the frames of IVF, and the size
    of the segment of Matroska and WebM.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(8)
            file.seek(0)
            if head[:4] in (b"RIFF", b"RF64"):
                return _riff_is_whole(file, size)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
                return _boxes_are_whole(file, size)
            if head[:4] == b"DKIF":
                return _ivf_is_whole(file, size)
            if head[:4] == b"\x1aE\xdf\xa3":
                return _segment_is_whole(file, size)
    except (OSError, IndexError):  # too short for its own headers
        return None
    return None


def _riff_is_whole(file: BinaryIO, size: int) -> bool | None:
    position = 0
    while position + 8 <= size:  # files above 1 GB are several chunks
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF":
            return True if position else None
        if length in (0, 0xFFFFFFFF):  # written without an end, as to a pipe
            return None
        position += 8 + length + length % 2
        if position - length % 2 > size:
            return False
    return True


def _boxes_are_whole(file: BinaryIO, size: int) -> bool | None:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, _ = struct.unpack(">I4s", file.read(8))
        if length == 1:
            large = file.read(8)
            if len(large) < 8:
                return False
            length = struct.unpack(">Q", large)[0]
        if length == 0:  # to the end of the file, wherever that is
            return None
        if length < 8:
            return None
        position += length
    return position <= size


def _ivf_is_whole(file: BinaryIO, size: int) -> bool:
    file.seek(6)
    position = int.from_bytes(file.read(2), "little")
    while position + 12 <= size:
        file.seek(position)
        position += 12 + int.from_bytes(file.read(4), "little")
    return position == size


def _segment_is_whole(file: BinaryIO, size: int) -> bool | None:
    file.seek(4)
    header = _matroska_size(file)
    if header is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != b"\x18S\x80g":
        return None
    segment = _matroska_size(file)
    return None if segment is None else file.tell() + segment <= size


def _matroska_size(file: BinaryIO) -> int | None:
    """Reads a size of one to eight bytes, whose first byte encodes their number; None for an unknown size."""
    first = file.read(1)[0]
    extra = 8 - first.bit_length()
    value = int.from_bytes(bytes([first & (0x7F >> extra)]) + file.read(extra), "big")
    return None if value == (1 << 7 * (extra + 1)) - 1 else value
