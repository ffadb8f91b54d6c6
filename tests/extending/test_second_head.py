"""A second head with a loss of its own: how many fixations does the clip have?"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax import Clip, create_model
from avsal_jax.losses import Term
from avsal_jax.models.network import init_variables
from avsal_jax.testing.training import random_clips, train_once
from avsal_jax.training.objectives import Supervised, masked_mean


class FixationCount(nn.Module):
    """Pyramid -> the logarithm of one plus the number of fixations, [B]."""

    channels: int = 16

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        x = nn.relu(nn.Dense(self.channels)(pyramid[-1].mean((1, 2, 3))))
        return nn.Dense(1)(x)[:, 0]


class SaliencyAndCount(Supervised):
    """The losses of saliency maps, and the squared error of the count."""

    def head_losses(self, logits, batch):
        loss, values = super().head_losses(logits, batch)
        truth = jnp.log1p(batch["fixations"].sum((1, 2)).astype(jnp.float32))
        error = masked_mean((logits["count"] - truth) ** 2, batch["mask"])
        return loss + 0.1 * error, values | {"loss/count": error}


def test_a_second_head_learns_by_its_own_loss():
    network, spec = create_model(
        "vinet",
        frames=8,
        height=64,
        width=96,
        visual_encoder={"name": "small", "width": 1 / 16},
        heads={"saliency": {"width": 1 / 16}, "count": {"name": FixationCount, "channels": 8}},
    )
    variables, batch = init_variables(network, 0), random_clips(spec, 2)
    assert variables["params"]["heads"]["count"]["Dense_0"]["kernel"].shape[1] == 8
    outputs = network.run(variables, Clip(batch["frames"]))
    assert {name: value.shape for name, value in outputs.logits.items()} == {
        "saliency": (2, 64, 96),
        "count": (2,),
    }
    state, values = train_once(SaliencyAndCount(network, (Term("kl"),)), variables, {"source": batch})
    truth = np.log1p(batch["fixations"].sum((1, 2)))
    outputs = network.run(variables, Clip(batch["frames"]), train=True)
    np.testing.assert_allclose(
        values["loss/count"], np.mean((outputs.logits["count"] - truth) ** 2), rtol=1e-4
    )
    for head in ("saliency", "count"):
        before, after = (jax.tree.leaves(tree["heads"][head]) for tree in (variables["params"], state.params))
        assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
