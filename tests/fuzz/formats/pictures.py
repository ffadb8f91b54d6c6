"""PNG and JPEG: headers, chunks, pixels; other forms and sizes of the same picture."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable

from PIL import Image

from tests.fuzz.formats.numbers import write_field


def png_header(content: bytes, rng) -> bytes:
    """Changes size, depth, colour type or interlacing in the header, with a right checksum."""

    def change(chunks):
        if chunks:
            header = bytearray(chunks[0][1])
            write_field(header, [(0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (12, 1)], ">", rng)
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
    forms = [
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("L", "PNG"),
        ("I", "PNG"),
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("RGB", "BMP"),
        ("RGB", "WEBP"),
        ("RGB", "GIF"),
        ("F", "TIFF"),
    ]
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


def jpeg_comment(content: bytes, rng) -> bytes:
    """Adds a comment to a JPEG."""
    text = rng.bytes(20).hex().encode()
    return content[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + content[2:]


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
