"""Domain discriminators: layers of the paper, statistics over both domains, the reversed gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax.models.domain import CHANNELS, DomainDiscriminator
from avsal_jax.models.initial import fresh_variables
from avsal_jax.ops.gradient_reversal import reverse_gradient

RNG = np.random.default_rng(0)


def fresh(module, tokens, seed=0):
    return fresh_variables(lambda key: module.init(key, tokens), seed)


@pytest.mark.parametrize(
    ("feature", "shape", "sizes"),
    [  # three 1x1 convolutions, then 16 channels of all tokens through three linear maps
        ("audio", (3, 1024), [(1024, 512), (512, 64), (64, 16), (48, 64), (64, 16), (16, 1)]),
        ("fused", (42, 512), [(512, 128), (128, 64), (64, 16), (672, 64), (64, 16), (16, 1)]),
    ],
)
def test_layers_at_the_sizes_of_the_paper(feature, shape, sizes):
    module = DomainDiscriminator(CHANNELS[feature])
    variables = fresh(module, np.zeros((2, *shape), np.float32))
    names = ("conv1", "conv2", "conv3", "full1", "full2", "full3")  # all but the last with batch norm
    leaves = [variables["params"][name] for name in names]
    assert [part.get("projection", part.get("kernel")).shape for part in leaves] == sizes
    norms = 2 * sum(b for _, b in sizes[:-1])
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == sum(a * b + b for a, b in sizes) + norms
    logits = jax.jit(module.apply)(variables, RNG.standard_normal((5, *shape), np.float32))
    assert logits.shape == (5,) and logits.dtype == jnp.float32


def test_norms_see_both_domains_together():
    """Domains that differ by an offset alone differ in one call, and are one and the same in two."""
    module = DomainDiscriminator((8, 8, 8), (4, 4))
    source = RNG.standard_normal((6, 3, 16)).astype(np.float32)
    target = source + 5
    variables = fresh(module, source)

    @jax.jit
    def scores(tokens):
        return module.apply(variables, tokens, True, mutable=["batch_stats"])[0]

    together = scores(np.concatenate([source, target]))
    assert np.abs(together[:6] - together[6:]).max() > 0.1
    np.testing.assert_allclose(scores(source), scores(target), atol=1e-3)


def test_behind_a_reversal_the_encoder_climbs_what_the_discriminator_descends():
    module = DomainDiscriminator((8, 8, 8), (4, 4))
    x = RNG.standard_normal((6, 3, 16)).astype(np.float32)
    variables, is_source = fresh(module, x), np.arange(6) < 3

    def loss(params, weights, strength):
        tokens = x @ weights if strength is None else reverse_gradient(x @ weights, strength)
        all_variables = {**variables, "params": params}
        logits = module.apply(all_variables, tokens, True, mutable=["batch_stats"])[0]
        return jnp.where(is_source, jax.nn.softplus(-logits), jax.nn.softplus(logits)).mean()

    weights = np.eye(16, dtype=np.float32)
    gradients = jax.jit(jax.grad(loss, (0, 1)))
    plain = gradients(variables["params"], weights, None)
    reversed_ = gradients(variables["params"], weights, 0.5)
    jax.tree.map(np.testing.assert_array_equal, plain[0], reversed_[0])
    assert np.abs(plain[1]).max() > 0
    np.testing.assert_allclose(reversed_[1], -0.5 * plain[1], rtol=1e-5, atol=1e-7)


def test_a_discriminator_recovers_from_features_that_moved_away():
    """Its hidden units do not die: whatever its biases have become, all of its layers have gradients."""
    module = DomainDiscriminator((8, 8, 8), (4, 4))
    x = RNG.standard_normal((6, 3, 16)).astype(np.float32)
    variables = fresh(module, x)
    params = jax.tree.map_with_path(
        lambda path, leaf: (
            leaf - 100.0 if path[0].key.endswith(("1", "2")) and path[-1].key == "bias" else leaf
        ),
        variables["params"],
    )

    def loss(params):
        all_variables = {**variables, "params": params}
        return module.apply(all_variables, x, True, mutable=["batch_stats"])[0] @ np.arange(6.0)

    gradients = jax.jit(jax.grad(loss))(params)
    for name, layer in gradients.items():
        if not name.endswith("norm"):
            assert np.abs(layer["projection"]).max() > 1e-6, name
