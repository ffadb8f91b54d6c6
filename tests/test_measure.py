"""The clock of the benchmarks: turns, ratios with intervals, and the counting of operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax.ops.convolution import conv3d
from tests.tools import load_tool

measure = load_tool("measure")


def test_sides_take_turns_and_are_called_twice_before():
    calls = []
    sides = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    measured = measure.time_in_turn(sides, 3)
    assert "".join(calls) == "aabb" + "ababab"
    assert {name: len(values) for name, values in measured.items()} == {"a": 3, "b": 3}


def test_a_measurement_makes_as_many_calls_as_fit_and_waits_once(monkeypatch):
    clock, waits = [0.0], []

    def run():
        clock[0] += 0.1

    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    measured = measure.time_in_turn({"a": run}, 2, seconds=0.5, wait=waits.append)
    assert measured["a"] == pytest.approx([0.1, 0.1])
    assert clock[0] == pytest.approx(0.1 * (2 + 5 + 5)) and len(waits) == 4


def test_ratios_are_taken_pair_by_pair_against_the_fastest():
    result = measure.compare(
        {"ours": [1.0, 2.0, 4.0], "slow": [9.0, 9.0, 9.0], "fast": [2.0, 2.0, 2.0]}, "ours"
    )
    assert result["medians"] == {"ours": 2.0, "slow": 9.0, "fast": 2.0}
    assert result["ratio"]["against"] == "fast" and result["ratio"]["median"] == 1.0
    assert (result["ratio"]["low"], result["ratio"]["high"]) == (0.5, 2.0)
    assert measure.compare({"ours": [1.0]}, "ours") == {"seconds": {"ours": [1.0]}, "medians": {"ours": 1.0}}


@pytest.mark.parametrize(
    ("pairs", "rank", "confidence"),  # of the sign test: 1 - 2 P(Binomial(n, 1/2) < rank)
    [(1, 1, 0.0), (5, 1, 0.9375), (6, 1, 0.96875), (9, 2, 0.9609375), (20, 6, 0.95861)],
)
def test_the_interval_is_that_of_the_sign_test(pairs, rank, confidence):
    ratio = measure.paired_ratio(np.arange(1.0, pairs + 1), np.ones(pairs))
    assert (ratio["low"], ratio["high"]) == (rank, pairs + 1 - rank)
    assert ratio["confidence"] == pytest.approx(confidence, abs=1e-5)


def test_operations_are_counted_by_hand():
    x, kernel = jnp.zeros((2, 4, 6, 8, 3)), jnp.zeros((3, 3, 3, 3, 5))
    products = 2 * 4 * 6 * 8 * 5 * (3 * 3 * 3 * 3)  # every output has 81 products
    for lowering in ("direct", "folded", "auto"):
        run = functools.partial(conv3d, padding=(1, 1, 1), lowering=lowering)
        assert measure.matrix_flops(run, x, kernel) == 2 * products, lowering
    assert measure.matrix_flops(jnp.matmul, jnp.zeros((7, 3)), jnp.zeros((3, 5))) == 2 * 7 * 3 * 5


def test_operations_inside_loops_and_jit_count():
    matrix = jnp.zeros((4, 4))

    def three_times(a):
        return jax.lax.scan(lambda b, _: (jax.jit(jnp.matmul)(b, b), None), a, length=3)[0]

    assert measure.matrix_flops(three_times, matrix) == 3 * 2 * 4**3


def test_the_machine_is_named():
    machine = measure.machine()
    assert machine["backend"] == "cpu" and machine["cores"] >= 1 and machine["jax"] == jax.__version__
