"""Values of command-line flags."""

import argparse

import pytest

from avsal_jax.cli import flags


@pytest.mark.parametrize(
    ("text", "value"),
    [("25", 25.0), ("29.97", 29.97), ("30000/1001", 30000 / 1001), ("24000/1001", 23.976023976023978)],
)
def test_rates_may_be_fractions(text, value):
    assert flags.rate(text) == value


@pytest.mark.parametrize("text", ["0", "1/0", "-25", "nan", "inf", "ntsc", "1/2/3", "1e9", "1/1000000", ""])
def test_other_rates_are_told(text):
    with pytest.raises(argparse.ArgumentTypeError, match="from 0.01 to 1000, as 25 or 30000/1001"):
        flags.rate(text)
