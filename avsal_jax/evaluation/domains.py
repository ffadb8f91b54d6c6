"""Can two domains be told apart by a network's features? A fresh discriminator on frozen ones says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from avsal_jax.errors import AvsalError
from avsal_jax.models.domain import DomainDiscriminator
from avsal_jax.models.initial import fresh_variables

STEPS = 1600  # of a fresh discriminator; one of 400 had not learnt yet what tells domains nearly alike
_BATCH = 32  # of either domain


def separability(
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    channels: tuple[int, ...],
    steps: int = STEPS,
    rate: float = 1e-3,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns balanced accuracies of a fresh discriminator, in [0, 1]: on held-out clips, and on its own.

    It is a `DomainDiscriminator`, trained by Adam on balanced batches of `train` at a rate that falls to zero
    by a cosine (at a constant one the result hangs on the last few steps), and then judged with its running
    statistics. Tokens are scaled to mean 0 and deviation 1 of the training clips.

    Args:
      train, held_out: tokens [clips, N, C] of (source, target); of unlike videos.
      channels: of the discriminator.
      steps, rate, seed: of its training.

    Raises:
      AvsalError: a domain without clips, or tokens of unlike shapes.
    """
    shapes = {part.shape[1:] for part in (*train, *held_out)}
    if len(shapes) > 1 or not all(len(part) for part in (*train, *held_out)):
        sizes = ", ".join(str(part.shape) for part in (*train, *held_out))
        raise AvsalError(f"tokens [clips, N, C] of both domains shall be alike, with a clip; got {sizes}")
    both = np.concatenate(train)
    mean, deviation = both.mean(), both.std() + 1e-6
    train, held_out = (
        [((part - mean) / deviation).astype(np.float32) for part in parts] for parts in (train, held_out)
    )
    variables = _trained(DomainDiscriminator(channels), train=train, steps=steps, rate=rate, seed=seed)
    judge = jax.jit(DomainDiscriminator(channels).apply)

    def accuracy(source, target):
        source, target = (np.asarray(judge(variables, part)) for part in (source, target))
        return float((np.mean(source > 0) + np.mean(target < 0)) / 2)

    return accuracy(*held_out), accuracy(*train)


def _trained(discriminator: DomainDiscriminator, train, steps, rate, seed) -> dict:
    variables = fresh_variables(lambda key: discriminator.init(key, train[0][:1]), seed)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    @jax.jit
    def step(variables, state, tokens):
        def loss(params):
            logits, new = discriminator.apply(
                {**variables, "params": params}, tokens, train=True, mutable=["batch_stats"]
            )
            source, target = jnp.split(logits, 2)
            return jnp.mean(jax.nn.softplus(-source)) + jnp.mean(jax.nn.softplus(target)), new

        gradients, new = jax.grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(gradients, state)
        return {"params": optax.apply_updates(variables["params"], updates), **new}, state

    state, draws = optimizer.init(variables["params"]), np.random.RandomState(seed)
    for _ in range(steps):
        rows = [part[draws.randint(len(part), size=_BATCH)] for part in train]
        variables, state = step(variables, state, np.concatenate(rows))
    return variables
