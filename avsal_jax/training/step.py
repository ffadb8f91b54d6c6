"""The training step, which discards updates that are not finite, and the validation step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from avsal_jax import losses
from avsal_jax.losses import Term
from avsal_jax.metrics import find_metric
from avsal_jax.models.network import SALIENCY, Network
from avsal_jax.training.objectives.objective import Objective, StepInputs, clip_of
from avsal_jax.training.state import TrainState, step_key
from avsal_jax.training.validation_values import LOSS


def make_step(objective: Objective, optimizer, total: int, seed: int, ema: float):
    """Returns a pure function step(state, batches, plateau_scale) -> (state, values to log), to be jitted.

    Under `jit` on a mesh, means over clips are over the global batch.

    If the loss or the gradient is not finite, the step keeps the old state and stores its number in `failed`.
    All later steps then keep the state too. The selection is made on the device.
    """

    def step(state: TrainState, batches: dict, plateau_scale):
        inputs = StepInputs(
            state.batch_stats,
            extra=state.extra,
            batches=batches,
            step=state.step,
            rng=step_key(seed, state.step, "inner updates"),
            total=total,
        )
        start, inputs = objective.inner_updates(state.params, inputs)
        inputs = inputs.replace(rng=step_key(seed, state.step, "dropout"))

        def loss(params):
            return objective.loss(params, inputs)

        (value, outputs), gradients = jax.value_and_grad(loss, has_aux=True)(start)
        norm = optax.tree.norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, start, plateau_scale=plateau_scale)
        params = optax.apply_updates(start, updates)
        averaged = jax.tree.map(lambda a, p: ema * a + (1 - ema) * p, state.ema, params) if ema else {}
        fine = (state.failed < 0) & jnp.isfinite(value) & jnp.isfinite(norm)
        new = TrainState(
            state.step + 1,
            failed=state.failed,
            params=params,
            batch_stats=outputs.batch_stats,
            opt_state=opt_state,
            ema=averaged,
            extra=outputs.extra,
        )
        old = state.replace(failed=jnp.where(state.failed < 0, state.step, state.failed))
        state = jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, old)
        return state, {"loss": value, "gradient_norm": norm, **outputs.values, "failed": state.failed}

    return step


def make_validation_step(
    network: Network, terms: tuple[Term, ...], medium: str = "video", metrics: tuple[str, ...] = ()
):
    """Returns step(params, batch_stats, batch) -> (loss, metrics and `mask` [B] by name, maps [B, H, W])."""

    def step(params, batch_stats, batch):
        logits = _logits(network, params=params, batch_stats=batch_stats, batch=batch, medium=medium)
        per_clip, _ = losses.weighted(
            logits, density=batch["density"], fixations=batch["fixations"], terms=terms
        )
        saliency = jax.nn.sigmoid(logits.astype(jnp.float32))
        scores = {name: find_metric(name).validation(saliency, batch) for name in metrics}
        return {LOSS: per_clip, **scores, "mask": batch["mask"]}, saliency

    return step


def make_prediction_step(network: Network, medium: str = "video"):
    """Returns step(params, batch_stats, batch) -> maps float32 [B, H, W], for `validation.NativeStep`."""

    def step(params, batch_stats, batch):
        logits = _logits(network, params=params, batch_stats=batch_stats, batch=batch, medium=medium)
        return jax.nn.sigmoid(logits.astype(jnp.float32))

    return step


def _logits(network: Network, params, batch_stats, batch: dict, medium: str) -> jax.Array:
    variables = {"params": params, "batch_stats": batch_stats}
    return network.run(variables, clip_of(batch, medium)).logits[SALIENCY]
