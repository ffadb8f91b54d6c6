"""Whether a media file goes on to the end that its outermost boxes or chunks state."""

from __future__ import annotations

import os
import pathlib
import struct
from typing import BinaryIO


def is_whole(path: pathlib.Path) -> bool | None:
    """Returns whether a file is as long as it says, or None where its container does not say it.

    Reads the headers of the boxes of MP4 and MOV, and of the chunks of AVI.
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
    except OSError:
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
