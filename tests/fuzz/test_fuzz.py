"""200 fixed inputs and those that were faults once; tests that the harness detects faults."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests import needs
from tests.fuzz import mutations, outcomes
from tests.fuzz.targets import Attempt

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_damaged_files(tmp_path):
    """In a separate process: this one has computed with jax and must not be forked."""
    needs.torch()
    command = [sys.executable, "-m", "tests.fuzz", "--count", "200", "--found", "--seconds", "3600"]
    command += ["--keep", str(tmp_path / "faults")]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert process.returncode == 0, process.stdout[-10_000:] + process.stderr[-2_000:]
    assert "| all |" in process.stdout


@pytest.mark.parametrize("kind", ["mp4", "json", "csv", "list", "shard"])
def test_the_same_seed_does_the_same_damage(kind):
    content = b'{"a": [1, 2, {"b": "c"}], "d": null}'
    damages = [
        [mutations.damaged(kind, content, b"other", np.random.default_rng(seed)) for seed in range(40)]
        for _ in range(2)
    ]
    assert damages[0] == damages[1]
    assert len({damage.content for damage in damages[0]}) > 20


_SMALL = """
import json, os, signal, time
from tests import needs
from tests.fuzz import workers

def work():
    def do(task):
        if task == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if task == "hangs":
            time.sleep(600)
        if task == "grows":
            blocks = [bytes([n]) * (50 << 20) for n in range(1, 21)]  # 1 GB unless it is killed
            time.sleep(600)
        return task
    return do

workers.HANG_SECONDS, workers.MOST_BYTES = 10, 500 << 20
jobs = [("works",), ("dies",), ("hangs",), ("grows",), ("works again",)]
print(json.dumps({result.job[0]: result.death or result.answer for result in workers.run(jobs, work, 1)}))
"""


@pytest.mark.slow
def test_workers_that_die_hang_or_grow_are_replaced():
    """In a separate process: this one has computed with jax and must not be forked."""
    command = [sys.executable, "-c", _SMALL]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    became = json.loads(process.stdout)
    assert became.pop("grows").startswith("memory of ")
    assert became == {
        "works": "works",
        "dies": "the process died: SIGSEGV",
        "hangs": "over 10 seconds",
        "works again": "works again",
    }


@pytest.mark.parametrize(
    ("code", "errors", "words"),
    [
        (70, "avsal: unexpected error: KeyError: 'x' (a.py, line 3)", "exit code 70"),
        (2, "Traceback (most recent call last):\n  File\navsal: clip.mp4 is bad\n", "a traceback"),
        (2, "avsal: clip.mp4: 'int' object has no attribute 'pop'\n", "a line of an exception"),
        (2, "avsal: something is bad\n", "names no file"),
        (2, "avsal: clip.mp4 is bad\nnote: late\n", "exit code 2 with 1 lines"),
        (2, "", "exit code 2 with 0 lines"),
        (0, "[mp4 @ 0x55] moov atom not found\n", "stderr has '[mp4"),
        (1, "", "nothing says what failed"),
    ],
)
def test_what_is_printed_is_judged(tmp_path, code, errors, words):
    attempt = Attempt([], tmp_path / "clip.mp4", tmp_path / "out")
    assert any(words in line for line in outcomes.printed_problems(attempt, code, errors))
    right = "note: odd\npredicting: 0map\rpredicting: 3map\navsal: clip.mp4 is cut off\n"
    assert outcomes.printed_problems(attempt, 2, right) == []
