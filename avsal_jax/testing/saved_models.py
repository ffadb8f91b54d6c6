"""Small model directories of earlier versions, and what their networks gave: for tests of compatibility."""

from __future__ import annotations

import json
import pathlib
import zlib

import jax
import numpy as np

from avsal_jax.models.network import SALIENCY
from avsal_jax.spec.input import InputSpec
from avsal_jax.storage import StoredModel
from avsal_jax.types import Clip

EXPECTED = "expected.json"  # in the folder of `model.json`
_PROBES = 96  # values that are recorded of an output


def random_values(abstract: dict) -> dict:
    """Returns float32 arrays for a tree of shapes. No leaf is neutral; each depends on its path alone."""
    draws = {
        "bias": lambda rng, shape: 0.1 * rng.standard_normal(shape),
        "mean": lambda rng, shape: 0.1 * rng.standard_normal(shape),
        "scale": lambda rng, shape: rng.uniform(0.5, 1.5, shape),
        "var": lambda rng, shape: rng.uniform(0.5, 1.5, shape),
    }

    def kernel(rng, shape):
        return rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[:-1])))

    def fill(path, leaf):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        return draws.get(path[-1].key, kernel)(rng, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, abstract)


def random_clip(spec: InputSpec, picture: bool) -> Clip:
    """Returns one clip of noise as the network takes it, without frames for a part that takes audio only."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, spec.frames, spec.height, spec.width, 3), np.uint8)
    sound = rng.standard_normal((1, *spec.audio.shape), np.float32) if spec.audio else None
    return Clip(frames if picture else None, sound)


def outputs_of(model: StoredModel) -> dict[str, np.ndarray]:
    """Returns the logits of a clip; of a part, which has none, all its features."""
    spec, is_part = model.preset.input, model.preset.kind == "part"
    clip = random_clip(spec, model.network.visual_encoder is not None)
    features = None if is_part else ()
    run = jax.jit(model.network.run, static_argnames="features")
    outputs = run(model.variables, clip, features=features)
    if not is_part:
        return {"logits": np.asarray(outputs.logits[SALIENCY])}
    deepest_first = sorted(outputs.features.items(), key=lambda item: -item[0].count("/"))
    features = {path.rpartition("/")[2]: value for path, value in deepest_first}  # an outer module's counts
    leaves = jax.tree_util.tree_leaves_with_path(features)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def probes(values: np.ndarray) -> dict:
    """Returns what is recorded of an output: its shape, largest absolute value, and evenly spread values."""
    index = np.linspace(0, values.size - 1, min(_PROBES, values.size)).astype(int)
    return {
        "shape": list(values.shape),
        "absmax": float(np.abs(values).max()),
        "values": values.ravel()[index].tolist(),
    }


def largest_error(outputs: dict[str, np.ndarray], folder: pathlib.Path) -> float:
    """Returns the largest difference from the recorded outputs, over their largest absolute values.

    Raises:
      AssertionError: other outputs, or other shapes.
    """
    expected = json.loads((folder / EXPECTED).read_text())
    shapes = {name: list(values.shape) for name, values in outputs.items()}
    if shapes != {name: output["shape"] for name, output in expected.items()}:
        raise AssertionError(f"{folder.name} gives {shapes}")
    errors = []
    for name, output in expected.items():
        values = np.array(probes(outputs[name])["values"])
        errors.append(np.abs(values - output["values"]).max() / output["absmax"])
    return float(max(errors))
