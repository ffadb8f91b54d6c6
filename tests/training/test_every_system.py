"""Every audio-visual system supports adaptation, `predict`, features and `evaluate`."""

import json

import jax
import numpy as np
import pytest

from avsal_jax.cli.main import main
from avsal_jax.losses import Term
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import write_model
from avsal_jax.testing import fake_data
from avsal_jax.testing.training import step_inputs
from avsal_jax.testing.videos import moving_spot, write_video
from avsal_jax.training.objectives.domain_adversarial import DomainAdversarial, DomainAdversarialConfig

PARTS = {
    "visual_encoder": "small",
    "visual_encoder.width": 1 / 16,
    "audio_encoder.width": 1 / 32,
    "heads.saliency.width": 1 / 16,
}
SYSTEMS = {
    "avinet": {"audio.samples": 4574, "fusion": "concatenation"},
    "dual_domain": {"audio.samples": 4574, "fusion.width": 1 / 16},
    "casp_net": {
        "neck.width": 1 / 32,
        "heads.saliency.dense_layers": 1,
        "fusion.coding.iterations": 1,
    },
    "avrsp": {"audio.samples": 4574, "neck.width": 1 / 32, "fusion.width": 1 / 16, "fusion.blocks": 1},
}


def preset_of(system):
    return resolve(system, {"frames": 8, "height": 32, "width": 64, **PARTS, **SYSTEMS[system]})


def adaptation(system):
    """Returns params, and the whole objective of two random clips of either domain as a function of them."""
    preset = preset_of(system)
    network, spec = build(preset, Runtime(lowering="direct")), preset.input
    objective = DomainAdversarial(network, (Term("kl", 1.0),), DomainAdversarialConfig(sources=("any",)))
    variables, extra = init_variables(network, 0), objective.extra_variables(0)
    stats = variables.get("batch_stats", {}) | extra["batch_stats"]
    rng = np.random.default_rng(0)

    def clips():
        return {
            "frames": rng.integers(0, 256, (2, spec.frames, spec.height, spec.width, 3), np.uint8),
            "audio": rng.standard_normal((2, *spec.audio.shape), np.float32),
        }

    truth = rng.random((2, spec.height, spec.width), np.float32)
    batches = {
        "labelled": {**clips(), "density": truth, "fixations": truth > 0.9, "mask": np.ones(2, bool)},
        "target": clips(),
    }

    def loss(params):
        return objective.loss(params, step_inputs(stats, batches))

    return variables["params"] | extra["params"], loss


@pytest.mark.parametrize("system", SYSTEMS)
def test_domains_are_adapted_by_sound_and_by_what_the_fusion_made(system):
    params, loss = adaptation(system)
    gradient, outputs = jax.eval_shape(jax.grad(loss, has_aux=True), params)
    assert jax.tree.map(np.shape, gradient) == jax.tree.map(np.shape, params)
    assert {"domain/audio/accuracy", "domain/fused/accuracy", "loss/kl"} < set(outputs.values)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["casp_net", "avrsp"])
def test_adaptation_has_a_gradient_for_every_part(system):
    """The others' steps are compiled by the tests of the objective and by smoke."""
    params, loss = adaptation(system)
    gradient, outputs = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, outputs.values)))
    for part, tree in gradient.items():
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree)) > 0, part


@pytest.mark.slow
@pytest.mark.parametrize("system", ["casp_net", "avrsp"])
def test_predict_features_and_evaluate(system, tmp_path):
    preset = preset_of(system)
    variables = init_variables(build(preset), 0)
    model = str(write_model(tmp_path / "model", preset, variables, {"by": "a test"}))
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, 9_000)
    clip = write_video(tmp_path / "clip.mp4", moving_spot(10, 32, 64), sound=sound)
    features = ["--save", "maps,npz,features", "--feature-frames", "1", "--compare-audio", "off"]
    assert main(["predict", str(clip), "--model", model, "--output", str(tmp_path / "out"), *features]) == 0
    maps = np.load(tmp_path / "out" / "maps.npz", allow_pickle=False)["maps"]
    assert maps.shape == (10, 32, 64) and np.isfinite(maps).all() and np.ptp(maps.astype(float)) > 0
    recorded = json.loads((tmp_path / "out" / "summary.json").read_text())["features"]["names"]
    assert ("coding_error" if system == "casp_net" else "retention_audio") in recorded
    video = fake_data.fake_video("one", 9)
    fake_data.write_stavis(tmp_path / "data", "DIEM", [video], {"test": ("one",)})
    data_flags = ["--dataset", "diem", "--root", str(tmp_path / "data"), "--metrics", "cc,nss"]
    assert main(["evaluate", *data_flags, "--model", model, "--output", str(tmp_path / "results")]) == 0
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert summary["frames"] == 9 and np.isfinite(summary["metrics"]["cc"]["mean"])
