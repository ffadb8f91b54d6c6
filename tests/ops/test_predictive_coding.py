"""Equations 6 and 7 of CASP-Net's paper against a plain transcription in float64, and what inference does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.ops.predictive_coding import Coding, feedforward, prediction_errors, predictive_coding

WIDTHS = (6, 5, 4)  # of mu_0, mu_1, mu_2
SOUND_CHANNELS = 3
RNG = np.random.default_rng(0)
UP = [RNG.standard_normal(shape) / 2 for shape in ((6, 5), (5, 4))]
DOWN = [RNG.standard_normal(shape) / 3 for shape in ((6, SOUND_CHANNELS), (5, 6), (4, 5))]
BIAS = [RNG.standard_normal(down.shape[1]) / 3 for down in DOWN]
VISION, SOUND = RNG.standard_normal((2, WIDTHS[0])), RNG.standard_normal((2, SOUND_CHANNELS))


def maps(up=UP, down=DOWN, bias=BIAS):
    bottom_up = [lambda mu, w=w: jax.nn.relu(mu @ w) for w in up]
    return bottom_up, [
        lambda mu, w=w, b=b: mu @ w + b.reshape(1, -1) for w, b in zip(down, bias, strict=True)
    ]


@functools.cache
def compiled(**settings):
    coding = Coding(**settings)
    return jax.jit(lambda vision, sound, *weights: predictive_coding(vision, sound, *maps(*weights), coding))


def run(vision=VISION, sound=SOUND, weights=(UP, DOWN, BIAS), **settings):
    return compiled(**settings)(*jax.tree.map(jnp.asarray, (vision, sound, *weights)))


def transcribed(vision, sound, n, rate, update, order, refresh, reduction):
    """One clip: activities after `n` iterations, one scalar gradient at a time.

    With e_0 = sound - down_0(mu_0), e_i = mu_{i-1} - down_i(mu_i): d(sum e_i^2) / d mu_i[a] =
    -2 sum_b e_i[b] down_i[a, b], and d(sum e_{i+1}^2) / d mu_i[a] = 2 e_{i+1}[a].
    """

    def up_from(bottom):
        activities = [bottom]
        for w in UP:
            below = activities[-1]
            activities.append(
                np.array(
                    [max(0.0, sum(below[a] * w[a, b] for a in range(len(below)))) for b in range(w.shape[1])]
                )
            )
        return activities

    def error(i, activities):
        target = sound if i == 0 else activities[i - 1]
        mu, w = activities[i], DOWN[i]
        return [
            target[b] - BIAS[i][b] - sum(mu[a] * w[a, b] for a in range(len(mu))) for b in range(len(target))
        ]

    activities = up_from(vision)
    for _ in range(n):
        if refresh:
            activities = up_from(activities[0])
        old = list(activities)
        for i in reversed(range(len(activities))):
            state = activities if order == "top_down" else old
            moved = np.array(state[i])
            for a in range(len(moved)):
                slope = 0.0
                if update in ("own", "both") and i + 1 < len(activities):
                    e = error(i + 1, state)
                    slope += 2 * e[a] / (len(e) if reduction == "mean" else 1)
                if update in ("above", "both"):
                    e = error(i, state)
                    size = len(e) if reduction == "mean" else 1
                    slope -= 2 * sum(e[b] * DOWN[i][a, b] for b in range(len(e))) / size
                moved[a] -= rate * slope
            activities[i] = moved
    return activities[0]


@pytest.mark.parametrize("refresh", [True, False])
@pytest.mark.parametrize("order", ["top_down", "simultaneous"])
@pytest.mark.parametrize("update", ["own", "above", "both"])
def test_every_rule_equals_its_transcription(update, order, refresh):
    for reduction, n in (("sum", 3), ("mean", 2), ("sum", 0)):
        settings = {"rate": 0.1, "update": update, "order": order, "refresh": refresh, "reduction": reduction}
        with jax.enable_x64(True):
            output, trace = run(iterations=n, **settings)
        assert output.dtype == np.float64 and trace.activity.shape == (n + 1, 2, WIDTHS[0])
        np.testing.assert_array_equal(trace.activity[-1], output)
        for b in range(2):
            expected = transcribed(VISION[b], SOUND[b], n, **settings)
            np.testing.assert_allclose(output[b], expected, atol=1e-10)
            np.testing.assert_allclose(trace.norm[-1, b, 0], np.sqrt((expected**2).sum()), atol=1e-10)


def energy(activities, sound, top_down):
    return sum((e**2).sum() for e in prediction_errors(activities, sound, top_down))


def test_a_step_follows_finite_differences_of_the_error():
    """With both errors, no refresh and simultaneous updates, one step is -rate times the whole gradient."""
    with jax.enable_x64(True):
        bottom_up, top_down = maps()
        start = feedforward(jnp.asarray(VISION), bottom_up)
        moved, _ = run(iterations=1, rate=1.0, order="simultaneous", refresh=False)
        error = jax.jit(lambda bottom: energy((bottom, *start[1:]), jnp.asarray(SOUND), top_down))
        step, h = np.asarray(start[0] - moved), 1e-4
        for b, a in np.ndindex(*VISION.shape):
            nudge = np.zeros_like(VISION)
            nudge[b, a] = h
            slope = (error(VISION + nudge) - error(VISION - nudge)) / (2 * h)
            np.testing.assert_allclose(step[b, a], slope, atol=1e-8)


@pytest.mark.parametrize(("order", "share"), [("top_down", 1.0), ("simultaneous", 0.5)])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_without_refresh_the_error_falls_below_the_stated_rate(order, share, scale):
    down = [scale * w for w in DOWN]
    bound = share / (1 + max(np.linalg.norm(w, 2) for w in down) ** 2)

    def squares(rate):
        settings = {"iterations": 40, "order": order, "refresh": False, "rate": rate}
        with jax.enable_x64(True):
            _, trace = run(weights=(UP, down, BIAS), **settings)
        return np.asarray(trace.error).sum(-1) * (np.asarray(trace.norm) ** 2).sum(-1)

    below = squares(0.99 * bound)
    assert (np.diff(below, axis=0) < 0).all() and (below[-1] < 0.9 * below[0]).all()
    above = squares(8 * bound)
    assert (above[-1] > above[0]).all()


def test_the_trace_is_relative_and_starts_with_the_feedforward_pass():
    with jax.enable_x64(True):
        bottom_up, top_down = maps()
        start = feedforward(jnp.asarray(VISION), bottom_up)
        errors = prediction_errors(start, jnp.asarray(SOUND), top_down)
        _, trace = run(iterations=2)
    norms = sum((np.asarray(mu) ** 2).sum(-1) for mu in start)
    expected = np.stack([(np.asarray(e) ** 2).sum(-1) for e in errors], -1) / norms[:, None]
    assert trace.error.shape == (3, 2, 3)
    np.testing.assert_allclose(trace.error[0], expected, rtol=1e-12)
    np.testing.assert_array_equal(trace.activity[0], VISION)


def slopes(**settings):
    """Gradient norms of the output with respect to sound, UP, DOWN (after three iterations)."""

    def loss(sound, up, down):
        return (run(sound=sound, weights=(up, down, BIAS), **settings)[0] ** 3).sum()

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(loss, (0, 1, 2)))(*jax.tree.map(jnp.asarray, (SOUND, UP, DOWN)))
        return jax.tree.map(lambda g: float(np.abs(g).max()), gradient)


def test_with_the_defaults_everything_is_alive():
    sound, up, down = slopes()
    assert min([sound, *up, *down]) > 1e-6


def test_the_rules_that_the_defaults_avoid_are_dead_where_it_is_said():
    sound, _, _ = slopes(update="own")
    assert sound == 0
    _, up, down = slopes(update="above")
    assert max(up + down[1:]) == 0 and down[0] > 0
    _, up, down = slopes(order="simultaneous")
    assert up[1] == down[2] == 0 and up[0] > 0


def test_gradients_flow_as_the_argument_says():
    sound, up, down = slopes(stop_gradient="sound")
    assert sound == 0 and min(up + down) > 0
    sound, up, down = slopes(stop_gradient="inference")
    assert sound == 0 and max(up + down) == 0
    passed = jax.grad(lambda v: run(vision=v, stop_gradient="inference")[0].sum())(jnp.asarray(VISION))
    np.testing.assert_array_equal(passed, 1.0)
    values = [run(stop_gradient=name)[0] for name in ("none", "sound", "inference")]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


def test_no_iteration_is_the_plain_picture():
    assert run(iterations=0)[0].tolist() == jnp.asarray(VISION).tolist()


def test_one_step_at_the_papers_rate_by_hand():
    """The slope of (3 - mu)^2 at mu = 1 is -4; alpha is 0.1."""
    step, coding = jnp.ones((1, 1)), Coding(iterations=1)
    result, _ = predictive_coding(step, 3 * step, [], [lambda mu: mu], coding)
    np.testing.assert_allclose(result, 1.4, atol=1e-6)


def test_a_mean_is_inert_where_a_sum_is_not():
    """Over many elements: the reason for the default."""
    vision = jnp.asarray(RNG.standard_normal((1, 6, 4096)))
    identity = [lambda mu: mu], [lambda mu: mu] * 2
    change = {}
    for name in ("sum", "mean"):
        result, _ = predictive_coding(vision, 0 * vision, *identity, Coding(reduction=name))
        change[name] = float(jnp.abs(result - vision).max())
    assert change["mean"] < 1e-3 and change["sum"] > 0.1


def test_activities_are_at_least_float32():
    mixed = functools.partial(run, vision=jnp.asarray(VISION, jnp.bfloat16), sound=SOUND)
    result, trace = mixed()
    assert result.dtype == trace.error.dtype == jnp.float32


@pytest.mark.parametrize("name", ["update", "order", "reduction", "stop_gradient", "target"])
def test_unknown_choices_are_refused(name):
    with pytest.raises(AvsalError, match=f"coding.{name} 'else' is not one of "):
        Coding(**{name: "else"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("iterations", -1, "a whole number from 0 to 100"),
        ("iterations", 101, "a whole number from 0 to 100"),
        ("layers", 0, "a whole number from 1 to 8"),
        ("rate", -0.1, "a number from 0 to 10"),
    ],
)
def test_numbers_out_of_range_are_refused(name, value, words):
    with pytest.raises(AvsalError, match=f"coding.{name} must be {words}; got {value}"):
        Coding(**{name: value})
