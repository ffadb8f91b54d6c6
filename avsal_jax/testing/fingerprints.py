"""The network of a config row in a few numbers: parameters, initial values, outputs."""

from __future__ import annotations

import dataclasses
import zlib

import jax
import numpy as np

from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import SALIENCY, abstract_variables, init_variables
from avsal_jax.models.renamings import earlier_path
from avsal_jax.models.systems import Preset, build
from avsal_jax.storage import flatten
from avsal_jax.testing.saved_models import random_clip
from avsal_jax.training import recipes
from avsal_jax.training.schema import build_config

_PROBES = 8
_SMALL_ENCODER = {"name": "small", "width": 1 / 16}


def rows() -> list[str]:
    """Returns every shipped config and every row of it, as `avsal train --config` takes them."""
    names = []
    for name in recipes.shipped():
        names += [name, *(f"{name}:{row}" for row in recipes.recipe(name).rows)]
    return names


def presets(row: str) -> tuple[Preset, Preset]:
    """Returns the network of a config row, and the same at small width and size (the variant `smoke`)."""
    small = f"{row},smoke" if ":" in row else f"{row}:smoke"
    texts = (row, small)
    return tuple(build_config(recipes.config(text).to_dict()).model.preset().complete() for text in texts)


def parameters(preset: Preset) -> dict[str, int]:
    """Returns the number of leaves, and a check sum of their first paths and their shapes."""
    flat = {earlier_path(path): leaf for path, leaf in flatten(abstract_variables(build(preset))).items()}
    lines = "\n".join(f"{path} {tuple(leaf.shape)}" for path, leaf in sorted(flat.items()))
    return {"leaves": len(flat), "tree": zlib.crc32(lines.encode())}


def initial_values(preset: Preset) -> int:
    """Returns a check sum of the initial values of seed 0, leaf by leaf in the order of their first paths."""
    values = flatten(init_variables(build(preset), 0))
    total = 0
    for path, leaf in sorted((earlier_path(path), leaf) for path, leaf in values.items()):
        total = zlib.crc32(np.asarray(leaf).tobytes(), zlib.crc32(path.encode(), total))
    return total


def logits(preset: Preset) -> np.ndarray:
    """Returns the logits of one clip of noise, with initial values and a small encoder in place of S3D.

    In float64, so that they are the same on every processor to some 1e-7, the rounding of the result. Needs
    `parts.small_parts`.
    """
    thin = dataclasses.replace(preset, parts={**preset.parts, "visual_encoder": _SMALL_ENCODER})
    values = init_variables(build(thin), 0)
    with jax.enable_x64(True):
        network = build(thin, Runtime(dtype=np.dtype("float64")))
        return np.asarray(jax.jit(network.run)(values, random_clip(thin.input, True)).logits[SALIENCY])


def probes(values: np.ndarray) -> dict:
    """Returns what is recorded of logits: shape, largest absolute value, and evenly spread values."""
    index = np.linspace(0, values.size - 1, _PROBES).astype(int)
    return {
        "shape": list(values.shape),
        "absmax": float(np.abs(values).max()),
        "values": values.ravel()[index].astype(np.float64).tolist(),
    }
