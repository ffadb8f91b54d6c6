"""A generated data set whose sound shows which of several moving objects observers look at.

It replaces licensed sets in tests and experiments; docs/synthetic.md has its formulas and figures. It needs
only NumPy, SciPy and Pillow. `write_synthetic` writes the packaging of STAViS, which the readers of real sets
read.
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
