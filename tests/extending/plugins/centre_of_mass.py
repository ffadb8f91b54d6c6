"""An output of `avsal predict`: where the centre of mass of each map is, as a table.

avsal predict clip.mp4 --plugin centre_of_mass.py --save maps,centre_of_mass --output out
"""

import csv

import numpy as np

from avsal_jax import register
from avsal_jax.inference import Context, Item, Output

AVSAL_API = "1.0"

FILE = "centre_of_mass.csv"


@register("output", "centre_of_mass")
class CentreOfMass(Output):
    """centre_of_mass.csv: of each map, x from 0 (left) to 1 (right), y from 0 (top) to 1 (bottom)."""

    files = (FILE,)
    needs = frozenset({"map"})

    def __init__(self, context: Context):
        super().__init__(context)
        self._file = self.path(FILE).open("w", newline="", encoding="utf-8")
        self._table = csv.writer(self._file)
        self._table.writerow(("name", "seconds", "x", "y"))

    def add(self, item: Item) -> None:
        height, width = item.saliency.shape
        weights = item.saliency / item.saliency.sum()
        x = float(weights.sum(0) @ ((np.arange(width) + 0.5) / width))
        y = float(weights.sum(1) @ ((np.arange(height) + 0.5) / height))
        self._table.writerow((item.name, f"{item.time:.3f}", f"{x:.4f}", f"{y:.4f}"))

    def close(self, ok: bool) -> None:
        self._file.close()
