"""The objective of two domains against what its parts give one by one: rows, strength, direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import Waveform, losses
from avsal_jax.losses import Term
from avsal_jax.models.domain import CHANNELS, DomainDiscriminator
from avsal_jax.models.fusion.concatenation import Concatenation
from avsal_jax.testing.models import fusing_probe
from avsal_jax.testing.training import step_inputs
from avsal_jax.training.objectives.domain_adversarial import (
    AdaptedFeature,
    DomainAdversarial,
    DomainAdversarialConfig,
    variables_of,
)
from avsal_jax.types import Clip

CLIPS, NAMES = 3, ("audio", "fused")


@pytest.fixture(scope="module")
def model():
    """A network without batch norm, so that each clip's map is its own."""
    return fusing_probe(Concatenation(), Waveform(500), channels=4)


@pytest.fixture(scope="module")
def batches(model):
    rng, spec = np.random.default_rng(0), model.spec

    def clips():
        places = rng.integers(0, 256, (CLIPS, 1, spec.height // 8, spec.width // 8, 3), np.uint8)
        return {
            "frames": places.repeat(spec.frames, 1).repeat(8, 2).repeat(8, 3),
            "audio": rng.uniform(10, 100, (CLIPS, 1)).astype(np.float32) * np.ones((1, 500), np.float32),
        }

    truth = rng.random((CLIPS, spec.height, spec.width), np.float32)
    labels = {"density": truth, "fixations": truth > 0.9, "mask": np.ones(CLIPS, bool)}
    return {"labelled": {**clips(), **labels}, "target": clips()}


@pytest.fixture(scope="module")
def objective(model):
    def make(**adapt):
        config = DomainAdversarialConfig(sources=("any",), **adapt)
        return DomainAdversarial(model.network, (Term("kl"),), config)

    return make


@pytest.fixture(scope="module")
def variables(model, objective):
    """Weights of the network are large, so that its maps differ from clip to clip."""
    network, extra = model.variables, objective().extra_variables(0)
    large = jax.tree.map(lambda leaf: 10 * leaf, network["params"])
    return large | extra["params"], network.get("batch_stats", {}) | extra["batch_stats"]


def separately(model, batches, params, stats, share=1.0):
    """Returns KL of the source's maps, and the domain losses, each part run alone.

    A `share` of the gradient reaches what the network makes of source clips.
    """
    outputs = {
        side: model.network.run({"params": params}, Clip(batch["frames"], batch["audio"]), features=NAMES)
        for side, batch in batches.items()
    }
    saliency = jax.nn.sigmoid(outputs["labelled"].logits["saliency"])
    kl = losses.kl(saliency, batches["labelled"]["density"]).mean()
    domains = {}
    for name in NAMES:
        source, target = (outputs[side].features[name] for side in ("labelled", "target"))
        source = share * source + (1 - share) * jax.lax.stop_gradient(source)
        tokens = jnp.concatenate([source, target])
        variables = {"params": params[variables_of(name)], "batch_stats": stats[variables_of(name)]}
        judge = DomainDiscriminator(CHANNELS[name])
        logits, _ = judge.apply(variables, tokens, train=True, mutable=["batch_stats"])
        d = jax.nn.sigmoid(logits)
        domains[name] = -jnp.log(d[:CLIPS]).mean() - jnp.log(1 - d[CLIPS:]).mean()  # Eqs. 2 and 3
    return kl, domains


def gradient_of(objective, batches, variables, step=0, total=10):
    params, stats = variables

    def loss(params):
        return objective.loss(params, step_inputs(stats, batches, step, total))

    (_, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return outputs.values, gradient


@pytest.fixture(scope="module")
def plain(batches, objective, variables):
    """Values and gradient with the paper's settings; compiled once."""
    return gradient_of(objective(), batches, variables)


def close(actual, expected):
    """Compares two trees of gradients, with a tolerance from the largest number of all leaves.

    A tolerance for each leaf would fail: gradients of biases before a batch norm are only rounding.
    """
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * largest)


def test_saliency_is_scored_on_source_clips_and_each_domain_is_called_by_its_name(
    model, batches, plain, variables
):
    values, _ = plain
    alone = jax.jit(lambda batches: separately(model, batches, *variables))
    kl, domains = alone(batches)
    np.testing.assert_allclose(values["loss/kl"], kl, rtol=1e-4)
    for name in NAMES:
        np.testing.assert_allclose(values[f"domain/{name}/loss"], domains[name], rtol=1e-4)
    swapped = {**batches, "labelled": {**batches["labelled"], **batches["target"]}}
    assert abs(alone(swapped)[0] - kl) > 1e-3


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_features_get_the_turned_gradient_and_discriminators_their_own(
    model, batches, objective, variables, share
):
    """By what the fusion made; the sound's tokens have no parameter behind them here."""
    (params, stats), name = variables, "fused"
    _, gradient = gradient_of(
        objective(features=(AdaptedFeature(name),), source_share=share), batches, variables
    )
    saliency = jax.jit(jax.grad(lambda p: separately(model, batches, p, stats)[0]))(params)
    domain = jax.jit(jax.grad(lambda p: separately(model, batches, p, stats, share)[1][name]))(params)
    discriminator = variables_of(name)
    close(gradient[discriminator], domain[discriminator])
    parts = list(model.variables["params"])
    turned = {part: jax.tree.map(lambda s, d: s - d, saliency[part], domain[part]) for part in parts}
    close({part: gradient[part] for part in parts}, turned)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves({p: domain[p] for p in parts})) > 1e-4


def test_the_ramp_turns_the_gradient_by_as_much_as_the_run_is_old(batches, objective, variables, plain):
    strength = 2 / (1 + np.exp(-10 * 0.1)) - 1  # DANN, at step 1 of 10
    values, ramp = gradient_of(objective(reversal="ramp"), batches, variables, step=1)
    np.testing.assert_allclose(values["domain/strength"], strength, rtol=1e-5)
    _, constant = gradient_of(objective(strength=strength), batches, variables)
    close(ramp, constant)
    _, full_gradient = plain
    with pytest.raises(AssertionError):
        close(ramp["fusion"], full_gradient["fusion"])


def test_it_is_the_same_when_its_forward_pass_is_computed_again(batches, objective, variables, plain):
    params, stats = variables

    def loss(params):
        return objective().loss(params, step_inputs(stats, batches))[0]

    _, expected = plain
    close(jax.jit(jax.grad(jax.checkpoint(loss)))(params), expected)
