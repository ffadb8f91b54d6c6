"""Networks and their parts, as a table of contents.

A network:      Network, create_model, resolve, Preset, System, systems, init_variables, Runtime
A part:         Part, Fusion, Limit, and the types of its fields: Width, Channels, Count, Dropout
Layers:         Conv2D, Conv3D, ConvTranspose3D, ConvNorm, Linear, Norm, SeparableConv, scaled
Initial values: Weights, Constant, BEFORE_RELU, ZEROS, ONES
"""

from avsal_jax.contents import offered

_HOMES = {
    **dict.fromkeys(("Network", "SALIENCY", "init_variables", "abstract_variables"), ".network"),
    **dict.fromkeys(("create_model", "resolve", "build", "Preset", "System", "systems"), ".systems"),
    **dict.fromkeys(("Part", "Limit"), ".part"),
    "Fusion": ".fusion.fusion",
    **dict.fromkeys(("Runtime", "Width", "Channels", "Count", "Dropout", "scaled"), ".layers"),
    **dict.fromkeys(("Conv2D", "Conv3D", "ConvTranspose3D", "ConvNorm", "Linear", "Norm"), ".layers"),
    **dict.fromkeys(("SeparableConv", "layer_norm"), ".layers"),
    **dict.fromkeys(("Weights", "Constant", "BEFORE_RELU", "ZEROS", "ONES"), ".initial"),
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
