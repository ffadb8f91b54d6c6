"""Changes to what a format means: fields of headers, values of JSON, cells, members of archives.

`FIELDS` are changes that may or may not be read, by kind; `NEUTRAL` are other ways to write the same thing.
Checksums are made right, so that what lies behind them is reached.
"""

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
from PIL import Image

_NUMBERS = (0, 1, -1, 2, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 10**30, 0.5, -0.0, 1e308,
            1e-320, float("nan"), float("inf"), -float("inf"))  # fmt: skip
_WORDS = ("", " ", "0", "x", "nan", "../../outside", "/etc/passwd", "a/b", "a\\b", "..", ".", "con", "\0", "\n",
          "\u202e", "\ud800", "𝔘", "²", "١", "-", "--output", "é" * 300, "a" * 5_000, "%s", "{0}", "<script>",
          "1e5", "0x10", "1_0", "True", "null", "1,5", "=1+1", "5 6", "\ufeff")  # fmt: skip


# JSON


def change_value(content: bytes, rng) -> bytes:
    """Changes one value of a JSON text to another, mostly of another type."""
    return _with_json(content, rng, lambda parent, key: parent.__setitem__(key, _value(rng, parent[key])))


def drop_key(content: bytes, rng) -> bytes:
    """Leaves out one key or one item."""
    return _with_json(content, rng, lambda parent, key: parent.__delitem__(key))


def add_key(content: bytes, rng) -> bytes:
    """Adds a key, or an item once more."""

    def add(parent, key):
        if isinstance(parent, dict):
            parent[_WORDS[rng.integers(len(_WORDS))]] = _value(rng, parent[key])
        else:
            parent.insert(key, parent[key])

    return _with_json(content, rng, add)


def nest(content: bytes, rng) -> bytes:
    """Nests a value a thousand or a hundred thousand times."""
    depth = int([10, 1_000, 100_000][rng.integers(3)])
    text = content.decode("utf-8", "replace")
    place = [i for i, c in enumerate(text) if c in '[{"0123456789'] or [0]
    at = place[rng.integers(len(place))]
    return (text[:at] + "[" * depth + "0" + "]" * depth + text[at:]).encode()


def _with_json(content: bytes, rng, change: Callable) -> bytes:
    try:
        lines = content.decode().splitlines() if _is_lines(content) else [content.decode()]
        number = int(rng.integers(len(lines)))
        tree = [json.loads(lines[number])]
        places = list(_places(tree))
        change(*places[rng.integers(len(places))])
        lines[number] = json.dumps(tree[0] if tree else None)
    except (ValueError, RecursionError, IndexError):  # damaged already
        return content
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _is_lines(content: bytes) -> bool:
    first = content.splitlines()[:1]
    return bool(first) and first[0].startswith(b"{") and first[0].rstrip().endswith(b"}")


def _places(tree):
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def _value(rng, before):
    draw = rng.integers(8)
    if draw < 3:
        return _NUMBERS[rng.integers(len(_NUMBERS))]
    if draw < 5:
        return _WORDS[rng.integers(len(_WORDS))].replace("\ud800", "?")
    return [None, True, False, [], {}, [before], {"a": before}, [[]], [None] * 3, str(before)][
        rng.integers(10)
    ]


def spaced(content: bytes, rng) -> bytes:
    """Writes JSON with other spaces and escapes."""
    indent = [None, 0, 4][rng.integers(3)]
    return json.dumps(json.loads(content), indent=indent, ensure_ascii=bool(rng.integers(2))).encode()


def spaced_lines(content: bytes, rng) -> bytes:
    """Writes lines of JSON with other spaces, or ends them as Windows does."""
    lines = [json.dumps(json.loads(line), separators=(",", ": ")) for line in content.splitlines()]
    return ("\r\n" if rng.integers(2) else "\n").join([*lines, ""]).encode()


# tables and lists


def change_cell(content: bytes, rng) -> bytes:
    """Changes one cell of a table, or one word of a list."""

    def change(cells):
        place = int(rng.integers(len(cells)))
        number, word = _NUMBERS[rng.integers(len(_NUMBERS))], _WORDS[rng.integers(len(_WORDS))]
        cells[place] = str(number) if rng.random() < 0.5 else word

    return _with_cells(content, rng, change)


def add_cell(content: bytes, rng) -> bytes:
    """Writes a cell twice."""
    return _with_cells(content, rng, lambda cells: cells.insert(0, cells[rng.integers(len(cells))]))


def drop_cell(content: bytes, rng) -> bytes:
    """Leaves a cell out."""
    return _with_cells(content, rng, lambda cells: cells.pop(rng.integers(len(cells))))


def change_lines(content: bytes, rng) -> bytes:
    """Leaves a line out, writes it twice, or moves it."""
    lines = content.split(b"\n")
    line = lines.pop(rng.integers(len(lines)))
    for _ in range(rng.integers(3)):
        lines.insert(int(rng.integers(len(lines) + 1)), line)
    return b"\n".join(lines)


def change_encoding(content: bytes, rng) -> bytes:
    """Writes a text as other programs do: byte order marks, UTF-16, Latin-1, NUL, ends of lines."""
    text = content.decode("utf-8", "replace")
    return [
        b"\xef\xbb\xbf" + content,
        text.encode("utf-16"),
        ("é" + text).encode("latin-1", "replace"),
        content.replace(b"\n", b"\r"),
        content.replace(b"\n", b"\r\n"),
        content.replace(b"\n", b"\0\n"),
        content + b"\x1a",
        content.replace(b",", b";"),
        content.replace(b".", b","),
    ][rng.integers(9)]


def _with_cells(content: bytes, rng, change: Callable) -> bytes:
    text = content.decode("utf-8", "replace")
    lines = text.split("\n")
    number = int(rng.integers(len(lines)))
    mark = next((m for m in (",", "\t", " ") if m in text), " ")
    cells = lines[number].split(mark)
    change(cells)
    lines[number] = mark.join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def quoted(content: bytes, rng) -> bytes:
    """Quotes all cells of a table."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    return "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows).encode()


def windows_lines(content: bytes, rng) -> bytes:
    """Ends lines as Windows does."""
    return content.replace(b"\n", b"\r\n")


def loose_list(content: bytes, rng) -> bytes:
    """Writes a list with a byte order mark, tabs and empty lines."""
    return b"\xef\xbb\xbf" + content.replace(b" ", b"\t").replace(b"\n", b"\n\n") + b"\n"


# pictures


def png_header(content: bytes, rng) -> bytes:
    """Changes size, depth, colour type or interlacing in the header, with a right checksum."""

    def change(chunks):
        if chunks:
            header = bytearray(chunks[0][1])
            _write_field(header, [(0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (12, 1)], ">", rng)
            chunks[0] = (chunks[0][0], bytes(header))

    return _with_png(content, change)


def png_chunks(content: bytes, rng) -> bytes:
    """Leaves a chunk out, writes it twice, or moves it."""

    def change(chunks):
        if chunks:
            chunk = chunks.pop(rng.integers(len(chunks)))
            for _ in range(rng.integers(3)):
                chunks.insert(int(rng.integers(len(chunks) + 1)), chunk)

    return _with_png(content, change)


def png_pixels(content: bytes, rng) -> bytes:
    """Changes the unpacked pixels, or their number, and packs them again."""

    def change(chunks):
        for place, (name, body) in enumerate(chunks):
            if name == b"IDAT":
                try:
                    pixels = bytearray(zlib.decompress(body))
                except zlib.error:
                    return
                pixels[rng.integers(len(pixels))] = rng.integers(256)
                size = [len(pixels), len(pixels) // 2, 2 * len(pixels)][rng.integers(3)]
                chunks[place] = (name, zlib.compress(bytes(pixels[:size]).ljust(size, b"\0")))

    return _with_png(content, change)


def png_text(content: bytes, rng) -> bytes:
    """Adds a comment to a PNG."""
    return _with_png(
        content, lambda chunks: chunks.insert(1, (b"tEXt", b"Comment\0" + rng.bytes(30).hex().encode()))
    )


def _with_png(content: bytes, change: Callable) -> bytes:
    chunks, place = [], 8
    while place + 8 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    change(chunks)
    out = [content[:8]]
    for name, body in chunks:
        out += [struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(name + body))]
    return b"".join(out)


def picture_mode(content: bytes, rng) -> bytes:
    """Stores the picture in another form: palette, with alpha, 16 bit, 1 bit, CMYK, another format."""
    forms = [("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("L", "PNG"), ("I", "PNG"), ("CMYK", "JPEG"),
             ("L", "JPEG"), ("RGB", "BMP"), ("RGB", "WEBP"), ("RGB", "GIF"), ("F", "TIFF")]  # fmt: skip
    mode, form = forms[rng.integers(len(forms))]
    return _resaved(content, lambda image: image.convert(mode), form)


def picture_size(content: bytes, rng) -> bytes:
    """Stores the picture at another size."""
    sizes = [(1, 1), (31, 33), (64, 64), (2_000, 1), (1, 2_000), (700, 500)]
    size = sizes[rng.integers(len(sizes))]
    return _resaved(content, lambda image: image.resize(size), None)


def repacked_png(content: bytes, rng) -> bytes:
    """Packs the same pixels in another way."""
    return _resaved(content, lambda image: image, "PNG", compress_level=int(rng.integers(10)))


def repacked_jpeg(content: bytes, rng) -> bytes:
    """Stores the same coefficients with other Huffman tables and a comment."""
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(content))
    image.save(buffer, "JPEG", quality="keep", optimize=True, comment=b"the same")
    return buffer.getvalue()


def _resaved(content: bytes, change: Callable, form: str | None, **options) -> bytes:
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content))
            change(image).save(buffer, form or image.format, **options)
    except Exception:  # damaged already
        return content
    return buffer.getvalue()


def jpeg_segment(content: bytes, rng) -> bytes:
    """Changes a number in one segment of a JPEG's header."""
    places, place = [], 2
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != 0xDA:
        (size,) = struct.unpack(">H", content[place + 2 : place + 4])
        places.append((place + 2, size))
        place += 2 + size
    if not places:
        return content
    begin, size = places[rng.integers(len(places))]
    array = bytearray(content)
    at = begin + int(rng.integers(min(size, 20) + 1))
    if at < len(array):
        array[at] = [0, 1, 2, 127, 255, int(rng.integers(256))][rng.integers(6)]
    return bytes(array)


# sound, films


def riff_fields(content: bytes, rng) -> bytes:
    """Changes channels, rate, bits, sizes or the format of a WAV or AVI header."""
    array = bytearray(content)
    places = [(4, 4)]
    for name, fields in ((b"fmt ", ((4, 4), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2), (22, 2))), (b"data", ((4, 4),)),
                         (b"strh", tuple((n, 4) for n in range(4, 56, 4))),
                         (b"strf", tuple((n, 4) for n in range(4, 44, 4))),
                         (b"avih", tuple((n, 4) for n in range(4, 60, 4))), (b"idx1", ((4, 4), (12, 4)))):  # fmt: skip
        found = content.find(name)
        places += [(found + at, size) for at, size in fields] if found >= 0 else []
    _write_field(array, places, "<", rng)
    return bytes(array)


def wav_chunk(content: bytes, rng) -> bytes:
    """Puts a chunk of text before the samples of a WAV."""
    text = b"INFOINAM\x04\0\0\0tone"
    place = content.index(b"data")
    content = content[:place] + b"LIST" + struct.pack("<I", len(text)) + text + content[place:]
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


_BOXES = (b"mvhd", b"tkhd", b"mdhd", b"stts", b"ctts", b"stsz", b"stsc", b"stco", b"elst", b"stsd", b"avc1", b"mp4a",
          b"avcC", b"esds", b"hdlr", b"stss", b"moov", b"trak", b"mdat", b"ftyp")  # fmt: skip


def mp4_box(content: bytes, rng) -> bytes:
    """Changes a number in a box that has a name, or its size."""
    there = [content.find(name) for name in _BOXES if name in content]
    if not there:
        return content
    array, place = bytearray(content), there[rng.integers(len(there))]
    _write_field(array, [(place + 4 * n, 4) for n in range(-1, 22) if n], ">", rng)
    return bytes(array)


def free_box(content: bytes, rng) -> bytes:
    """Adds a box without meaning to the end of an MP4."""
    return content + struct.pack(">I", 24) + b"free" + rng.bytes(16)


_IDS = (b"\x42\x86", b"\x42\xf7", b"\x2a\xd7\xb1", b"\x44\x89", b"\xd7", b"\x83", b"\x86", b"\x63\xa2", b"\x23\xe3\x83",
        b"\xb0", b"\xba", b"\x54\xb0", b"\xb5", b"\x9f", b"\x62\x64", b"\xe7", b"\xa3", b"\x18\x53\x80\x67",
        b"\x1f\x43\xb6\x75", b"\x16\x54\xae\x6b")  # fmt: skip


def ebml_element(content: bytes, rng) -> bytes:
    """Changes the size or the value of an element of Matroska that has a known number."""
    there = [content.find(name) + len(name) for name in _IDS if name in content[:4_000]]
    if not there:
        return content
    array, place = bytearray(content), there[rng.integers(len(there))]
    _write_field(
        array, [(place, 1), (place + 1, 1), (place + 1, 2), (place + 1, 4), (place + 1, 8)], ">", rng
    )
    return bytes(array)


def _write_field(array: bytearray, places, order: str, rng) -> None:
    place, size = places[rng.integers(len(places))]
    if place < 0 or place + size > len(array):
        return
    endian = "big" if order == ">" else "little"
    before = int.from_bytes(array[place : place + size], endian)
    value = [0, 1, 2, 3, 8, -1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), before + 1, before - 1, 2 * before,
             before // 2, before * 1_000, int(rng.integers(2**16))][rng.integers(14)]  # fmt: skip
    array[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, endian)


# arrays


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
            _write_field(inner, [(4 * n, 4) for n in range(min(len(inner) // 4, 20))], "<", rng)
            body = zlib.compress(bytes(inner))
        parts.append(struct.pack("<II", kind, len(body)) + body)
        place += 8 + size
    return b"".join(parts)


def mat_variable(content: bytes, rng) -> bytes:
    """Stores another variable under the name, or the same one under another name."""
    try:
        found = {k: v for k, v in scipy.io.loadmat(io.BytesIO(content)).items() if not k.startswith("__")}
    except Exception:  # damaged already
        return content
    name, value = next(iter(found.items()), ("x", np.zeros((2, 2))))
    others = [value.astype(float) if value.dtype.kind in "biuf" else value, np.zeros((0, 0)), np.zeros((2, 3, 4)), "text",
              np.full((3, 3), np.nan), {"field": 1.0}, np.array([1 + 2j]), np.zeros((1, 20_000), np.uint8),
              np.array(["a", "b"], object)]  # fmt: skip
    other = others[rng.integers(len(others))]
    changed = {name: other} if rng.random() < 0.7 else {"another": value}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, changed, do_compression=bool(rng.integers(2)))
    return buffer.getvalue()


def unpacked_mat(content: bytes, rng) -> bytes:
    """Stores the same variables without compression."""
    found = {k: v for k, v in scipy.io.loadmat(io.BytesIO(content)).items() if not k.startswith("__")}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, found, do_compression=False)
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
    header = (f"{{'descr': {kinds[rng.integers(len(kinds))]}, 'fortran_order': {bool(rng.integers(2))}, "
              f"'shape': {shapes[rng.integers(len(shapes))]}, }}")  # fmt: skip
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
        _write_field(array, sizes, "<", rng)
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


_JSON = (change_value, change_value, drop_key, add_key, nest, change_encoding)
_TEXT = (change_cell, change_cell, add_cell, drop_cell, change_lines, change_encoding)
FIELDS: dict[str, tuple[Callable, ...]] = {
    "json": _JSON,
    "jsonl": (*_JSON, change_lines),
    "csv": _TEXT,
    "list": _TEXT,
    "txt": _TEXT,
    "png": (png_header, png_chunks, png_pixels, picture_mode, picture_size),
    "jpg": (jpeg_segment, jpeg_segment, picture_mode, picture_size),
    "wav": (riff_fields,),
    "avi": (riff_fields,),
    "mp4": (mp4_box,),
    "mkv": (ebml_element,),
    "webm": (ebml_element,),
    "mat": (mat_inner, mat_variable),
    "npz": (zip_member, npy_header, zip_directory),
    "pt": (zip_member, zip_directory),
    "safetensors": (tensor_header, tensor_values),
}
NEUTRAL: dict[str, tuple[Callable, ...]] = {
    "json": (spaced,),
    "jsonl": (spaced_lines,),
    "csv": (quoted, windows_lines),
    "list": (windows_lines, loose_list),
    "txt": (windows_lines,),
    "png": (png_text, repacked_png),
    "jpg": (repacked_jpeg,),
    "wav": (wav_chunk,),
    "mp4": (free_box,),
    "mat": (unpacked_mat,),
    "npz": (rezipped,),
    "safetensors": (tensor_notes,),
}
