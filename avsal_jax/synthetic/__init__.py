"""A generated data set with sound that tells which of several moving objects observers look at.

It stands in for licensed sets in tests and experiments; docs/synthetic.md has its formulas and its figures.
NumPy, SciPy and Pillow alone; `write_synthetic` writes the packaging of STAViS, and the readers of real sets
read it.
"""

from __future__ import annotations

from avsal_jax.contents import offered

_HOMES = {
    "GRADES": ".settings",
    "PRESETS": ".settings",
    "SyntheticSettings": ".settings",
    "contact_sheet": ".sheet",
    "read_scene": ".layout",
    "read_settings": ".layout",
    "settings_from": ".settings",
    "write_synthetic": ".writing",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
