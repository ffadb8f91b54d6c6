"""The clock of the benchmarks: turns, ratios with intervals, and the counting of operations."""

import functools
import itertools

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


def test_a_side_that_becomes_faster_is_called_until_it_is_steady(monkeypatch):
    clock, seconds = [0.0], iter([9.0, 4.0, 2.0, 1.0, 1.0, 1.0])

    def run():
        clock[0] += next(seconds)

    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    turns = measure.Turns({"a": run}, until_steady=True)
    turns.measure(1)
    assert turns.warm_up == {"a": [9.0, 4.0, 2.0, 1.0, 1.0]} and turns.measured == {"a": [1.0]}


def test_sides_apart_have_their_own_ratio_and_are_never_the_fastest():
    measured = {"ours": [1.0, 2.0], "eager": [2.0, 4.0], "compiled": [0.5, 1.0]}
    result = measure.compare(measured, "ours", apart=("compiled", "missing"))
    assert result["ratio"]["against"] == "eager" and result["ratio"]["median"] == 2.0
    assert {side: ratio["median"] for side, ratio in result["ratios_apart"].items()} == {"compiled": 0.5}


@pytest.mark.parametrize(
    ("ratios", "called"),
    [
        ([1.0, 1.1, 1.2, 1.0, 1.1, 1.19], True),
        ([1.0, 1.1, 1.3, 1.0, 1.1, 1.2], False),  # from 1.0 to 1.3 at a median of 1.1
        ([0.8, 1.1, 1.15, 1.1, 1.1, 1.1, 1.1, 1.1, 5.0], True),  # nine pairs: the extremes do not count
        ([1.0] * 5, False),  # an interval of 94 %
    ],
)
def test_a_ratio_with_a_wide_interval_is_not_called(ratios, called):
    ratio = {"against": "torch", **measure.paired_ratio(ratios, [1.0] * len(ratios))}
    assert ratio["called"] is called
    assert measure.ratio_text(ratio).startswith("1.10x torch" if called else "unclear: ")


@pytest.mark.parametrize(
    ("limits", "pairs"),
    [
        (measure.Limits(repeats=6, most_repeats=99), 9),  # the two outliers are then outside the interval
        (measure.Limits(repeats=6, most_repeats=7), 7),
        (measure.Limits(repeats=6, most_repeats=99, seconds=0.0), 6),
    ],
)
def test_pairs_are_added_until_the_ratio_is_clear(monkeypatch, limits, pairs):
    clock = [0.0]
    slow = itertools.chain([1.0, 1.0, 0.5, 3.0], itertools.repeat(1.0))

    def side(seconds):
        def run():
            clock[0] += next(seconds)

        return run

    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    sides = {"ours": side(itertools.repeat(1.0)), "torch": side(slow)}
    result = measure.time_until_clear(sides, "ours", limits)
    assert result["ratio"]["pairs"] == pairs and result["ratio"]["called"] is (pairs == 9)
    assert result["warm_up_seconds"] == {"ours": [1.0, 1.0], "torch": [1.0, 1.0]}


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


@pytest.mark.parametrize(
    ("processor", "name"),
    [
        ("AMD EPYC", "amd-epyc-2-cores"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon-2-cores"),
        ("", "unknown-2-cores"),
    ],
)
def test_the_file_of_a_machine_has_its_name(processor, name):
    assert measure.machine_name({"processor": processor, "cores": 2}) == name


def test_the_peak_of_memory_grows_with_an_array():
    before = measure.peak_mib()
    array = np.ones(2**28, np.uint8)
    assert array[-1] == 1 and measure.peak_mib() > 100
    assert measure.peak_mib() >= before
