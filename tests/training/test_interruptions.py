"""Real processes, really killed: `avsal train` of the smoke recipe ends as if nothing had happened."""

import signal
import subprocess

import pytest

from avsal_jax.data.prepared.prepare import prepare_generated
from avsal_jax.testing.faults import SMALL, check
from avsal_jax.testing.interruptions import FULL, KILL, STOP, STOP_SAVING, Interrupted, outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared_smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare_generated("synthetic", {"preset": "tiny"}, output=folder, size=(64, 96), workers=1)
    return folder


def test_two_runs_end_with_the_same_bits(prepared_smoke, tmp_path):
    """Of the network that the recipe names."""
    smoke = Interrupted("configs/vinet_synthetic.py:smoke", prepared_smoke, tmp_path, steps=10)
    smoke.run(tmp_path / "again")
    assert outcome(tmp_path / "again") == smoke.expected


def test_a_run_that_is_killed_three_times_and_stopped_once_loses_nothing(prepared_smoke, tmp_path):
    alone = Interrupted("configs/vinet_synthetic.py:smoke", prepared_smoke, tmp_path, 100, arguments=SMALL)
    attempts = alone.interrupt(0, [KILL] * 3 + [STOP])
    assert [attempt["codes"] for attempt in attempts] == [[-signal.SIGKILL]] * 3 + [[75]]
    alone.check(attempts)
    assert attempts[-1]["committed"] == attempts[-1]["recorded"]  # SIGTERM saves where it was


def test_two_processes_lose_nothing(prepared_smoke, tmp_path):
    """One is killed; then one gets SIGTERM during a save; then the disk of the checkpoints is full."""
    pair = Interrupted("configs/vinet_synthetic.py:smoke", prepared_smoke, tmp_path / "pair", 60, 2, SMALL)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True, check=False)
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", tmp_path], check=True)
    full = [] if mounted.returncode else [FULL]
    check(pair, pair.interrupt(0, [KILL, STOP_SAVING, *full]))
    if not full:
        pytest.skip("needs the right to mount a disk, for its last part: run as root, with CAP_SYS_ADMIN")
