"""A generated data set with sound that tells which of several moving objects observers look at.

It stands in for licensed sets in tests and experiments; docs/synthetic.md has its formulas and its figures.
NumPy, SciPy and Pillow alone; `write_synthetic` writes the packaging of STAViS, and the readers of real sets
read it.
"""

from avsal_jax.data.synthetic.files import read_scene, read_settings
from avsal_jax.data.synthetic.settings import GRADES, PRESETS, SyntheticSettings, settings_from
from avsal_jax.data.synthetic.sheet import contact_sheet
from avsal_jax.data.synthetic.writing import write_synthetic

__all__ = [
    "GRADES",
    "PRESETS",
    "SyntheticSettings",
    "contact_sheet",
    "read_scene",
    "read_settings",
    "settings_from",
    "write_synthetic",
]
