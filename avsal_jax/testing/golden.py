"""Weights and inputs of the golden files, made from names and seeds alone.

A golden file lists state-dict names with shapes, and what a public PyTorch implementation computed
with the weights that `fill` makes. So the same weights can be made anywhere, without a download.
"""

from __future__ import annotations

import zlib

import numpy as np


def fill(name: str, shape) -> np.ndarray:
    """Returns the array for state-dict entry `name` of `shape` (PyTorch layout)."""
    rng = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
    shape = tuple(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.array(1, np.int64)
    if leaf == "running_mean":
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if leaf == "bias" or leaf.endswith("_bias"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    gain = 1.0 if shape[0] > 1 else 0.05  # keeps the single-channel logits away from saturation
    fan_in = int(np.prod(shape[1:]))
    return (rng.standard_normal(shape) * gain * np.sqrt(2.0 / fan_in)).astype(np.float32)


def inputs(frames: int = 32):
    """Returns float32 inputs in PyTorch's layout: clip [1, 3, frames, 224, 384], wave [1, 1, 70560, 1]."""
    rng = np.random.RandomState(0)
    clip = rng.standard_normal((1, 3, 32, 224, 384)).astype(np.float32)
    wave = (rng.standard_normal((1, 1, 70560, 1)) * 8).astype(np.float32)
    return np.ascontiguousarray(clip[:, :, :frames]), wave


def disagreement(array: np.ndarray, golden: dict) -> float:
    """Returns the largest difference at the probes of a golden output, over its absolute maximum.

    `array` is in PyTorch's layout; its mean and standard deviation count as probes too.
    """
    if list(array.shape) != golden["shape"]:
        raise AssertionError(f"shape {array.shape}, golden {golden['shape']}")
    at_probes = np.abs(array.ravel()[golden["probe_index"]] - np.array(golden["probe"])).max()
    moments = max(abs(array.mean(dtype=np.float64) - golden["mean"]), abs(array.std() - golden["std"]))
    return float(max(at_probes, moments) / golden["absmax"])


def tone(seed: int, samples: int) -> np.ndarray:
    """Returns the mono float64 waveform in [-0.5, 0.5) of the golden audio cases: noise with a slow tone."""
    rng = np.random.RandomState(seed)
    t = np.arange(samples)
    return 0.25 * (rng.rand(samples) * 2.0 - 1.0) + 0.25 * np.sin(2.0 * np.pi * 0.02 * t)
