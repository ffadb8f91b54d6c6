"""Audio-visual saliency prediction in JAX: where people look in a video, given picture and sound.

Use a model:       load_model, Model, Clip, Prediction
Build a network:   create_model, InputSpec, Waveform, LogMel, Runtime
What went wrong:   AvsalError
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOMES = {
    "load_model": "avsal_jax.inference.predictor",
    "Model": "avsal_jax.inference.predictor",
    "Clip": "avsal_jax.types",
    "Prediction": "avsal_jax.types",
    "create_model": "avsal_jax.models.systems",
    "Runtime": "avsal_jax.models.layers",
    "InputSpec": "avsal_jax.spec.input",
    "Waveform": "avsal_jax.spec.sound",
    "LogMel": "avsal_jax.spec.sound",
    "AvsalError": "avsal_jax.errors",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
