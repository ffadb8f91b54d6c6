"""200 fixed inputs, and those that were faults once; and that the harness sees what it looks for."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.fuzz import mutations, outcomes, workers
from tests.fuzz.targets import Attempt

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_damaged_files(tmp_path):
    """In a process of its own: this one has computed with jax, and is not to be forked."""
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "tests.fuzz", "--count", "200", "--found", "--seconds", "3600"]
    command += ["--keep", str(tmp_path / "faults")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    assert "| all |" in done.stdout


@pytest.mark.parametrize("kind", ["mp4", "json", "csv", "list", "shard"])
def test_the_same_seed_does_the_same_damage(kind):
    content = b'{"a": [1, 2, {"b": "c"}], "d": null}'
    damages = [
        [mutations.damaged(kind, content, b"other", np.random.default_rng(seed)) for seed in range(40)]
        for _ in range(2)
    ]
    assert damages[0] == damages[1]
    assert len({damage.content for damage in damages[0]}) > 20


def _work():
    def do(what):
        if what == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "hangs":
            time.sleep(60)
        if what == "grows":
            held = [bytes([n]) * (50 << 20) for n in range(1, 41)]  # 2 GB, if nobody looks
            time.sleep(60)
            return len(held)
        return what

    return do


def test_workers_that_die_hang_or_grow_are_replaced(monkeypatch):
    monkeypatch.setattr(workers, "HANG_SECONDS", 2)
    base = workers._memory(os.getpid(), "VmRSS")
    monkeypatch.setattr(workers, "MOST_BYTES", base + (150 << 20))
    jobs = [("works",), ("dies",), ("hangs",), ("grows",), ("works",)]
    done = {one.job[0]: one.death or one.answer for one in workers.run(jobs, _work, 1)}
    assert done["works"] == "works"
    assert done["dies"] == "the process died: SIGSEGV"
    assert done["hangs"] == "over 2 seconds"
    assert done["grows"].startswith("memory of ")


@pytest.mark.parametrize(
    ("code", "errors", "words"),
    [
        (70, "avsal: unforeseen error: KeyError: 'x' (a.py, line 3)", "exit code 70"),
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
