"""What is learnt: four clips by heart, batch statistics as torch's, randomness by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax.models.layers import Norm, Runtime
from avsal_jax.training.state import step_key
from avsal_jax.training.train import Trainer
from tests import needs


@pytest.mark.slow
def test_four_clips_are_learnt_by_heart(config, prepared, tmp_path, optimised):
    """Measured with running statistics: a network that needs the statistics of its batch fails here."""
    lists = prepared / "synthetic-source/fold_lists/synthetic_list_train_fps.txt"
    names = [line.split()[0] for line in lists.read_text().splitlines()]
    list_path = tmp_path / "five.txt"
    list_path.write_text("".join(f"synthetic {name}\n" for name in names[:5]))
    train_config = config(
        model={
            "frames": 8,
            "height": 32,
            "width": 64,
            "visual_encoder": {"name": "small", "width": 0.125},
            "heads": {"saliency": {"width": 0.125}},
            "norm_momentum": 0.9,
        },
        data__sources=(str(list_path),),
        data__validation="holdout",
        data__holdout=0.2,
        data__sampling={"policy": "all_windows", "stride": 1000},
        optimizer__learning_rate=3e-3,
        optimizer__schedule={"name": "cosine"},
        steps=300,
        evaluation__every=300,
        save_every=300,
        log_every=100,
    )
    trainer = Trainer(train_config, tmp_path / "w", lambda line: None)
    assert trainer.feed.clips_per_epoch == 4
    trainer.run()
    state = trainer.parallel.replicate(trainer.checkpoints.restore(300, trainer.program.shapes))
    batch = next(trainer.feed.batches("labelled", 300, 301))
    values, _ = trainer.program.validation_step(state.params, state.batch_stats, batch)
    assert np.asarray(values["cc"]).shape == (4,) and np.asarray(values["cc"]).min() > 0.95


def test_batch_statistics_are_those_of_torch():
    """Torch keeps the unbiased variance, which is n / (n - 1) times the biased one that `Norm` keeps."""
    torch = needs.torch()
    torch_norm = torch.nn.BatchNorm3d(6, momentum=0.1)
    norm = Norm(epsilon=1e-5, runtime=Runtime(norm_momentum=0.9))
    draw = np.random.default_rng(0)
    variables = norm.init(jax.random.key(0), jnp.zeros((1, 1, 1, 1, 6)), False)
    for _ in range(5):
        x = draw.normal(2, 3, (2, 3, 4, 5, 6)).astype(np.float32)
        torch_norm(torch.from_numpy(x.transpose(0, 4, 1, 2, 3)))
        _, new = norm.apply(variables, x, True, mutable=["batch_stats"])
        variables = {**variables, **new}
    stats = variables["batch_stats"]["batch"]
    np.testing.assert_allclose(stats["mean"], torch_norm.running_mean.numpy(), rtol=1e-4)
    count = 2 * 3 * 4 * 5
    start = 0.9**5  # the share of the first value, 1, which no batch gave
    unbiased = start + (np.asarray(stats["var"]) - start) * count / (count - 1)
    np.testing.assert_allclose(unbiased, torch_norm.running_var.numpy(), rtol=1e-4)


def test_random_numbers_depend_on_seed_step_and_purpose():
    keys = {
        jax.random.key_data(step_key(seed, jnp.int32(step), purpose)).tobytes()
        for seed in (0, 1)
        for step in (0, 1)
        for purpose in ("dropout", "other")
    }
    assert len(keys) == 8
    repeated = jax.random.key_data(step_key(1, jnp.int32(1), "other")).tobytes()
    assert repeated in keys
