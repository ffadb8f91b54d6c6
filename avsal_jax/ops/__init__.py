"""Pure functions on arrays, as a table of contents.

Shapes are channels-last. Letters: B batch, T frames, H height, W width, C channels.
"""

from avsal_jax.contents import offered

_HOMES = {
    **dict.fromkeys(("conv2d", "conv3d", "conv_transpose3d"), ".convolution"),
    **dict.fromkeys(("max_pool3d", "avg_pool3d"), ".pooling"),
    **dict.fromkeys(("attention_weights", "attended", "sinusoids"), ".attention"),
    **dict.fromkeys(("reverse_gradient", "reversal_ramp"), ".gradient_reversal"),
    **dict.fromkeys(("gaussian_kernel", "gaussian_blur"), ".blur"),
    "depthwise_conv2d": ".depthwise",
    "local_importance_pool": ".local_importance_pooling",
    "normalize_pixels": ".pixels",
    "resize_linear": ".resize",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
