"""Numbers in headers: any of a header's fields becomes an extreme, or nearly what it was."""

from __future__ import annotations


def write_field(array: bytearray, places, order: str, rng) -> None:
    """Changes one of `places`, (first byte, number of bytes), of the order `<` or `>`."""
    place, size = places[rng.integers(len(places))]
    if place < 0 or place + size > len(array):
        return
    endian = "big" if order == ">" else "little"
    before = int.from_bytes(array[place : place + size], endian)
    value = [
        0,
        1,
        2,
        3,
        8,
        -1,
        2 ** (8 * size - 1) - 1,
        2 ** (8 * size - 1),
        before + 1,
        before - 1,
        2 * before,
        before // 2,
        before * 1_000,
        int(rng.integers(2**16)),
    ][rng.integers(14)]
    array[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, endian)
