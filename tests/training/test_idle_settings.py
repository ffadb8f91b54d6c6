"""Every setting of the losses, the adaptation and the optimizer changes what training does, or is refused."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError, losses
from avsal_jax.training.domain_adversarial import AdaptConfig
from avsal_jax.training.optimizer import Group, OptimizerConfig, make_optimizer
from avsal_jax.training.schedules import ScheduleConfig
from avsal_jax.training.schema import LossConfig


def text_of(function, *arguments):
    """Returns the traced function and its constants."""
    closed = jax.make_jaxpr(function)(*arguments)
    return re.sub("0x[0-9a-f]+", "", str(closed)) + str([np.asarray(constant) for constant in closed.consts])


def loss_program(config):
    def loss(logits, density, fixations):
        return losses.weighted(logits, density=density, fixations=fixations, terms=config.terms())[0]

    return text_of(loss, *[jnp.zeros((2, 4, 6))] * 3)


LOSS_CHANGES = [
    *((name, 0.7) for name in ("kl", "cc", "sim", "nss", "bce")),
    *(("kl_form", form) for form in losses.KL_FORMS[1:]),
    ("sim_form", "sums"),
    ("bce_form", "mean"),
]


@pytest.mark.parametrize(("name", "value"), LOSS_CHANGES)
def test_every_setting_of_the_loss_counts(name, value):
    config = LossConfig(kl=1.0, sim=-1.0, bce=1.0)
    assert loss_program(dataclasses.replace(config, **{name: value})) != loss_program(config)


def test_the_changes_of_the_loss_are_all_that_there_are():
    assert {name for name, _ in LOSS_CHANGES} == {field.name for field in dataclasses.fields(LossConfig)}


@pytest.mark.parametrize(("form", "value"), [("kl_form", "avrsp"), ("bce_form", "mean")])
def test_the_form_of_a_loss_without_weight_is_refused(form, value):
    name = form.removesuffix("_form")
    config = LossConfig(**{"cc": -0.1, "kl": 0.0, "bce": 0.0, form: value})
    with pytest.raises(
        AvsalError, match=f"^loss.{form}={value} changes nothing with loss.{name}=0; leave it"
    ):
        config.terms()


PARAMS = {"a": jnp.zeros((3,)), "b": jnp.zeros((2,))}
COSINE = ScheduleConfig("cosine")
MILESTONES = ScheduleConfig("step", milestones=(0.5,))
# base -> other values of fields that count with it
OPTIMIZERS = [
    (OptimizerConfig(), {
        "name": ("sgd",), "learning_rate": (1e-3,), "b1": (0.8,), "b2": (0.9,), "eps": (1e-6,),
        "weight_decay": (0.1,), "clip_norm": (1.0,), "accumulate": (2,), "groups": ((Group("a", 0.5),),),
        "schedule": (COSINE, MILESTONES, ScheduleConfig(warmup_steps=3)),
    }),
    (OptimizerConfig(weight_decay=0.1), {"name": ("adamw",)}),  # without decay it is adam
    (OptimizerConfig("sgd", momentum=0.9), {"momentum": (0.5,), "dampening": (0.1,), "nesterov": (True,)}),
    (OptimizerConfig(groups=(Group("a", 0.5),)), {
        "groups": ((Group("b", 0.5),), (Group("a", 0.0),), (Group("a", 0.5, weight_decay=0.1),)),
    }),
    (OptimizerConfig(schedule=MILESTONES), {
        "schedule": (
            ScheduleConfig("step", milestones=(0.7,)), ScheduleConfig("step", milestones=(0.5,), gamma=0.5)
        ),
    }),
    (OptimizerConfig(schedule=COSINE), {"schedule": (ScheduleConfig("cosine", final_fraction=0.1),)}),
]  # fmt: skip
CASES = [
    (base, name, value) for base, fields in OPTIMIZERS for name, values in fields.items() for value in values
]


def optimizer_program(config):
    optimizer = make_optimizer(config, PARAMS, 10)

    def update(gradients, state, params):
        return optimizer.update(gradients, state, params, plateau_scale=1.0)

    return text_of(update, PARAMS, optimizer.init(PARAMS), PARAMS)


@pytest.mark.parametrize(("base", "name", "value"), CASES, ids=lambda x: getattr(x, "name", str(x))[:30])
def test_every_setting_of_the_optimizer_counts(base, name, value):
    assert optimizer_program(dataclasses.replace(base, **{name: value})) != optimizer_program(base)


def test_the_settings_of_the_optimizer_are_all_that_there_are():
    assert {name for _, name, _ in CASES} == {field.name for field in dataclasses.fields(OptimizerConfig)}
    schedules = {field.name for field in dataclasses.fields(ScheduleConfig)}
    of_plateau = {"mode", "factor", "patience", "threshold", "cooldown", "min_scale"}  # test_optimizer.py
    compared = {"name", "warmup_steps", "milestones", "gamma", "final_fraction"}
    assert schedules == compared | of_plateau


def test_the_rate_of_updates_that_are_not_made_is_refused():
    with pytest.raises(
        AvsalError, match="^adapt.update_rate=0.01 changes nothing with adapt.updates=0; leave"
    ):
        AdaptConfig(update_rate=0.01)
    assert AdaptConfig(update_rate=0.01, updates=2, memory=8).update_rate == 0.01
