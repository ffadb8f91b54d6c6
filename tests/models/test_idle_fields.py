"""Every field of every part changes the function, the parameters or what is frozen; else it is refused."""

import dataclasses
import functools
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from avsal_jax import AvsalError, registry
from avsal_jax.models.layers import Runtime
from avsal_jax.models.part import refuse_idle_fields
from avsal_jax.models.slots import PART_KINDS, build_part, part_class
from avsal_jax.models.systems import create_model
from avsal_jax.spec.fields import field_types, unwrapped

SIZES = ((8, 16, 24), (8, 8, 12), (4, 4, 6), (2, 2, 3))  # T, H, W of a pyramid
PYRAMID = tuple(jnp.zeros((1, *size, 8)) for size in SIZES)
FRAMES = tuple(jnp.zeros((1, 4, n, n, 8)) for n in (16, 8, 4, 2))  # a pyramid of single frames
TOKENS = jnp.zeros((1, 2, 6))
LARGER = ("efficientnet_lite1", "efficientnet_lite2")  # the class of lite0 with other multipliers
PARTS = [
    (kind, name) for kind in PART_KINDS for name in registry.table(kind) if name not in ("small", *LARGER)
]
# These take seconds to trace for each of their fields.
DEEP = {
    ("neck", "synergy"),
    ("fusion", "casp_net"),
    ("visual_encoder", "s3d"),
    ("visual_encoder", "efficientnet_lite0"),
}
INPUTS = {
    "neck": (PYRAMID,),
    "fusion": (PYRAMID, TOKENS),
    "regulator": (PYRAMID, PYRAMID),
    "head": (PYRAMID,),
    "s3d": (jnp.zeros((1, 16, 32, 32, 3)),),
    "visual_encoder": (jnp.zeros((1, 1, 32, 32, 3)),),
    "soundnet": (jnp.zeros((1, 4574)),),
    "vggish": (jnp.zeros((1, 1, 96, 64)),),
    "gaze": ((*FRAMES, jnp.zeros((1, 4, 16, 16, 1))),),
}
# Small widths, and values with which every field counts.
BASE = {
    "gaze": {"motion": 4, "channels": 4, "hidden": 4},
    "sal": {"growth": 256},
    "casp_net": {"stages": (3, 4), "coding": {"layers": 1}},
}


def alternatives(hint, value):
    """Yields other values that a field takes."""
    kind, numbers, optional = unwrapped(hint)
    if optional and value is not None:
        yield None
    if typing.get_origin(kind) is typing.Literal:
        yield from (choice for choice in typing.get_args(kind) if choice != value)
    elif kind is bool:
        yield not value
    elif kind in (int, float):
        start = 3 if value is None else value
        numbered = dict.fromkeys(kind(n) for n in (start // 2, start / 2, start + 2, start + 1))
        yield from (number for number in numbered if number in numbers and number != value)
    elif dataclasses.is_dataclass(kind):
        for name, inner in field_types(kind).items():
            values = list(alternatives(inner, getattr(value, name)))
            numeric = unwrapped(inner)[0] in (int, float)
            for other in values[:1] if numeric else values:
                yield dataclasses.replace(value, **{name: other})
    else:
        yield from (value[:-1], (value[0] + 1, *value[1:]))


class Program:
    """What a part computes in training. Its function is traced only where the parameters do not differ."""

    def __init__(self, kind, fields):
        self._part, name = build_part(kind, fields, Runtime()), fields["name"]
        self._inputs = INPUTS[name if name in INPUTS else kind]
        variables = jax.eval_shape(self._part.init, jax.random.key(0), *self._inputs)
        self._variables = {key: variables[key] for key in ("params", "batch_stats") if key in variables}
        shapes = jax.tree_util.tree_leaves_with_path(jax.tree.map(jnp.shape, variables["params"]))
        self.parameters = str(shapes), self._part.frozen_parameters

    @functools.cached_property
    def function(self):
        """Text without dead code and addresses, and constants."""

        def run(variables, inputs, key):
            options = {"train": True, "rngs": {"dropout": key}, "mutable": ["batch_stats"]}
            return self._part.apply(variables, *inputs, **options)

        closed = jax.make_jaxpr(run)(self._variables, self._inputs, jax.random.key(0))
        jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
        return re.sub("0x[0-9a-f]+", "", str(jaxpr)), [np.asarray(c).tobytes() for c in closed.consts]

    def differs(self, other):
        return self.parameters != other.parameters or self.function != other.function


def changed_programs(kind, fields, name):
    """Yields (value, program) for other values of a field that fit the rest: all choices, one number."""
    part = build_part(kind, fields, Runtime())
    hint = part.field_types()[name]
    for value in alternatives(hint, getattr(part, name)):
        try:
            yield value, Program(kind, {**fields, name: value})
        except AvsalError:  # as heads that do not divide the channels
            continue
        if unwrapped(hint)[0] in (int, float) and value is not None:
            return


def thin(kind, name):
    width = {"width": 1 / 64} if "width" in part_class(kind, name).field_types() else {}
    return {"name": name, **width}


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*part, marks=[pytest.mark.slow] if part in DEEP else []) for part in PARTS],
)
def test_every_field_of_a_part_counts(kind, name):
    fields = thin(kind, name) | BASE.get(name, {})
    first = Program(kind, fields)
    for field in part_class(kind, name).field_types():
        programs = dict(changed_programs(kind, fields, field))
        assert programs, f"no other value of {field} was tried"
        for value, changed in programs.items():
            assert changed.differs(first), f"{field}={value}"


FORMS = {form: {"name": "casp_net", "interaction": form} for form in ("quadratic", "bilinear", "none")}
LATE = "interaction_first"
IDLE = [  # (kind, fields, field, another value, the reason)
    ("fusion", FORMS["quadratic"], "normalizer", "tokens", "interaction=quadratic"),
    ("fusion", FORMS["bilinear"], "normalizer", "none", "interaction=bilinear"),
    ("fusion", FORMS["bilinear"], "values", "audio", "interaction=bilinear"),
    ("fusion", FORMS["none"], "values", "audio", "interaction=none"),
    ("fusion", FORMS["none"], "residual", False, "interaction=none"),
    ("fusion", FORMS["none"], "stages", (4,), "interaction=none"),
    ("fusion", FORMS["none"], "sequence", LATE, "interaction=none"),
    ("fusion", {"name": "casp_net", "coding": None}, "sequence", LATE, "coding=none"),
    (
        "fusion",
        {"name": "casp_net", "stages": (1, 2)},
        "sequence",
        LATE,
        r"stages=\(1, 2\), without the stage",
    ),
    ("neck", {"name": "synergy", "lip": False}, "lip_size", 5, "lip=False"),
    ("head", {"name": "sal", "dense_layers": 0}, "growth", 16, "dense_layers=0"),
    ("head", {"name": "gaze"}, "lags", (2,), "motion=None"),
    ("head", {"name": "gaze", "motion": 4, "frozen_image": True}, "dropout", 0.5, "frozen_image=True"),
]


@pytest.mark.parametrize(("kind", "fields", "field", "value", "reason"), IDLE)
def test_a_field_that_changes_nothing_is_refused(kind, fields, field, value, reason):
    small = thin(kind, fields["name"]) | fields
    assert not Program(kind, {**small, field: value}).differs(Program(kind, small))  # it is idle indeed
    part = build_part(kind, {**small, field: value}, Runtime())
    with pytest.raises(AvsalError, match=f"^{kind}.{field}=.* changes nothing with {reason}.*; leave it at "):
        refuse_idle_fields(part, kind)
    refuse_idle_fields(build_part(kind, small, Runtime()), kind)


@pytest.mark.parametrize(
    ("system", "settings", "message"),
    [
        ("casp_net", {"fusion.interaction": "none", "fusion.coding": None},
         "^fusion.interaction=none changes nothing with coding=none .fusion=none is a network without"),
        ("casp_net", {"fusion.interaction": "bilinear", "fusion.values": "audio"},
         "^fusion.values=audio changes nothing with interaction=bilinear"),
        ("avrsp", {"fusion.heads": 1, "fusion.head_norm": True}, "^fusion.head_norm=True .* with heads=1"),
        ("avrsp", {"fusion.heads": 1, "fusion.head_scale": True}, "^fusion.head_scale=True .* with heads=1"),
        ("gaze", {"heads.saliency.motion": None, "heads.saliency.frozen_image": True},
         "^heads.saliency.frozen_image=True changes nothing with motion=None"),
        ("avinet", {"fusion": None}, "^without a fusion nothing uses the sound of the audio_encoder: set"),
        ("vinet", {"audio_encoder": "vggish"}, "nothing uses the sound of the audio_encoder"),
        ("avinet", {"regulator.order": "average_sigmoid"}, "^regulator is none and takes no field; got"),
        ("avinet", {"regulator.returns": "gated"}, "^regulator is none and takes no field; got returns$"),
    ],
)  # fmt: skip
def test_settings_of_a_network_that_change_nothing_are_refused(system, settings, message):
    with pytest.raises(AvsalError, match=message):
        create_model(system, **settings)
