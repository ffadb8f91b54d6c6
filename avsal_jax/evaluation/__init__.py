"""Evaluation of whole data sets.

For a plugin: a `Baseline` gives a `MapSource` (`Constant` is one) for a `BaselineRequest`; a `Protocol` says
what happens to maps and truth before the metrics. Metrics are in `avsal_jax.metrics`.
"""

from avsal_jax.contents import offered

_HOMES = {
    "Baseline": ".baseline",
    "BaselineRequest": ".baseline",
    "Constant": ".baselines",
    "GazeGrid": ".gaze_grid",
    "MapSource": ".map_sources",
    "Protocol": ".protocols",
    "Trial": ".map_sources",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
