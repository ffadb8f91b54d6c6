"""`--save features`: recorded features of a few frames, as pictures, arrays and a page."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from avsal_jax.inference.output import FEATURES, Item, Output
from avsal_jax.registry import register

if TYPE_CHECKING:
    from avsal_jax.pages import Section

_PAGE, _FOLDER = "features.html", "features"


@register("output", "features")
class FeaturePages(Output):
    """features.html and the folder features: recorded features of a few frames."""

    files = (_PAGE, _FOLDER)
    needs = frozenset({FEATURES})

    def __init__(self, context):
        super().__init__(context)
        self._sections: list[Section] = []

    def add(self, item: Item) -> None:
        """Writes `FRAME/NAME.png` for each feature and `FRAME.npz`, and a second .npz for a second sound."""
        import numpy as np
        from PIL import Image

        from avsal_jax.inference.feature_pages import sections_of

        for values, suffix in zip(item.features.sounds.values(), ("", "-compared"), strict=False):
            np.savez_compressed(self.path(f"{_FOLDER}/{item.name}{suffix}.npz"), **values)
        sections, pictures = sections_of(item)
        for name, picture in pictures.items():
            Image.fromarray(picture).save(self.path(f"{_FOLDER}/{item.name}/{name}.png"))
        self._sections += sections

    def finish(self, summary: dict, card: dict) -> None:
        """Writes the page."""
        from avsal_jax.pages import render_page

        recorded = summary[FEATURES]
        lead = (
            f"What the network recorded for {len(recorded['frames'])} frames: {', '.join(recorded['names'])}."
        )
        page = render_page(f"Features of {summary['source']}", lead, self._sections)
        self.path(_PAGE).write_text(page, encoding="utf-8")

    @classmethod
    def message(cls, summary: dict, folder: pathlib.Path) -> str:
        """Returns a line with the path of the page."""
        return f"features of {len(summary[FEATURES]['frames'])} frames in {folder / _PAGE}"
