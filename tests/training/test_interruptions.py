"""Real processes, really killed: `avsal train` of the smoke recipe ends as if nothing had happened."""

import signal

import pytest

from avsal_jax.data.prepare import prepare_synthetic
from avsal_jax.testing.interruptions import Interrupted, outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    prepare_synthetic({"preset": "tiny"}, None, folder / "prepared", (64, 96), workers=1)
    return Interrupted("configs/vinet_synthetic.py:smoke", folder / "prepared", folder, steps=100)


def test_two_runs_end_with_the_same_bits(smoke, tmp_path):
    smoke.run(tmp_path / "again")
    assert outcome(tmp_path / "again") == smoke.expected


def test_a_run_that_is_killed_three_times_and_stopped_once_loses_nothing(smoke):
    found = smoke.interrupt(0, [signal.SIGKILL] * 3 + [signal.SIGTERM])
    assert [one["code"] for one in found] == [-signal.SIGKILL] * 3 + [75]
    smoke.check(found)
    assert found[-1]["committed"] == found[-1]["recorded"]  # SIGTERM saves where it was
