"""Separability of two domains: the accuracy of a new discriminator on frozen features of a network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from avsal_jax.errors import AvsalError
from avsal_jax.models.domain import DomainDiscriminator
from avsal_jax.models.initial import fresh_variables

STEPS = 1600  # training steps of the discriminator; 400 are too few for domains that are nearly equal
_BATCH = 32  # clips per domain


def separability(
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    channels: tuple[int, ...],
    steps: int = STEPS,
    rate: float = 1e-3,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns balanced accuracies of a new discriminator, in [0, 1]: on held-out and on training clips.

    A `DomainDiscriminator` is trained by Adam on balanced batches of `train`, with a cosine decay of the
    learning rate to zero (with a constant rate the result depends on the last few steps), and evaluated with
    its running statistics. Tokens are normalised by mean and standard deviation of the training clips.

    Args:
      train, held_out: tokens [clips, N, C] of (source, target); of different videos.
      channels: of the discriminator.
      steps, rate, seed: number of training steps, initial learning rate, random seed.

    Raises:
      AvsalError: a domain without clips, or tokens of different shapes.
    """
    shapes = {part.shape[1:] for part in (*train, *held_out)}
    if len(shapes) > 1 or not all(len(part) for part in (*train, *held_out)):
        sizes = ", ".join(str(part.shape) for part in (*train, *held_out))
        raise AvsalError(
            f"tokens [clips, N, C] of both domains must have one [N, C] and at least one clip; got {sizes}"
        )
    tokens = np.concatenate(train)
    mean, deviation = tokens.mean(), tokens.std() + 1e-6
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
