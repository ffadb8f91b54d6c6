"""Interrupts training runs of one or several processes for real, starts them again, checks the outcome."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from avsal_jax.testing import COMMAND

_TIMES = ("waiting", "steps_per_second")
_SAVE_EVERY = 10  # steps
_PROCESS_TIMEOUT_SECONDS = 900.0
_FREE_BYTES = 1_500_000  # on a disk that must fill up: less than a checkpoint needs
HEARTBEAT_SECONDS = 10  # heartbeat timeout of runs of several processes
KILL, STOP = "SIGKILL", "SIGTERM"
STOP_SAVING, FULL = "SIGTERM during a save", "full disk"


class Interrupted:
    """A command `avsal train ...` that is run once without, and then repeatedly with interruptions.

    Args:
      config: a recipe that takes prepared clips, such as `vinet_synthetic:smoke`.
      prepared: the folder of prepared sets.
      folder: for the workdirs and the compiled programs.
      steps: of the run; every one is recorded, and every tenth is saved.
      processes: number of processes of the run, all on this machine.
      arguments: further arguments of `avsal train`; `visual_encoder=small` compiles in seconds.
    """

    def __init__(
        self, config: str, prepared, folder, steps: int, processes: int = 1, arguments: Sequence[str] = ()
    ):
        changes = {"data.root": prepared, "steps": steps, "evaluation.every": steps // 2}
        changes |= {"save_every": _SAVE_EVERY, "log_every": 1}
        self._arguments = [
            "--config",
            config,
            *(f"--config.{key}={value}" for key, value in changes.items()),
            *arguments,
        ]
        self._folder, self._processes = pathlib.Path(folder), processes
        self.uninterrupted = self._folder / "whole"
        started = time.monotonic()
        self.run(self.uninterrupted)
        self.first_seconds = time.monotonic() - started
        self.expected = outcome(self.uninterrupted)

    def interrupt(self, seed: int, events: Sequence[str]) -> list[dict]:
        """Interrupts one run by each event in turn, at random moments, and lets it end.

        Args:
          seed: of the moments, and of the choice of the process that is interrupted.
          events: `KILL`, `STOP`, `STOP_SAVING`, or `FULL`, which needs the right to mount a disk.

        Returns:
          For each event: `event`; `committed`, the last complete checkpoint; `recorded`, the last step on
          record; `restored`, the step that the next process logged; `saving`, whether a save was under way;
          `victim`, the number of the process that got the signal; for each process its `codes`, and `seconds`
          from the signal to its end (for a full disk: from its start); `texts`, its output. The last entry
          has `same`: whether the outcome is that of the uninterrupted run.
        """
        draw, workdir, interruptions = random.Random(seed), self._folder / f"run{seed}", []
        with _disk(workdir / "checkpoints", FULL in events) as resize:
            for event in events:
                interruptions.append(self._event(event, draw=draw, workdir=workdir, resize=resize))
            text = self.run(workdir)
            next_texts = [*(row["texts"][0] for row in interruptions[1:]), text]
            for row, next_text in zip(interruptions, next_texts, strict=True):
                row["restored"] = _restored(next_text)
            interruptions[-1]["same"] = outcome(workdir) == self.expected
        if interruptions[-1]["same"]:
            shutil.rmtree(workdir, ignore_errors=True)
        return interruptions

    def _event(self, event: str, draw: random.Random, workdir, resize: Callable) -> dict:
        """Starts the run, and lets `event` end it."""
        victim, last = draw.randrange(self._processes), (committed(workdir) or [0])[-1]
        if event == FULL:
            resize(_FREE_BYTES)
            processes = self._start(workdir)
        else:
            processes = self._start(workdir)
            self._wait(processes, lambda: (committed(workdir) or [0])[-1] > last)
            if event == STOP_SAVING:
                self._wait(processes, lambda: partial(workdir))
            else:
                time.sleep(draw.uniform(0, 0.5))
            processes[victim].send_signal(signal.SIGKILL if event == KILL else signal.SIGTERM)
        texts, codes, seconds = _finish(processes)
        row = {"event": event, "victim": victim, "codes": codes, "seconds": seconds, "texts": texts}
        row |= {"committed": committed(workdir)[-1], "saving": event == FULL or partial(workdir)}
        if event == FULL:
            resize(None)
        return {**row, "recorded": max(record["step"] for record in _records(workdir))}

    def check(self, interruptions: list[dict]) -> None:
        """Raises AssertionError unless the interrupted run has the same outcome and lost few steps.

        A save is complete before the next is due. Therefore a process resumes from the last save, or from the
        previous one if the last was not complete: less than two intervals behind.
        """
        for row in interruptions:
            assert row["restored"] == row["committed"] > 0, interruptions
            behind = row["recorded"] - row["restored"]
            assert behind < (2 * _SAVE_EVERY if row["saving"] else _SAVE_EVERY + 2), interruptions
        assert interruptions[-1]["same"], interruptions

    def run(self, workdir) -> str:
        """Runs the command to its end; returns what its first process printed."""
        texts, codes, _ = _finish(self._start(workdir))
        for text, code in zip(texts, codes, strict=True):
            if code:
                raise AssertionError(f"the run ended with {code}: {text[-3000:]}")
        return texts[0]

    def _wait(self, processes, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PROCESS_TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "nothing was saved"
            assert all(p.poll() is None for p in processes), _finish(processes)[0]
            time.sleep(0.002)

    def _start(self, workdir) -> list[subprocess.Popen]:
        command = [*COMMAND, "train", *self._arguments]
        command += ["--workdir", str(workdir)]
        env = {**os.environ, "XDG_CACHE_HOME": str(self._folder / "cache"), "JAX_NUM_CPU_DEVICES": "1"}
        group_flags = []
        if self._processes > 1:
            group_flags = ["--coordinator", free_address(), "--num-processes", str(self._processes)]
            group_flags += ["--heartbeat", str(HEARTBEAT_SECONDS)]
        return [
            subprocess.Popen(
                [*command, *group_flags, *(["--process-id", str(index)] if group_flags else [])],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(self._processes)
        ]


@contextlib.contextmanager
def _disk(folder, is_needed: bool) -> Iterator[Callable]:
    """Mounts a disk at `folder`; yields a function that sets its free space in bytes (None: ample)."""
    if not is_needed:
        yield None
        return

    def size(room: int | None) -> str:
        return f"size={1 << 30 if room is None else shutil.disk_usage(folder).used + room}"

    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", size(None), "tmpfs", folder], check=True)
    try:
        yield lambda room: subprocess.run(["mount", "-o", f"remount,{size(room)}", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def free_address() -> str:
    """Returns `127.0.0.1:PORT` with a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def committed(workdir) -> list[int]:
    """Returns the steps of the complete checkpoints of a workdir, in order."""
    folder = pathlib.Path(workdir) / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal()) if folder.is_dir() else []


def partial(workdir) -> bool:
    """Whether there is a checkpoint that is not complete."""
    return any(not p.name.isdecimal() for p in (pathlib.Path(workdir) / "checkpoints").iterdir())


def outcome(workdir) -> tuple:
    """Returns the hash of the final weights and all log records without their times."""
    weights = (pathlib.Path(workdir) / "model" / "weights.safetensors").read_bytes()
    records = [{k: v for k, v in record.items() if k not in _TIMES} for record in _records(workdir)]
    return hashlib.sha256(weights).hexdigest(), records


def _finish(processes) -> tuple[list[str], list[int], list[float]]:
    """Waits for all processes; returns their outputs, their exit codes, and the seconds to their ends."""
    start, seconds = time.monotonic(), {}
    try:
        while len(seconds) < len(processes) and time.monotonic() - start < _PROCESS_TIMEOUT_SECONDS:
            for index, process in enumerate(processes):
                if index not in seconds and process.poll() is not None:
                    seconds[index] = round(time.monotonic() - start, 2)
            time.sleep(0.01)
    finally:
        for process in processes:
            process.kill()  # also after a failure; has no effect on processes that have ended
    texts = [process.communicate()[0] for process in processes]
    codes = [process.returncode for process in processes]
    return texts, codes, [seconds.get(index, _PROCESS_TIMEOUT_SECONDS) for index in range(len(processes))]


def _restored(text: str) -> int | None:
    matched = re.search(r"restored step (\d+) of", text)
    return int(matched[1]) if matched else None


def _records(workdir) -> list[dict]:
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]
