"""One training step of an objective, and random batches for it."""

from __future__ import annotations

import jax
import numpy as np

from avsal_jax.spec.input import InputSpec
from avsal_jax.training.objectives import Objective, StepInputs, joined_variables
from avsal_jax.training.optimizers import Adam, make_optimizer
from avsal_jax.training.state import TrainState, new_state
from avsal_jax.training.step import make_step


def random_clips(spec: InputSpec, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns a batch as the training step takes it: frames, truth, and sound for an audio-visual network."""
    rng = np.random.default_rng(seed)
    density = _blobs(rng.uniform(0.2, 0.8, (batch, 2)), spec.height, spec.width)
    clips = {
        "frames": rng.integers(0, 256, (batch, spec.frames, spec.height, spec.width, 3), np.uint8),
        "density": density,
        "fixations": density > 0.9,
        "mask": np.ones(batch, bool),
    }
    if spec.audio is not None:
        clips["audio"] = rng.standard_normal((batch, *spec.audio.shape), np.float32)
    return clips


def _blobs(centres: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns densities float32 [B, H, W]: a Gaussian around each centre, in shares of the sides."""
    y, x = np.arange(height) / height, np.arange(width) / width
    squares = (y[:, None] - centres[:, :1, None]) ** 2 + (x - centres[:, 1:, None]) ** 2
    return np.exp(-squares / 0.02).astype(np.float32)


def step_inputs(
    batch_stats: dict, batches: dict, step: int = 0, total: int = 10, extra: dict | None = None
) -> StepInputs:
    """Returns what an objective's loss takes besides the parameters, with the key 0."""
    rng = jax.random.key(0)
    return StepInputs(batch_stats, extra=extra or {}, batches=batches, step=step, rng=rng, total=total)


def train_once(objective: Objective, variables: dict, batches: dict) -> tuple[TrainState, dict[str, float]]:
    """Returns the state after one step of Adam, and the values that the step logs.

    Args:
      objective: what is minimised.
      variables: of the network, from `init_variables`.
      batches: by the names of `ObjectiveConfig.streams`.
    """
    variables = joined_variables(variables, objective.extra_variables(0))
    optimizer = make_optimizer(Adam(learning_rate=1e-3), variables["params"], 10)
    step = jax.jit(make_step(objective, optimizer, 10, seed=0, ema=0.0))
    state, values = step(new_state(variables, optimizer, ema=False), batches, np.float32(1))
    return state, {name: float(value) for name, value in values.items()}
