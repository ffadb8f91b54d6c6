"""Audio-visual saliency prediction in JAX: where people look in a video, given picture and sound.

Use a model:       load_model, Model, Clip, Prediction
Build a network:   create_model, InputSpec, Waveform, LogMel, Runtime
Add what is missing:  register, load_plugins
What went wrong:   AvsalError
"""

from __future__ import annotations

from avsal_jax.contents import offered

__version__ = "0.1.0"

_HOMES = {
    "load_model": "avsal_jax.inference.predictor",
    "Model": "avsal_jax.inference.predictor",
    "Clip": "avsal_jax.types",
    "Prediction": "avsal_jax.types",
    "create_model": "avsal_jax.models.systems",
    "Runtime": "avsal_jax.models.layers",
    "InputSpec": "avsal_jax.spec.input",
    "Waveform": "avsal_jax.spec.front_ends",
    "LogMel": "avsal_jax.spec.front_ends",
    "AvsalError": "avsal_jax.errors",
    "register": "avsal_jax.registry",
    "load_plugins": "avsal_jax.plugins",
}
__getattr__, _, __all__ = offered(__name__, _HOMES)
__all__ += ["__version__"]


def __dir__() -> list[str]:
    return sorted(__all__)
