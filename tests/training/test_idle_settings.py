"""Every setting of the losses, the adaptation and the optimizer changes what training does, or is refused."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError, losses, registry
from avsal_jax.losses import LossConfig
from avsal_jax.training.objectives.domain_adversarial import DomainAdversarialConfig
from avsal_jax.training.optimizers import SGD, Adam, AdamW, Group, make_optimizer
from avsal_jax.training.schedules import Constant, Cosine, Plateau, Step


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
    values = {"kl": 1.0, "sim": -1.0, "bce": 1.0}
    before, after = (LossConfig.from_values(v, "loss") for v in (values, {**values, name: value}))
    assert loss_program(after) != loss_program(before)


def test_the_changes_of_the_loss_are_all_that_there_are():
    assert (
        {name for name, _ in LOSS_CHANGES} == set(LossConfig.value_types()) == set(LossConfig().to_values())
    )


@pytest.mark.parametrize(("form", "value"), [("kl_form", "avrsp"), ("bce_form", "mean")])
def test_the_form_of_a_loss_without_weight_is_refused(form, value):
    name = form.removesuffix("_form")
    config = LossConfig.from_values({"cc": -0.1, "kl": 0.0, "bce": 0.0, form: value}, "loss")
    with pytest.raises(
        AvsalError, match=f"^loss.{form}={value} changes nothing with loss.{name}=0; leave it"
    ):
        config.terms()


PARAMS = {"a": jnp.zeros((3,)), "b": jnp.zeros((2,))}
COSINE = Cosine()
MILESTONES = Step(milestones=(0.5,))
# base -> other values of fields that count with it
OPTIMIZERS = [
    (Adam(), {
        "learning_rate": (1e-3,), "b1": (0.8,), "b2": (0.9,), "eps": (1e-6,),
        "weight_decay": (0.1,), "clip_norm": (1.0,), "accumulate": (2,), "groups": ((Group("a", 0.5),),),
        "schedule": (COSINE, MILESTONES, Constant(warmup_steps=3)),
    }),
    (SGD(momentum=0.9), {"momentum": (0.5,), "dampening": (0.1,), "nesterov": (True,)}),
    (Adam(groups=(Group("a", 0.5),)), {
        "groups": ((Group("b", 0.5),), (Group("a", 0.0),), (Group("a", 0.5, weight_decay=0.1),)),
    }),
    (Adam(schedule=MILESTONES), {
        "schedule": (
            Step(milestones=(0.7,)), Step(milestones=(0.5,), gamma=0.5)
        ),
    }),
    (Adam(schedule=COSINE), {"schedule": (Cosine(final_fraction=0.1),)}),
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


def test_every_optimizer_is_another_one():
    decayed = [Adam(weight_decay=0.1), AdamW(weight_decay=0.1), SGD(weight_decay=0.1)]
    assert {type(config) for config in decayed} == set(registry.table("optimizer").values())
    assert len({optimizer_program(config) for config in decayed}) == 3


def test_the_settings_of_the_optimizer_are_all_that_there_are():
    def fields(kind):
        return {field.name for cls in registry.table(kind).values() for field in dataclasses.fields(cls)}

    assert {name for _, name, _ in CASES} == fields("optimizer")
    of_plateau = {field.name for field in dataclasses.fields(Plateau)}  # test_optimizers.py
    assert fields("schedule") == {"warmup_steps", "milestones", "gamma", "final_fraction"} | of_plateau


def test_the_rate_of_updates_that_are_not_made_is_refused():
    with pytest.raises(
        AvsalError, match="^objective.update_rate=0.01 changes nothing with objective.updates=0; leave"
    ):
        DomainAdversarialConfig(update_rate=0.01)
    assert DomainAdversarialConfig(update_rate=0.01, updates=2, memory=8).update_rate == 0.01
