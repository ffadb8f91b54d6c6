"""From videos and photographs to maps, files and pages.

Predict:           load_model, Model, predict_file, Settings, FeatureSettings
Write an output:   Output, Item, Context
"""

from avsal_jax.contents import offered

_HOMES = {
    "load_model": ".predictor",
    "Model": ".predictor",
    "predict_file": ".predict",
    "Settings": ".settings",
    "FeatureSettings": ".features",
    "Output": ".output",
    "Item": ".output",
    "Context": ".output",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
