"""`--save maps`: numbered map images."""

from __future__ import annotations

import pathlib

from avsal_jax.inference.output import GREY, Item, Output
from avsal_jax.registry import register


@register("output", "maps")
class MapImages(Output):
    """maps/%06d.png: 8-bit grey at the size of the frame, from minimum to maximum; frames count from 1."""

    files = ("maps",)
    needs = frozenset({GREY})
    is_default = True
    has_file_per_picture = True
    stores = frozenset({GREY})

    def add(self, item: Item) -> list[str]:
        """Writes the map of a frame or photograph."""
        from avsal_jax.pictures import grey_png

        file = _file(item.name)
        self.path(file).write_bytes(grey_png(item.grey))
        return [file]

    def stored(self, folder: pathlib.Path, name: str):
        """Returns the map of a photograph: uint8 [h, w]."""
        import numpy as np
        from PIL import Image

        with Image.open(folder / _file(name)) as image:
            return np.asarray(image)


def _file(name: str) -> str:
    return f"maps/{name}.png"
