"""Twenty steps of three systems, optimised by XLA as for users: gradients are slopes, and the loss falls."""

import numpy as np
import pytest

from avsal_jax.training.train import Trainer
from tests.training.test_every_system import PARTS, SYSTEMS

SIZE = {"frames": 8, "height": 32, "width": 64}
PICTURES = {name: value for name, value in PARTS.items() if not name.startswith("audio")}
SETTINGS = {"vinet": PICTURES, **{name: PARTS | SYSTEMS[name] for name in ("avinet", "casp_net")}}


@pytest.mark.slow
@pytest.mark.parametrize("system", SETTINGS)
def test_the_loss_falls_by_the_slope_and_goes_on_falling(config, tmp_path, optimised, system):
    """On one batch, by SGD of rate 1, of which each step takes the share `scale`.

    A step against the gradient g lowers the loss by scale * |g|^2. The second step is so short that this is
    1e-4 of the loss: 1e3 times its rounding, while curvature still changes little. The others aim at 5 %.
    """
    model = {"system": system, **SIZE, **SETTINGS[system]}
    sgd = {"name": "sgd", "learning_rate": 1.0}
    trainer = Trainer(config(model=model, optimizer=sgd, steps=20), tmp_path, lambda line: None)
    batches = trainer.feed.batches("labelled", 0, 1)
    clips = {"labelled": next(batches)}
    batches.close()
    state, losses, scale = trainer.program.initial_state(), [], 0.0
    for step in range(20):
        state, values = trainer.program.step(state.replace(step=0 * state.step), clips, np.float32(scale))
        loss, norm = (float(values[name]) for name in ("loss", "gradient_norm"))
        losses.append(loss)
        scale = (1e-4 if step == 0 else 0.05) * abs(loss) / norm**2
    assert int(state.failed) == -1 and np.isfinite(losses).all()
    assert losses[0] == losses[1]  # a step of scale 0
    assert losses[1] - losses[2] == pytest.approx(1e-4 * losses[0], rel=0.05)  # measured: within 0.005
    assert losses[-1] < 0.8 * losses[0]  # measured: 0.55 to 0.68
