"""Optimizer, schedules and plateau do what torch's do on a recorded sequence; mistakes are named."""

import dataclasses
import functools
import json
import math
import runpy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avsal_jax.errors import AvsalError
from avsal_jax.spec.fields import registered
from avsal_jax.training.optimizers import (
    SGD,
    Adam,
    AdamW,
    Group,
    group_labels,
    learning_rate,
    make_optimizer,
)
from avsal_jax.training.schedules import (
    Constant,
    EarlyStopConfig,
    EarlyStopState,
    Plateau,
    PlateauState,
    Step,
    schedule_factor,
)
from tests import needs


@functools.cache
def recorded(tests_dir, source):
    if source == "stored":
        return json.loads((tests_dir / "golden" / "optimizer.json").read_text())
    return runpy.run_path(str(tests_dir.parent / "tools" / "make_optimizer_golden.py"))["record"](7)


@pytest.fixture(params=["stored", "torch"])
def record(request, tests_dir):
    if request.param == "torch":
        needs.torch()
    return recorded(tests_dir, request.param)


def schedule_config(fields):
    return registered("schedule", {"name": "constant", **fields}, "schedule")


def optimizer_config(fields):
    """As a schema does: from plain values."""
    fields = {"name": "adam", "learning_rate": 0.01, **fields}
    if "schedule" in fields:
        fields["schedule"] = {"name": "constant", **fields["schedule"]}
    return registered("optimizer", fields, "optimizer")


def tree(flat):
    """{'a/b': values} -> nested dicts of float32 arrays."""
    nested = {}
    for path, values in flat.items():
        *folders, leaf = path.split("/")
        inner = functools.reduce(lambda level, name: level.setdefault(name, {}), folders, nested)
        inner[leaf] = jnp.asarray(values, jnp.float32)
    return nested


PARAMS = tree(
    {"visual_encoder/stem/kernel": np.ones((2, 3)), "decoder/kernel": [1.0, 2.0], "decoder/bias": [3.0]}
)
CASES = [
    "adam",
    "adam, L2",
    "adam, groups",
    "adamw, groups",
    "adamw, first group alone",
    "sgd",
    "sgd, nesterov, L2, groups",
    "sgd, dampening",
    "adam, clipped, frozen",
    "sgd, clipped, accumulated",
    "sgd, step, accumulated",
    "adamw, cosine",
    "adam, step",
]


def test_every_recorded_case_is_tested(record):
    assert list(record["updates"]) == CASES


@pytest.mark.parametrize("case", CASES)
def test_updates_are_those_of_torch(record, case):
    case = record["updates"][case]
    config = optimizer_config(case["config"])
    params = tree(record["params"])
    optimizer = make_optimizer(config, params, record["steps"])
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for batch, gradients in enumerate(record["gradients"]):
        before = params
        updates, state = update(tree(gradients), state, params, plateau_scale=1.0)
        params = optax.apply_updates(params, updates)
        index, position = divmod(batch, config.accumulate)
        if position == config.accumulate - 1:
            expected = tree(case["params"][index])
            # adam's first updates agree to 1e-5 of the rate, see `training.optimizer`
            chex.assert_trees_all_close(params, expected, rtol=1e-6, atol=3e-6)
        else:
            chex.assert_trees_all_equal(params, before)
    assert index + 1 == len(case["params"])


def test_schedules_are_those_of_torch(record):
    for case in record["rates"]:
        config = Adam(learning_rate=record["learning_rate"], schedule=schedule_config(case["config"]))
        rates = [learning_rate(config, step, record["steps"]) for step in range(record["steps"] + 1)]
        np.testing.assert_allclose(rates, case["rates"], rtol=1e-6)


def test_plateau_is_that_of_torch_also_after_a_resume(record):
    for case in record["plateaus"]:
        config, state, scales = Plateau(**case["config"]), PlateauState(), []
        for value in record["watched"]:
            state = state.update(math.nan if value is None else value, config)
            state = PlateauState(**json.loads(json.dumps(state._asdict(), allow_nan=False)))
            scales.append(state.scale)
        np.testing.assert_allclose(scales, case["scales"], rtol=1e-12)
        assert len(set(scales)) > 1


def test_plateau_scales_updates_without_a_new_compilation():
    for config in (AdamW(weight_decay=0.1), SGD(accumulate=2)):
        optimizer = make_optimizer(config, PARAMS, 10)
        chex.clear_trace_counter()
        update = jax.jit(chex.assert_max_traces(optimizer.update, 1))
        state = optimizer.init(PARAMS)
        for _ in range(config.accumulate - 1):
            _, state = update(PARAMS, state, PARAMS, plateau_scale=jnp.float32(1))
        full, _ = update(PARAMS, state, PARAMS, plateau_scale=jnp.float32(1))
        half, _ = update(PARAMS, state, PARAMS, plateau_scale=jnp.float32(0.5))
        chex.assert_trees_all_close(half, jax.tree.map(lambda u: u / 2, full), rtol=1e-6)
        assert all(np.all(u != 0) for u in jax.tree.leaves(full))


def test_frozen_parameters_have_no_state_and_do_not_count_for_clipping():
    huge = {"visual_encoder": jax.tree.map(lambda p: p * 1e6, PARAMS["visual_encoder"])}
    gradients = {**PARAMS, **huge}
    config = SGD(1.0, groups=(Group("visual_encoder/.*", 0.0),), accumulate=1)
    for cls, fields in (
        (AdamW, {}),
        (Adam, {"accumulate": 3}),
        (SGD, {"accumulate": 2, "momentum": 0.9}),
    ):
        state = make_optimizer(cls(groups=config.groups, **fields), PARAMS, 10).init(PARAMS)
        assert (2, 3) not in [np.shape(leaf) for leaf in jax.tree.leaves(state)]
        assert (2,) in [np.shape(leaf) for leaf in jax.tree.leaves(state)]
    optimizer = make_optimizer(dataclasses.replace(config, clip_norm=100.0), PARAMS, 10)
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["decoder"]["kernel"], [-1.0, -2.0])
    assert not np.any(updates["visual_encoder"]["stem"]["kernel"])


def test_the_first_matching_group_takes_a_parameter():
    groups = (Group(".*/bias", 0.0), Group("decoder/.*", 2.0))
    labels = group_labels(Adam(groups=groups), PARAMS)
    assert labels == {
        "decoder/bias": "frozen",
        "decoder/kernel": "group1",
        "visual_encoder/stem/kernel": "rest",
    }


def test_groups_need_shapes_only():
    shapes = jax.eval_shape(lambda: PARAMS)
    optimizer = make_optimizer(Adam(groups=(Group(".*/bias", 0.5),)), shapes, 10)
    state = jax.eval_shape(optimizer.init, shapes)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, jax.eval_shape(optimizer.init, PARAMS))


def test_warm_up_rises_linearly_and_the_cosine_starts_after_it():
    def factors(steps, **fields):
        return [float(schedule_factor(schedule_config(fields), step, 12)) for step in steps]

    rise = [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(factors(range(4), warmup_steps=4), rise)
    np.testing.assert_allclose(factors([4, 11], warmup_steps=4), [1, 1])
    np.testing.assert_allclose(factors(range(4), name="plateau", warmup_steps=4), rise)
    cosine = factors([0, 3, 4, 8, 12, 99], name="cosine", warmup_steps=4, final_fraction=0.2)
    np.testing.assert_allclose(cosine, [0.25 * 1, 1, 1, 0.6, 0.2, 0.2], rtol=1e-6)
    step = factors([2, 5, 6, 11], name="step", warmup_steps=4, milestones=(0.5,), gamma=0.5)
    np.testing.assert_allclose(step, [0.75, 1, 0.5, 0.5])


def test_an_accumulated_update_takes_the_rate_of_its_first_batch():
    schedule = Step(milestones=(0.5,), gamma=0.5)
    config = SGD(1.0, accumulate=4, schedule=schedule)
    rates = [learning_rate(config, step, 12, plateau_scale=0.5) for step in range(12)]
    assert rates == [0.5] * 8 + [0.25] * 4  # the milestone, batch 6, lies within the second update
    optimizer = make_optimizer(config, PARAMS, 12)
    state, update, changes = optimizer.init(PARAMS), jax.jit(optimizer.update), []
    for _ in range(12):
        updates, state = update(PARAMS, state, PARAMS, plateau_scale=0.5)
        changes.append(float(-updates["decoder"]["kernel"][0]))
    assert changes == [0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.25]


def test_early_stopping_counts_evaluations_without_a_better_value():
    config, state, stops = EarlyStopConfig(patience=2), EarlyStopState(), []
    for value in (math.nan, 3.0, 2.0, 2.0, 1.5, math.inf, 1.6):
        state = state.update(value, config)
        state = EarlyStopState(**json.loads(json.dumps(state._asdict(), allow_nan=False)))
        stops.append(state.stop(config))
    assert stops == [False] * 6 + [True] and state.best == 1.5
    rising = EarlyStopConfig(patience=1, mode="max", threshold=0.1)
    state = EarlyStopState().update(-0.5, rising).update(-0.6, rising)
    assert state.stop(rising) and state.best == -0.5
    assert EarlyStopState().update(0.5, rising).update(0.54, rising).stop(rising)
    assert not EarlyStopState().update(0.5, rising).update(0.56, rising).stop(rising)


TODAY = tree({"regulator/gate1/select/bias": [1.0], "heads/saliency/conv1/kernel": [1.0, 2.0]})
MISTAKES = [
    (
        lambda: optimizer_config({"name": "adamm"}),
        "unknown optimizer 'adamm' (did you mean 'adam'?); there are adam, adamw, sgd",
    ),
    (lambda: Adam(learning_rate=0), "optimizer.learning_rate must be a number above 0; got 0"),
    (lambda: Adam(learning_rate="1e-4"), "got '1e-4'"),
    (lambda: Adam(b1=1.0), "optimizer.b1 must be a number of at least 0 and below 1; got 1.0"),
    (lambda: Adam(eps=math.nan), "optimizer.eps must be a number of at least 0; got nan"),
    (lambda: Adam(clip_norm=0), "optimizer.clip_norm must be a number above 0, or None; got 0"),
    (
        lambda: Adam(accumulate=1.5),
        "optimizer.accumulate must be a whole number of at least 1; got 1.5",
    ),
    (lambda: Adam(accumulate=True), "got True"),
    (
        lambda: optimizer_config({"momentum": 0.9}),
        "optimizer 'adam' has no field 'momentum'; it has learning_rate, weight_decay, clip_norm, "
        "accumulate, groups, schedule, b1, b2, eps",
    ),
    (
        lambda: optimizer_config({"name": "sgd", "b2": 0.9}),
        "optimizer 'sgd' has no field 'b2'; it has learning_rate, ",
    ),
    (lambda: SGD(nesterov=True), "optimizer.nesterov needs momentum, and dampening 0"),
    (
        lambda: Adam(groups=("x",)),
        "optimizer.groups has fields pattern, scale, weight_decay; got 'x'",
    ),
    (lambda: Group("decoder/("), "'decoder/(' of a parameter group is not a regular expression"),
    (lambda: Group("x", -1), "group 'x': scale must be a number of at least 0; got -1"),
    (lambda: Group("x", 1, -1), "group 'x': weight_decay must be a number of at least 0, or None; got -1"),
    (
        lambda: make_optimizer(Adam(groups=(Group("decoder", 0.1),)), PARAMS, 9),
        "the parameter group 'decoder' matches none of 3 parameters; a pattern must match a whole path, "
        "such as decoder/bias, ",
    ),
    (
        lambda: make_optimizer(Adam(groups=(Group("decoder/conv1/.*"),)), TODAY, 9),
        "the parameter group 'decoder/conv1/.*' is now 'heads/saliency/conv1/.*'",
    ),
    (
        lambda: make_optimizer(Adam(groups=(Group("fusion/gate1/.*"),)), TODAY, 9),
        "the parameter group 'fusion/gate1/.*' is now 'regulator/gate1/.*'",
    ),
    (
        lambda: make_optimizer(Adam(groups=(Group(".*"), Group("decoder/.*"))), PARAMS, 9),
        "the parameter group 'decoder/.*' gets no parameter: groups before it match all of its parameters",
    ),
    (
        lambda: make_optimizer(Adam(groups=(Group(".*", 0.0),)), PARAMS, 9),
        "every parameter is frozen; set the scale of a group above 0",
    ),
    (
        lambda: make_optimizer(Adam(), PARAMS, 0),
        "total_steps must be a whole number of at least",
    ),
    (
        lambda: make_optimizer(Adam(schedule=Constant(9)), PARAMS, 9),
        "schedule.warmup_steps 9 must be less than the run's 9 steps",
    ),
    (
        lambda: schedule_config({"name": "cosin"}),
        "unknown schedule 'cosin' (did you mean 'cosine'?); there are constant, cosine, step, plateau",
    ),
    (lambda: Plateau(mode="mim"), "schedule.mode 'mim' is not one of min, max"),
    (
        lambda: Plateau(factor=1.0),
        "schedule.factor must be a number above 0 and below 1; got",
    ),
    (
        lambda: Plateau(patience=-1),
        "schedule.patience must be a whole number of at least 0; got",
    ),
    (
        lambda: schedule_config({"name": "cosine", "milestones": (0.5,)}),
        "schedule 'cosine' has no field 'milestones'; it has warmup_steps, final_fraction",
    ),
    (Step, "schedule 'step' needs milestones, such as (0.5, 0.75) of the run"),
    (
        lambda: Step(milestones=0.5),
        "schedule.milestones must be a tuple of numbers above 0 and below 1; got 0.5",
    ),
    (
        lambda: Step(milestones=(750,)),
        "schedule.milestones must be a number above 0 and below 1; got 750",
    ),
    (lambda: Step(milestones=(0.7, 0.5)), "schedule.milestones must rise; got (0.7, 0.5)"),
    (lambda: EarlyStopConfig(0), "early_stop.patience must be a whole number of at least 1; got 0"),
    (lambda: EarlyStopConfig(mode="best"), "early_stop.mode 'best' is not one of min, max"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes_are_named(mistake, message):
    with pytest.raises(AvsalError) as error:
        mistake()
    assert message in str(error.value) and "\n" not in str(error.value)
