"""Validation at the size of the truth: values by plain formulas, and a run that is validated so."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from avsal_jax.losses import Term
from avsal_jax.runtime.parallel import DataParallel
from avsal_jax.spec.input import InputSpec
from avsal_jax.training.records.metrics_log import read_metrics
from avsal_jax.training.train import Trainer
from avsal_jax.training.validation import NativeStep, validate, validation_words
from avsal_jax.training.validation_values import usual_metrics

SIZES = ((30, 41), (24, 36))


def resized(saliency, size):
    """Bilinear between pixel centres, as OpenCV's INTER_LINEAR."""
    places = [(np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip(size, saliency.shape, strict=True)]
    return scipy.ndimage.map_coordinates(
        saliency, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest"
    )


def blurred(saliency):
    """The 11x11 Gaussian of sigma 2 by direct sums; the border reflected without its pixel."""
    weights = np.exp(-((np.arange(11) - 5) ** 2) / 8)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    padded, (height, width) = np.pad(saliency, 5, mode="reflect"), saliency.shape
    return sum(weights[i, j] * padded[i : i + height, j : j + width] for i in range(11) for j in range(11))


def plain_values(p, g, points):
    shares, truth = p / p.sum(), g / g.sum()
    stretched = [(m - m.min()) / (m.max() - m.min()) for m in (p, g)]
    cc = np.corrcoef(p.ravel(), g.ravel())[0, 1]
    kl = (truth * np.log(2.0**-52 + truth / (shares + 2.0**-52))).sum()
    entropy = -(g * np.log(p) + (1 - g) * np.log(1 - p)).mean()
    return {
        "loss": kl - 0.1 * cc + 2 * entropy,
        "cc": cc,
        "sim": np.minimum(*(m / m.sum() for m in stretched)).sum(),
        "nss": np.mean([(p[y, x] - p.mean()) / p.std(ddof=1) for y, x in points]),
        "kl": kl,
    }


@pytest.fixture
def batch():
    """Four clips of two sizes, whose third is masked, and their maps at the network's size."""
    rng = np.random.default_rng(0)
    density, fixations = np.zeros((4, 30, 41), np.float32), np.full((4, 3, 2), -1, np.int32)
    for index in range(4):
        height, width = SIZES[index % 2]
        density[index, :height, :width] = rng.random((height, width))
        for number in range(2 + index % 2):
            fixations[index, number] = rng.integers(height), rng.integers(width)
    host = {
        "density": density,
        "fixations": fixations,
        "size": np.array(SIZES * 2, np.int32),
        "mask": np.array([True, True, False, True]),
    }
    maps = scipy.ndimage.gaussian_filter(rng.random((4, 16, 20)), (0, 1.5, 1.5))
    return host, np.float32(0.05 + 0.9 * (maps - maps.min()) / (maps.max() - maps.min()))


def test_maps_are_resized_to_their_truth_and_blurred(batch):
    (host, maps), parallel = batch, DataParallel(4)
    terms = (Term("kl"), Term("cc", -0.1), Term("bce", 2.0, "mean"))
    frames = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None, None, None, None], (4, 1, 16, 20, 3))
    clips = parallel.split({"frames": frames})
    predict = parallel.jit(lambda params, stats, batch: params[batch["frames"][:, 0, 0, 0, 0].astype(int)])
    step = NativeStep(predict, terms=terms, metrics=usual_metrics(), parallel=parallel)
    values, saliency = step(jnp.asarray(maps), {}, clips | host)
    np.testing.assert_array_equal(saliency, maps)
    expected = []
    for index, (height, width) in enumerate(host["size"]):
        p = blurred(resized(maps[index].astype(np.float64), (height, width)))
        points = [point for point in host["fixations"][index] if point[0] >= 0]
        expected.append(plain_values(p, host["density"][index, :height, :width], points))
        for name, value in expected[-1].items():
            assert values[name][index] == pytest.approx(value, rel=2e-5, abs=2e-6), (name, index)
    state = type("State", (), {"evaluated_params": jnp.asarray(maps), "batch_stats": {}})
    validation = validate(step, state, [clips | host], metrics=usual_metrics(), label=0, pictures=2)
    assert validation.clips == 3
    mean = np.mean([expected[index]["kl"] for index in (0, 1, 3)])
    assert validation.means["kl"] == pytest.approx(mean, rel=2e-5)
    assert [truth.shape for truth in validation.examples[1]] == list(SIZES)


def test_a_run_is_validated_at_the_size_of_the_truth(config, tmp_path):
    lines = []
    changes = {"evaluation__native": True, "evaluation__every": 2, "steps": 2, "loss__nss": -0.1}
    trainer = Trainer(config(**changes), tmp_path, lines.append)
    batch = next(iter(trainer.feed.validation_batches(native=True)))
    assert (batch["size"] == batch["density"].shape[1:]).all() and (batch["size"] == (32, 48)).all()
    trainer.run()
    (record,) = (r for r in read_metrics(tmp_path / "metrics.jsonl") if "val/cc" in r)
    assert all(np.isfinite(record[f"val/{name}"]) for name in ("loss", "cc", "sim", "nss", "kl"))
    assert [p.name for p in (tmp_path / "pictures").iterdir()] == ["00000002.png"]
    text = "\n".join(lines)
    assert "maps are scored at the size of the truth, blurred by 11x11, as public ViNet's" in text
    assert "val list; at the size of the truth, blurred): loss" in text


def test_the_difference_to_the_papers_is_stated():
    words = validation_words(InputSpec(32, 224, 384), native=False)
    assert words.startswith(
        "maps are scored at 224x384, not blurred; public ViNet's at the size of the truth"
    )
    assert "evaluation.native=true" in words
