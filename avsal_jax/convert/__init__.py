"""PyTorch and safetensors checkpoints -> model directories.

Write a conversion:  Conversion, Entry, batch_norm, conv_norm
Use one:             convert_checkpoint, verify
"""

from avsal_jax.contents import offered

_HOMES = {
    "Conversion": ".conversion",
    "Entry": ".rules",
    "batch_norm": ".rules",
    "conv_norm": ".rules",
    "convert_checkpoint": ".convert",
    "verify": ".convert",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
