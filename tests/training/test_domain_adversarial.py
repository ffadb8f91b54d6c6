"""Adaptation: its loss and gradients, what is trained, exported and resumed; which domains are refused."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from avsal_jax import AvsalError
from avsal_jax.data.prepared.prepare import prepare, prepare_generated
from avsal_jax.models.domain import CHANNELS
from avsal_jax.models.layers import Runtime
from avsal_jax.models.systems import build
from avsal_jax.storage import flatten, read_model
from avsal_jax.testing import fake_data
from avsal_jax.testing.training import step_inputs
from avsal_jax.training.objectives.domain_adversarial import (
    NAME,
    DomainAdversarial,
    DomainAdversarialConfig,
    confusion_loss,
    domain_loss,
    inverted_loss,
    reversal_strength,
    variables_of,
)
from avsal_jax.training.records.metrics_log import read_metrics
from avsal_jax.training.train import Preempted, Trainer

HEARING = {
    "system": "avinet",
    "frames": 8,
    "height": 32,
    "width": 64,
    "visual_encoder": {"name": "small", "width": 1 / 64},
    "audio_encoder": {"width": 1 / 16},
    "audio": {"samples": 4574},
    "fusion": {"name": "concatenation"},
    "heads": {"saliency": {"name": "small"}},
}
SYNTHETIC = (("synthetic", None),)
FEATURES = (("audio", 1.0), ("fused", 0.5))


@pytest.fixture(scope="module", autouse=True)
def narrow_discriminators():
    """A few channels, which compile and run fast; `tests/models/test_domain.py` has those of the paper."""
    with pytest.MonkeyPatch.context() as patch:
        for feature in CHANNELS:
            patch.setitem(CHANNELS, feature, (16, 8, 4))
        yield


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The target domain: other looks and timbres, the names of the source's videos."""
    folder = tmp_path_factory.mktemp("other")
    prepare_generated(
        "synthetic",
        {"preset": "tiny", "grade": "position", "domain": "b"},
        output=folder,
        size=(32, 64),
        workers=1,
    )
    return folder


@pytest.fixture(scope="module")
def adapted(config, other):
    """Returns a function that makes configs of a small audio-visual network with adaptation.

    The target is the other domain. Arguments `adapt__...` change the objective.
    """

    def make(**changes):
        adapt = {
            "name": NAME,
            "sources": SYNTHETIC,
            "root": str(other),
            "features": FEATURES,
            "memory": 6,
            "updates": 2,
        }
        adapt |= {k.removeprefix("adapt__"): changes.pop(k) for k in list(changes) if k.startswith("adapt__")}
        return config(**{"model": HEARING, "steps": 4, "save_every": 2, "objective": adapt, **changes})

    return make


def ready(config, folder, **options):
    return Trainer(config, folder, lambda line: None, **options)


def first(trainer, step=0):
    """Returns the batches of a step, on the devices."""
    first_batches = {}
    for name in trainer.config.objective.streams():
        batches = trainer.feed.batches(name, step, step + 1)
        first_batches[name] = next(batches)
        batches.close()
    return first_batches


def inputs_of(state, batches):
    return step_inputs(state.batch_stats, batches, total=4, extra=state.extra)


@pytest.fixture(scope="module")
def full_run(adapted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    trainer = ready(adapted(), folder)
    result = trainer.run()
    return folder, result, trainer


def test_the_domain_loss_is_that_of_the_paper():
    source, target = np.random.default_rng(0).normal(0, 3, (2, 6))
    d_source, d_target = (1 / (1 + np.exp(-z)) for z in (source, target))
    expected = np.mean(-np.log(d_source)) + np.mean(-np.log(1 - d_target))  # Fan et al. 2022, Eqs. 2, 3
    np.testing.assert_allclose(domain_loss(source, target), expected, rtol=1e-6)
    assert np.isfinite(domain_loss(np.full(2, -1e4), np.full(2, 1e4)))


def test_what_a_run_logs_and_exports(full_run):
    folder, result, trainer = full_run
    records = [record for record in read_metrics(folder / "metrics.jsonl") if "loss" in record]
    assert len(records) == 4
    for record in records:
        audio, fused = (
            record[f"domain/{name}/loss"] + record[f"domain/{name}/memory"] for name in ("audio", "fused")
        )
        domains = audio + 0.5 * fused
        saliency = record["loss/kl"] - 0.1 * record["loss/cc"]  # the losses of `config`
        assert record["loss"] == pytest.approx(saliency + domains, rel=1e-5)
        assert record["domain/strength"] == 1
        # of four clips of either domain
        assert {record[f"domain/{name}/accuracy"] * 8 % 1 for name in ("audio", "fused")} == {0}
    discriminators = {"discriminator_audio", "discriminator_fused"}
    shapes = trainer.program.shapes
    assert discriminators < set(shapes.params) and discriminators < set(shapes.batch_stats)
    slots = {name.split("/")[1] for name in flatten(read_model(result["model"]).variables)}
    assert slots == {"visual_encoder", "audio_encoder", "fusion", "heads"}
    assert (
        "to 7 videos of synthetic, without their labels, by audio, fused"
        in (folder / "report.html").read_text()
    )


@pytest.mark.slow
@pytest.mark.xdist_group("adapted")
def test_a_stopped_run_ends_as_the_full_one(full_run, adapted, tmp_path):
    folder, result, _ = full_run
    with pytest.raises(Preempted):
        ready(adapted(), tmp_path, should_stop=lambda step: step == 3).run()
    resumed = ready(adapted(), tmp_path).run()
    expected, variables = (flatten(read_model(r["model"]).variables) for r in (result, resumed))
    for name, value in expected.items():
        np.testing.assert_array_equal(value, variables[name], err_msg=name)
    times = ("waiting", "steps_per_second")
    expected, records = (
        [{k: v for k, v in record.items() if k not in times} for record in read_metrics(f / "metrics.jsonl")]
        for f in (folder, tmp_path)
    )
    assert expected == records


def test_without_a_memory_a_discriminator_has_none(adapted, tmp_path):
    trainer = ready(adapted(adapt__memory=0, adapt__updates=0), tmp_path)
    assert trainer.program.shapes.extra == {}
    with_one = ready(adapted(), tmp_path / "b").program.shapes
    assert with_one.extra["discriminator_audio"]["memory"].shape[:2] == (6, 2)
    assert set(with_one.extra["discriminator_audio"]) == {"memory", "first", "second"}
    assert jax.tree.structure(with_one.batch_stats) == jax.tree.structure(trainer.program.shapes.batch_stats)


@pytest.mark.slow
def test_discriminators_go_down_and_features_up(adapted, tmp_path):
    """By the gradients that adaptation adds; those of saliency are the same with and without reversal."""
    trainer = ready(adapted(adapt__features=(("audio", 1.0),)), tmp_path)
    state, batches = trainer.program.initial_state(), first(trainer)
    terms = trainer.config.loss.terms()
    network = build(trainer.program.preset, Runtime(lowering="direct"))  # which compiles faster

    def objective(strength):
        adapt = dataclasses.replace(trainer.config.objective, strength=strength)
        return DomainAdversarial(network, terms, adapt).loss

    @jax.jit
    def loss_and_gradients(params):
        """Returns the domain loss, and the gradients with reversal and with none."""

        def loss(params, strength):
            value, outputs = objective(strength)(params, inputs_of(state, batches))
            return value, outputs.values["domain/audio/loss"]

        gradients = [jax.grad(loss, has_aux=True)(params, strength) for strength in (1.0, 0.0)]
        return gradients[0][1], gradients[0][0], gradients[1][0]

    before, gradients, without = loss_and_gradients(state.params)
    discriminator = variables_of("audio")
    # Only the gradient of the audio encoder, which makes the sound's tokens, is reversed.
    for name in ("visual_encoder", "heads", discriminator):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
            gradients[name],
            without[name],
        )
    added = jax.tree.map(lambda a, b: a - b, gradients["audio_encoder"], without["audio_encoder"])
    directions = (("audio_encoder", added, True), (discriminator, gradients[discriminator], False))
    for name, direction, rises in directions:
        size = 0.01 / optax.tree.norm(direction)
        moved = jax.tree.map(lambda p, g, size=size: p - size * g, state.params[name], direction)
        after, _, _ = loss_and_gradients({**state.params, name: moved})
        assert (after > before) == rises and after != before


def test_confusion_is_least_for_an_undecided_discriminator():
    logits = np.random.default_rng(1).normal(0, 3, (2, 6))
    d = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(confusion_loss(*logits), np.mean(-np.log(d) - np.log(1 - d)), rtol=1e-6)
    assert confusion_loss(*np.zeros((2, 4))) == pytest.approx(2 * np.log(2))


def test_the_inverted_loss_is_that_of_the_other_domains_clips():
    source, target = np.random.default_rng(1).normal(0, 3, (2, 6))
    d = [1 / (1 + np.exp(-logits)) for logits in (source, target)]
    expected = np.mean(-np.log(1 - d[0])) + np.mean(-np.log(d[1]))
    np.testing.assert_allclose(inverted_loss(source, target), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", (confusion_loss, inverted_loss))
def test_it_has_a_gradient_where_the_domain_is_certain_and_reversal_has_none(loss):
    certain, zero = np.array([12.0]), np.zeros(1)
    for pair in (lambda z: (z, zero), lambda z: (zero, -z)):
        assert abs(jax.grad(lambda z, pair=pair: domain_loss(*pair(z)))(certain)[0]) < 1e-5
        slope = jax.grad(lambda z, pair=pair: loss(*pair(z)))(certain)[0]
        assert slope == pytest.approx(0.5 if loss is confusion_loss else 1, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("confusion", "inverted"))
def test_features_lower_a_loss_of_their_own_and_discriminators_learn_as_before(adapted, tmp_path, kind):
    trainer = ready(adapted(adapt__features=(("audio", 1.0),), adapt__updates=0), tmp_path)
    state, batches = trainer.program.initial_state(), first(trainer)
    discriminator = variables_of("audio")
    network, terms = build(trainer.program.preset, Runtime(lowering="direct")), trainer.config.loss.terms()

    @jax.jit
    def loss_and_gradients(params):
        """Returns the loss; gradients with it, with none, and with reversal."""

        def loss(params, feature_loss, strength):
            adapt = dataclasses.replace(
                trainer.config.objective, feature_loss=feature_loss, strength=strength
            )
            objective = DomainAdversarial(network, terms, adapt)
            value, outputs = objective.loss(params, inputs_of(state, batches))
            return value, outputs.values.get(f"domain/audio/{kind}")

        kinds = ((kind, 1.0), (kind, 0.0), ("reversed", 1.0))
        gradients = [jax.grad(loss, has_aux=True)(params, *arguments) for arguments in kinds]
        return gradients[0][1], *(gradient for gradient, _ in gradients)

    before, gradients, without, reversed_ = loss_and_gradients(state.params)
    for reference in (reversed_, without):
        pair = gradients[discriminator], reference[discriminator]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), *pair)
    direction = jax.tree.map(lambda a, b: a - b, gradients["audio_encoder"], without["audio_encoder"])
    size = 0.01 / optax.tree.norm(direction)
    moved = jax.tree.map(lambda p, g: p - size * g, state.params["audio_encoder"], direction)
    assert loss_and_gradients({**state.params, "audio_encoder": moved})[0] < before


def test_the_ramp_rises_over_the_run():
    adapt = DomainAdversarialConfig(SYNTHETIC, reversal="ramp", strength=2.0)
    strengths = [reversal_strength(adapt, step, 4) for step in range(4)]
    expected = [2 * (2 / (1 + np.exp(-10 * step / 4)) - 1) for step in range(4)]
    np.testing.assert_allclose(strengths, expected, rtol=1e-5, atol=1e-7)


def test_the_target_gives_clips_alone_and_its_own(full_run, adapted, tmp_path):
    _, _, trainer = full_run
    batches = first(trainer)
    assert set(batches["target"]) == {"frames", "audio"} and "density" in batches["labelled"]
    assert batches["target"]["frames"].shape == batches["labelled"]["frames"].shape
    assert not np.array_equal(batches["target"]["frames"], batches["labelled"]["frames"])
    later = first(trainer, step=3)["target"]["frames"]
    assert np.array_equal(later, first(trainer, step=3)["target"]["frames"])
    assert not np.array_equal(later, batches["target"]["frames"])


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Videos without published truth: (folder of prepared sets, a list of them)."""
    folder = tmp_path_factory.mktemp("unlabelled")
    fake_data.write_dhf1k(folder / "root", fake_data.fake_videos(("0701", "0702", "0703")), "withheld")
    prepare("dhf1k", folder / "root", folder / "out", (32, 64))
    (folder / "list.txt").write_text("dhf1k 0701\ndhf1k 0702\ndhf1k 0703\n")
    return folder / "out", folder / "list.txt"


def test_labels_may_be_missing_in_the_target_alone(adapted, unlabelled, tmp_path):
    root, list_path = unlabelled
    trainer = ready(adapted(adapt__root=str(root), adapt__sources=(str(list_path),)), tmp_path / "a")
    assert np.asarray(first(trainer)["target"]["frames"]).any()
    for changes in ({"objective": {"name": "supervised"}}, {}):
        with pytest.raises(AvsalError, match="0701 and 2 more videos have no published truth"):
            ready(
                adapted(
                    data__root=str(root),
                    data__sources=(str(list_path),),
                    data__validation="holdout",
                    **changes,
                ),
                tmp_path / "b",
            )


def test_where_the_targets_truth_is_black_is_not_looked_at(adapted, tmp_path):
    """Both clips of a video of nine frames are drawn, also the one whose labelled frame is black."""
    video = fake_data.fake_video("only", 9, black=(7,))
    fake_data.write_stavis(tmp_path / "root", "DIEM", [video], {"train": ("only",), "test": ("only",)})
    prepare("diem", tmp_path / "root", tmp_path / "out", (32, 64))
    trainer = ready(
        adapted(adapt__root=str(tmp_path / "out"), adapt__sources=(("diem", None),)), tmp_path / "w"
    )
    clips = np.concatenate([np.asarray(first(trainer, step)["target"]["frames"]) for step in range(4)])
    assert len(np.unique(clips.reshape(len(clips), -1), axis=0)) == 2


def test_a_set_that_was_generated_again_is_the_same_domain(adapted, tmp_path):
    prepare_generated(
        "synthetic",
        {"preset": "tiny", "grade": "position"},
        output=tmp_path / "again",
        size=(32, 64),
        workers=1,
    )
    with pytest.raises(AvsalError, match="the domains overlap: synthetic scene_00001 and 6 more videos"):
        ready(adapted(adapt__root=str(tmp_path / "again")), tmp_path / "w")


@pytest.mark.slow
def test_a_target_that_changed_is_reported(adapted, tmp_path):
    list_path = tmp_path / "some.txt"
    list_path.write_text("synthetic scene_00001\nsynthetic scene_00002\n")
    config, lines = adapted(adapt__sources=(str(list_path),)), []
    with pytest.raises(Preempted):
        ready(config, tmp_path / "w", should_stop=lambda step: step == 1).run()
    list_path.write_text("synthetic scene_00001\n")
    with pytest.raises(Preempted):
        Trainer(config, tmp_path / "w", lines.append, should_stop=lambda step: True).run()
    (warning,) = [line for line in lines if "the data has changed" in line]
    assert "to 2 videos" in warning and "to 1 videos" in warning


def one_step(trainer, state, step):
    """Returns (clips, logged values, gradients in Adam's first moments, statistics, extra) of one step."""
    clips = first(trainer, step)
    state, values = trainer.program.step(trainer.parallel.replicate(state), clips, np.float32(1))
    trees = (optax.tree.get(state.opt_state, "mu"), state.batch_stats, state.extra)
    return jax.device_get((clips, values, *trees))


def assert_close(actual, expected, share):
    """Asserts that no numbers of two trees differ by more than `share` of the largest expected number."""
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for leaf, expected_leaf in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, expected_leaf, rtol=0, atol=share * largest)


@pytest.mark.slow
@pytest.mark.xdist_group("adapted")  # `full_run` is made once
@pytest.mark.parametrize("step", (0, 2))
def test_the_number_of_devices_changes_a_step_by_rounding_alone(full_run, adapted, tmp_path, step):
    """From the same state. Step 0 has no memory and no inner updates yet; step 2 has both.

    Clips are bit-identical. Sums of float32 numbers are added in another order. With AVX-512, AVX2 and SSE4.2
    that changed losses by 1e-6, and gradients, statistics and memories by 2e-5 of their largest number (in
    float64: 1e-14). Several steps cannot be compared, because Adam divides each gradient by its own size. A
    gradient that is only rounding, such as that of a bias before a norm, becomes a full step of random sign.
    After three steps losses then differ by per cents, even on one device when parameters change by 1e-7.
    """
    two = full_run[2]
    single = Trainer(adapted(), tmp_path, lambda line: None, devices=jax.devices()[:1])
    assert (two.parallel.mesh.size, single.parallel.mesh.size) == (2, 1)
    states = [jax.device_get(trainer.program.initial_state()) for trainer in (two, single)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    start = two.checkpoints.restore(step, two.program.shapes) if step else states[0]
    values, expected = (one_step(trainer, start, step) for trainer in (two, single))
    jax.tree.map(np.testing.assert_array_equal, values[0], expected[0])
    for name, value in expected[1].items():
        if not name.endswith("accuracy"):  # a logit near 0 may count for either domain
            np.testing.assert_allclose(values[1][name], value, rtol=1e-4, err_msg=name)
    assert_close(values[2], expected[2], share=1e-3)
    for slot, stats in expected[3].items():
        for name in stats:
            pair = [step_made[3][slot][name] for step_made in (values, expected)]
            if step and name.endswith("_norm"):  # the mean contains the bias before it, which took such steps
                pair = [norm["batch"]["var"] for norm in pair]
            assert_close(*pair, share=1e-3)
    assert_close(values[4], expected[4], share=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"root": ""},
            "domains overlap: synthetic scene_00001 and 6 more videos of objective.sources are also",
        ),
        ({"root": "", "sources": ("MINE",)}, "the domains overlap: synthetic scene_00002 and 0 more videos"),
        (
            {"sources": ("ABSENT",)},
            "objective.sources: .*absent.txt names synthetic scene_99999, which is not in",
        ),
        ({"sources": ("nowhere.txt",)}, "objective.sources: cannot read the list nowhere.txt"),
        ({"sources": (("diem", 1),)}, "objective.sources: diem is not prepared in"),
        (
            {"features": (("gaze", 1.0),)},
            "objective.features does not fit the system: unknown feature 'gaze'; this ",
        ),
        ({"features": (("taps", 1.0),)}, "names 'taps', which is not tokens .B, N, C.; use audio or fused"),
    ],
)
def test_domains_that_do_not_go(adapted, tmp_path, changes, words):
    lists = {"MINE": "synthetic scene_00009\nsynthetic scene_00002\n", "ABSENT": "synthetic scene_99999\n"}
    for name, text in lists.items():
        (tmp_path / f"{name.lower()}.txt").write_text(text)
    if "sources" in changes:
        sources = [str(tmp_path / f"{s.lower()}.txt") if s in lists else s for s in changes["sources"]]
        changes = {**changes, "sources": tuple(sources)}
    with pytest.raises(AvsalError, match=words):
        ready(adapted(**{f"adapt__{name}": value for name, value in changes.items()}), tmp_path / "w")


def test_a_system_without_sound_has_no_such_feature(adapted, config, tmp_path):
    deaf = {"system": "vinet", **config().model.changes}
    with pytest.raises(
        AvsalError, match="objective.features does not fit the system: unknown feature 'audio'; "
    ):
        ready(adapted(model=deaf), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": ()}, "objective.sources is empty: name the target domain"),
        ({"sources": (("diem",),)}, "a data source is .set, fold."),
        ({"features": ()}, "objective.features needs at least one feature, and each only once; got .."),
        ({"features": (("audio", 1.0), ("audio", 2.0))}, "each only once"),
        (
            {"features": (("audio", -1.0),)},
            "objective.features.weight must be a number of at least 0; got -1.0",
        ),
        ({"features": ("audio",)}, "objective.features has fields name, weight; got 'audio'"),
        (
            {"reversal": "rampp"},
            "objective.reversal 'rampp' is not one of constant, ramp .did you mean 'ramp'",
        ),
        (
            {"feature_loss": "confusing"},
            "objective.feature_loss 'confusing' is not one of reversed, confusion, inverted",
        ),
        ({"source_share": 2.0}, "objective.source_share must be a number from 0 to 1; got 2.0"),
        ({"updates": -1}, "objective.updates must be a whole number from 0 to 64; got -1"),
        (
            {"memory": 0, "updates": 1},
            "objective.updates need clips in memory: set objective.memory too",
        ),
        ({"update_rate": -1.0}, "objective.update_rate must be a number of at least 0"),
        ({"strength": float("nan")}, "objective.strength must be a number"),
        ({"memory": -1}, "objective.memory must be a whole number from 0 to 4096; got -1"),
        ({"featurs": ()}, "objective 'domain_adversarial' has no field 'featurs' .did you mean 'features'"),
    ],
)
def test_mistakes_in_the_config(adapted, changes, words):
    with pytest.raises(AvsalError, match=words):
        adapted(**{f"adapt__{name}": value for name, value in changes.items()})
