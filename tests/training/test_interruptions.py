"""Real processes, really killed: `avsal train` of the smoke recipe ends as if nothing had happened."""

import signal
import subprocess

import pytest

from avsal_jax.data.prepare import prepare_synthetic
from avsal_jax.testing.faults import SMALL, check_full_disk, check_kills, check_stop
from avsal_jax.testing.interruptions import Interrupted, outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared_smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare_synthetic({"preset": "tiny"}, None, folder, (64, 96), workers=1)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory, prepared_smoke):
    folder = tmp_path_factory.mktemp("alone")
    return Interrupted("configs/vinet_synthetic.py:smoke", prepared_smoke, folder, 100, more=SMALL)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, prepared_smoke):
    """Two processes that make one run."""
    folder = tmp_path_factory.mktemp("pair")
    return Interrupted("configs/vinet_synthetic.py:smoke", prepared_smoke, folder, 40, 2, SMALL)


def test_two_runs_end_with_the_same_bits(prepared_smoke, tmp_path):
    """Of the network that the recipe names."""
    smoke = Interrupted("configs/vinet_synthetic.py:smoke", prepared_smoke, tmp_path, steps=20)
    smoke.run(tmp_path / "again")
    assert outcome(tmp_path / "again") == smoke.expected


def test_a_run_that_is_killed_three_times_and_stopped_once_loses_nothing(alone):
    found = alone.interrupt(0, [signal.SIGKILL] * 3 + [signal.SIGTERM])
    assert [one["codes"] for one in found] == [[-signal.SIGKILL]] * 3 + [[75]]
    alone.check(found)
    assert found[-1]["committed"] == found[-1]["recorded"]  # SIGTERM saves where it was


def test_one_of_two_processes_is_killed(pair):
    check_kills(pair, pair.interrupt(0, [signal.SIGKILL]))


def test_sigterm_during_a_save_of_two_processes(pair):
    check_stop(pair, pair.stop_while_saving(0))


def test_two_processes_fill_the_disk(pair, tmp_path):
    probe = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this user may not mount a disk to fill")
    subprocess.run(["umount", tmp_path], check=True)
    check_full_disk(pair, pair.fill_disk(0, "4m"))
