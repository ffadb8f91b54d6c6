"""Kills a training run at random moments, starts it again, and checks that nothing of it is lost."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

_TIMES = ("waiting", "steps_per_second")
_SAVE_EVERY = 10  # steps
_LIMIT = 900.0  # seconds for one process


class Interrupted:
    """A command `avsal train ...` that is run whole, and then again and again with interruptions.

    Args:
      config: a recipe that takes prepared clips, such as `vinet_synthetic:smoke`.
      prepared: the folder of prepared sets.
      folder: for the workdirs and the compiled programs.
      steps: of the run; every one is recorded, and every tenth is saved.
    """

    def __init__(self, config: str, prepared, folder, steps: int):
        changes = {"data.root": prepared, "steps": steps, "evaluation.every": steps // 2}
        changes |= {"save_every": _SAVE_EVERY, "log_every": 1}
        self._arguments = ["--config", config, *(f"--config.{key}={value}" for key, value in changes.items())]
        self._folder = pathlib.Path(folder)
        self.whole = self._folder / "whole"
        started = time.monotonic()
        self.run(self.whole)
        self.first_seconds = time.monotonic() - started
        self.expected = outcome(self.whole)

    def interrupt(self, seed: int, signals: Sequence[int]) -> list[dict]:
        """Interrupts one run with each signal in turn, at random moments, and lets it end.

        Returns:
          For each interruption: `committed`, the last complete checkpoint; `recorded`, the last step on
          record; `restored`, what the next process said; `saving`, whether a save was under way; `code`, of
          the process. The last entry has `same`: whether the run ended as the whole one.
        """
        draw, workdir, found, last = random.Random(seed), self._folder / f"run{seed}", [], 0
        for number in signals:
            process = self._start(workdir)
            deadline = time.monotonic() + _LIMIT
            while (committed(workdir) or [0])[-1] <= last and time.monotonic() < deadline:
                assert process.poll() is None, process.communicate()[0][-3000:]
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.5))
            process.send_signal(number)
            text = process.communicate(timeout=_LIMIT)[0]
            if found:
                found[-1]["restored"] = _restored(text)
            steps = committed(workdir)
            last = steps[-1]
            partial = [p.name for p in (workdir / "checkpoints").iterdir() if not p.name.isdecimal()]
            recorded = max(record["step"] for record in _records(workdir))
            found.append(
                {"committed": last, "recorded": recorded, "saving": bool(partial), "code": process.returncode}
            )
        text = self.run(workdir)
        found[-1] |= {"restored": _restored(text), "same": outcome(workdir) == self.expected}
        shutil.rmtree(workdir)
        return found

    def check(self, found: list[dict]) -> None:
        """Raises AssertionError unless the interruptions lost nothing.

        A save is complete before the next is due, so a process goes on from the last one that was begun, or
        from the one before where that was under way: less than two intervals behind.
        """
        for one in found:
            assert one["restored"] == one["committed"] > 0, found
            behind = one["recorded"] - one["restored"]
            assert behind < (2 * _SAVE_EVERY if one["saving"] else _SAVE_EVERY + 2), found
        assert found[-1]["same"], found

    def run(self, workdir) -> str:
        """Runs the command to its end; returns what it printed."""
        process = self._start(workdir)
        text = process.communicate(timeout=_LIMIT)[0]
        if process.returncode:
            raise AssertionError(f"the run ended with {process.returncode}: {text[-3000:]}")
        return text

    def _start(self, workdir) -> subprocess.Popen:
        command = [sys.executable, "-m", "avsal_jax.cli.main", "train", *self._arguments]
        env = {**os.environ, "XDG_CACHE_HOME": str(self._folder / "cache"), "JAX_NUM_CPU_DEVICES": "1"}
        return subprocess.Popen(
            [*command, "--workdir", str(workdir)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def committed(workdir) -> list[int]:
    """Returns the steps of the complete checkpoints of a workdir, in order."""
    folder = pathlib.Path(workdir) / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal()) if folder.is_dir() else []


def outcome(workdir) -> tuple:
    """Returns what a run ended with: the weights' hash, and all records but their times."""
    weights = (pathlib.Path(workdir) / "model" / "weights.safetensors").read_bytes()
    records = [{k: v for k, v in record.items() if k not in _TIMES} for record in _records(workdir)]
    return hashlib.sha256(weights).hexdigest(), records


def _restored(text: str) -> int | None:
    matched = re.search(r"restored step (\d+) of", text)
    return int(matched[1]) if matched else None


def _records(workdir) -> list[dict]:
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]
