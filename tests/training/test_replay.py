"""The memory of domain discriminators against a queue, and their own updates against optax in a loop."""

import jax
import numpy as np
import optax
import pytest

from avsal_jax.models.domain import DomainDiscriminator
from avsal_jax.training.objectives.domain_adversarial import domain_loss
from avsal_jax.training.objectives.replay import UPDATE_CLIPS, remembered, replay_state, updated


def test_a_memory_holds_the_last_clips_of_either_domain():
    """Against a queue. At first, clips of the current step fill the rows that the memory lacks."""
    steps = np.random.default_rng(0).standard_normal((4, 2 * 3, 2, 5)).astype(np.float32)  # 3 + 3 clips
    memory, queue = np.zeros((7, 2, 2, 5), np.float32), []
    for step, tokens in enumerate(steps):
        clips, memory = remembered(memory, tokens, step)
        source, target = np.asarray(clips)[::2], np.asarray(clips)[1::2]
        assert len(source) == len(target) == 7
        for row in range(7):
            pair = queue[row] if row < len(queue) else (tokens[2 * (row % 3)], tokens[2 * (row % 3) + 1])
            np.testing.assert_array_equal(source[row], pair[0])
            np.testing.assert_array_equal(target[row], pair[1])
        queue = ([(tokens[2 * n], tokens[2 * n + 1]) for n in range(3)] + queue)[:7]


@pytest.fixture(scope="module")
def judge():
    """A discriminator, its variables, and a memory of domains that differ by the mean of one channel."""
    module, tokens = DomainDiscriminator((8, 8, 4), (8, 4)), (2, 6)
    variables = jax.tree.map(np.asarray, module.init(jax.random.key(0), np.zeros((2, *tokens))))
    memories = replay_state(variables["params"], tokens, 40, 3)
    memory = np.random.default_rng(0).standard_normal((40, 2, *tokens)).astype(np.float32)
    memory[:, 0, :, 0] += 2
    return module, variables["params"], variables["batch_stats"], {**memories, "memory": memory}


@pytest.fixture(scope="module")
def update(judge):
    """Returns a jitted `updated`: three updates at rate .01, with 16 new clips of each domain per step."""

    @jax.jit
    def run(params, norms, memories, step):
        key = jax.random.key(1)
        return updated(
            judge[0], lambda z: domain_loss(z[::2], z[1::2]), params, norms, memories, step, 16, 3, 0.01, key
        )

    return run


def test_updates_of_a_discriminator_are_those_of_adam_on_remembered_clips(judge, update):
    """Against optax's whole optimizer in a loop, on the rows that were drawn."""
    module, params, norms, memories = judge
    optimizer = optax.adam(0.01, b1=0.5)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, norms, tokens):
        def loss(p):
            variables = {"params": p, "batch_stats": norms}
            logits, new = module.apply(variables, tokens, train=True, mutable=["batch_stats"])
            return domain_loss(logits[::2], logits[1::2]), new["batch_stats"]

        gradients, norms_after = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, norms_after

    for number in range(3):  # after a step, 16 clips are remembered
        rows = jax.random.randint(jax.random.fold_in(jax.random.key(1), number), (2, UPDATE_CLIPS), 0, 16)
        source, target = memories["memory"][rows[0], 0], memories["memory"][rows[1], 1]
        tokens = np.stack([source, target], 1).reshape(2 * UPDATE_CLIPS, *source.shape[1:])
        params, state, norms = step(params, state, norms, tokens)
    params_after, new, new_memories = update(*judge[1:], 1)
    assert set(new) == set(norms) and set(new_memories) == set(memories)
    for name in ("conv1", "conv3", "full2"):  # a bias before a norm has no gradient but what rounding leaves
        np.testing.assert_allclose(params_after[name]["projection"], params[name]["projection"], atol=1e-4)
    var = [[n["batch"]["var"] for n in (s["conv1_norm"], s["full2_norm"])] for s in (new, norms)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), *var)
    assert np.abs(params_after["conv1"]["projection"] - judge[1]["conv1"]["projection"]).max() > 0.02


def test_updates_teach_it_and_the_first_step_has_none(judge, update):
    params, norms, memories = update(*judge[1:], 0)
    jax.tree.map(np.testing.assert_array_equal, (params, norms, memories), judge[1:])
    module, source = judge[0], judge[3]["memory"]
    for step in range(1, 30):
        params, norms, memories = update(params, norms, memories, step)
    logits = [module.apply({"params": params, "batch_stats": norms}, source[:, n]) for n in (0, 1)]
    assert np.mean(logits[0] > 0) > 0.9 and np.mean(logits[1] < 0) > 0.9
