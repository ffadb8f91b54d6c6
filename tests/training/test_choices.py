"""Optimizer, schedule and objective are chosen by name, in config files, rows and on the command line."""

import pytest

from avsal_jax import AvsalError
from avsal_jax.training import recipes
from avsal_jax.training.objectives import SupervisedConfig
from avsal_jax.training.objectives.domain_adversarial import DomainAdversarialConfig
from avsal_jax.training.optimizers import SGD, Adam, AdamW
from avsal_jax.training.overrides import config_values
from avsal_jax.training.schedules import Constant, Cosine, Plateau, Step
from avsal_jax.training.schema import build_config

FILE = """
import ml_collections
from avsal_jax.training import recipes

ROWS = {
    "cosine": recipes.Row(
        {"optimizer.schedule.final_fraction": 0.1, "optimizer.schedule.name": "cosine"}, "nothing"
    ),
    "replaced": recipes.Row({"optimizer": {"name": "adamw", "b1": 0.8}}, ""),
    "odd": recipes.Row({"optimizer.b1": 0.8}, ""),
}


def get_config(variants=""):
    config = ml_collections.ConfigDict(recipes.defaults())
    config.data.sources = (("diem", 1),)
    config.steps = 4
    config.optimizer.learning_rate = 2
    CHANGES
    return recipes.apply(config, variants, ROWS)
"""


@pytest.fixture
def config_of(tmp_path):
    def build(changes, variants="", *arguments):
        (tmp_path / "mine.py").write_text(FILE.replace("CHANGES", "; ".join(changes) or "pass"))
        return build_config(config_values(f"{tmp_path}/mine.py:{variants}", arguments))

    return build


MOMENTUM = ("config.optimizer.name = 'sgd'", "config.optimizer.momentum = 0.9")


def test_a_config_file_chooses_by_name_and_sets_fields_of_the_choice(config_of):
    assert config_of(()).optimizer == Adam(2.0)
    assert config_of(MOMENTUM).optimizer == SGD(2.0, momentum=0.9)
    assert config_of(MOMENTUM[::-1]).optimizer == SGD(2.0, momentum=0.9)
    schedule = "config.optimizer.schedule.update(name='plateau', factor=0.5)"
    assert config_of([schedule]).optimizer.schedule == Plateau(factor=0.5)
    replaced = "config.optimizer = {'name': 'sgd', 'schedule': {'name': 'step', 'milestones': (0.5,)}}"
    assert config_of([replaced]).optimizer == SGD(schedule=Step(milestones=(0.5,)))


def test_a_row_chooses_by_name_and_replaces_by_a_mapping(config_of):
    assert config_of(MOMENTUM, "cosine").optimizer == SGD(2.0, momentum=0.9, schedule=Cosine(0, 0.1))
    assert config_of(MOMENTUM, "replaced").optimizer == AdamW(b1=0.8)
    with pytest.raises(AvsalError, match="unknown key 'optimizer.b1' in a row"):
        config_of(MOMENTUM, "odd")


@pytest.mark.parametrize(
    ("arguments", "optimizer"),
    [
        (("optimizer.name=sgd", "optimizer.momentum=0.9"), SGD(2.0, momentum=0.9)),
        (("--config.optimizer.momentum=0.9", "--config.optimizer.name=sgd"), SGD(2.0, momentum=0.9)),
        (("optimizer=adamw", "optimizer.b1=0.8"), AdamW(2.0, b1=0.8)),
        (("optimizer.b1=0.8", "optimizer.name=adamw"), AdamW(2.0, b1=0.8)),
        (("optimizer.schedule=cosine", "optimizer.schedule.warmup_steps=3"), Adam(2.0, schedule=Cosine(3))),
        (("optimizer={'name': 'sgd', 'momentum': 0.5}",), SGD(momentum=0.5)),
    ],
)
def test_the_command_line_chooses_wherever_the_name_stands(config_of, arguments, optimizer):
    assert config_of((), "", *arguments).optimizer == optimizer


def test_another_choice_resets_what_it_does_not_have_and_keeps_the_rest(config_of):
    """The rate and the warm-up are fields of all; momentum is not Adam's."""
    warm = "config.optimizer.schedule.warmup_steps = 4"
    config = config_of([*MOMENTUM, warm], "", "optimizer=adam", "optimizer.schedule=cosine")
    assert config.optimizer == Adam(2.0, schedule=Cosine(4))
    back = config_of(MOMENTUM, "", "optimizer=adam")
    assert back.optimizer == Adam(2.0) and back.optimizer.schedule == Constant()


def test_an_objective_is_chosen_in_the_same_way(config_of):
    target = ["objective=domain_adversarial", "objective.sources=(('avad', 1),)", "objective.reversal=ramp"]
    config = config_of((), "", *target)
    assert config.objective == DomainAdversarialConfig((("avad", 1),), reversal="ramp")
    assert config_of((), "", *target[::-1]).objective == config.objective
    assert config_of((), "smoke").objective == SupervisedConfig()
    adapted = config_of(
        ["config.objective = {'name': 'domain_adversarial', 'sources': (('a', 1),)}"], "smoke"
    )
    assert adapted.objective.sources == (("synthetic", None),) and adapted.objective.root == "prepared_b"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["config.optimizer.momentum = 0.9"],
            "optimizer 'adam' has no field 'momentum'; it has learning_rate",
        ),
        ([*MOMENTUM, "config.optimizer.b1 = 0.8"], "optimizer 'sgd' has no field 'b1'; it has learning_rate"),
        (["config.optimizer.momentumm = 0.9"], "optimizer 'adam' has no field 'momentumm'"),
        (
            ["config.optimizer.name = 'sgdd'"],
            "unknown optimizer 'sgdd' .did you mean 'sgd'.*; there are adam",
        ),
        (["config.optimizer.schedule.name = 'cosin'"], "unknown optimizer.schedule 'cosin'"),
    ],
)
def test_fields_of_another_choice_are_refused(config_of, changes, message):
    with pytest.raises(AvsalError, match=message):
        config_of(changes)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("optimizer.momentum=0.9", "optimizer 'adam' has learning_rate, .*; momentum is a field of sgd"),
        ("optimizer.schedule.gamma=0.9", "schedule 'constant' has warmup_steps; gamma is a field of step"),
        (
            "objective.reversal=ramp",
            "objective 'supervised' has no fields; reversal is a field of domain_adv",
        ),
        ("objective=domain_adversarial", "objective.sources is empty: name the target domain"),
        ("adapt.reversal=ramp", "is now a field of the objective: set objective=domain_adversarial and obj"),
        ("adapt=None", "set objective=domain_adversarial, or objective=supervised to train without"),
    ],
)
def test_mistakes_say_what_there_is(config_of, argument, message):
    with pytest.raises(AvsalError, match=message):
        config_of((), "", argument)


def test_a_config_file_from_before_objectives_is_read(config_of):
    adapt = "config.adapt = {'sources': (('avad', 1),), 'strength': 2.0}"
    assert config_of([adapt]).objective == DomainAdversarialConfig((("avad", 1),), strength=2.0)
    assert config_of([adapt], "smoke").objective.sources == (("synthetic", None),)
    assert config_of(["config.adapt = None"]).objective == SupervisedConfig()


def test_defaults_are_those_of_the_default_choices():
    values = recipes.defaults()
    assert values["objective"] == {"name": "supervised"}
    assert set(values["optimizer"]["schedule"]) == {"name", "warmup_steps"}
    assert "momentum" not in values["optimizer"] and values["optimizer"]["name"] == "adam"
