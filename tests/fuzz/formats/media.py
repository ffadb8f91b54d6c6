"""WAV, AVI, MP4, Matroska: the fields of their headers."""

from __future__ import annotations

import struct

from tests.fuzz.formats.numbers import write_field


def riff_fields(content: bytes, rng) -> bytes:
    """Changes channels, rate, bits, sizes or the format of a WAV or AVI header."""
    array = bytearray(content)
    places = [(4, 4)]
    for name, fields in (
        (b"fmt ", ((4, 4), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2), (22, 2))),
        (b"data", ((4, 4),)),
        (b"strh", tuple((n, 4) for n in range(4, 56, 4))),
        (b"strf", tuple((n, 4) for n in range(4, 44, 4))),
        (b"avih", tuple((n, 4) for n in range(4, 60, 4))),
        (b"idx1", ((4, 4), (12, 4))),
    ):
        start = content.find(name)
        places += [(start + at, size) for at, size in fields] if start >= 0 else []
    write_field(array, places, "<", rng)
    return bytes(array)


def wav_chunk(content: bytes, rng) -> bytes:
    """Puts a chunk of text before the samples of a WAV."""
    text = b"INFOINAM\x04\0\0\0tone"
    place = content.index(b"data")
    content = content[:place] + b"LIST" + struct.pack("<I", len(text)) + text + content[place:]
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


_BOXES = (
    b"mvhd",
    b"tkhd",
    b"mdhd",
    b"stts",
    b"ctts",
    b"stsz",
    b"stsc",
    b"stco",
    b"elst",
    b"stsd",
    b"avc1",
    b"mp4a",
    b"avcC",
    b"esds",
    b"hdlr",
    b"stss",
    b"moov",
    b"trak",
    b"mdat",
    b"ftyp",
)


def mp4_box(content: bytes, rng) -> bytes:
    """Changes a number in a box that has a name, or its size."""
    places = [content.find(name) for name in _BOXES if name in content]
    if not places:
        return content
    array, place = bytearray(content), places[rng.integers(len(places))]
    write_field(array, [(place + 4 * n, 4) for n in range(-1, 22) if n], ">", rng)
    return bytes(array)


def free_box(content: bytes, rng) -> bytes:
    """Adds a box without meaning to the end of an MP4."""
    return content + struct.pack(">I", 24) + b"free" + rng.bytes(16)


_IDS = (
    b"\x42\x86",
    b"\x42\xf7",
    b"\x2a\xd7\xb1",
    b"\x44\x89",
    b"\xd7",
    b"\x83",
    b"\x86",
    b"\x63\xa2",
    b"\x23\xe3\x83",
    b"\xb0",
    b"\xba",
    b"\x54\xb0",
    b"\xb5",
    b"\x9f",
    b"\x62\x64",
    b"\xe7",
    b"\xa3",
    b"\x18\x53\x80\x67",
    b"\x1f\x43\xb6\x75",
    b"\x16\x54\xae\x6b",
)


def ebml_element(content: bytes, rng) -> bytes:
    """Changes the size or the value of an element of Matroska that has a known number."""
    places = [content.find(name) + len(name) for name in _IDS if name in content[:4_000]]
    if not places:
        return content
    array, place = bytearray(content), places[rng.integers(len(places))]
    write_field(array, [(place, 1), (place + 1, 1), (place + 1, 2), (place + 1, 4), (place + 1, 8)], ">", rng)
    return bytes(array)
