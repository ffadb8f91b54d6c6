"""One input: creates it, damages it, runs its command and judges the outcome, in a worker process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import sys
import traceback
import zlib
from collections.abc import Iterator

import numpy as np

from tests.fuzz import corpus, outcomes
from tests.fuzz.mutations import Damage, damaged
from tests.fuzz.targets import BY_NAME, Attempt, Target


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
      name: `right`, `noted`, `one of several` (exit code 1), `refused` (exit code 2) or `fault`.
      problems: of a fault.
      words: what was done to the file.
      printed: the end of stderr.
    """

    name: str
    problems: tuple[str, ...]
    words: str
    printed: str


class Trial:
    """Tries inputs in one process.

    Args:
      source: the folder of undamaged files.
      scratch: a folder of this process's own.
      keep: where the inputs of faults go.
    """

    def __init__(self, source: pathlib.Path, scratch: pathlib.Path, keep: pathlib.Path):
        self._source, self._scratch, self._keep = source, scratch, keep
        self._undamaged: dict[tuple, dict] = {}
        self._donors = sorted(
            p
            for p in source.rglob("*.*")
            if p.is_file() and p.stat().st_size < 60_000 and corpus.GAZE not in p.relative_to(source).parts
        )
        _lend_models()
        _remember_shapes()
        _remember_programs()

    def __call__(self, kind: str, command: str, seed: int) -> Outcome:
        target, folder = BY_NAME[kind, command], self._scratch / "input"
        shutil.rmtree(folder, ignore_errors=True)
        rng = _generator(kind, command, seed)
        attempt = target.attempt(self._source, folder, rng)
        damage = self._damage(target, attempt, rng)
        attempt.victim.write_bytes(damage.content)
        attempt.settle()
        outcome = self._judged(target, attempt, damage)
        if outcome.name == "fault":
            fault_folder = self._keep / f"{kind}-{command}-{seed}".replace(" ", "-")
            shutil.rmtree(fault_folder, ignore_errors=True)
            fault_folder.mkdir(parents=True)
            shutil.copy(attempt.victim, fault_folder) if attempt.victim.exists() else None
            report = "\n".join([*outcome.problems, outcome.words, outcome.printed])
            (fault_folder / "printed.txt").write_text(report)
        return outcome

    def _damage(self, target: Target, attempt: Attempt, rng) -> Damage:
        other = self._donors[rng.integers(len(self._donors))].read_bytes()
        return damaged(target.kind, attempt.victim.read_bytes(), other, rng)

    def _judged(self, target: Target, attempt: Attempt, damage: Damage) -> Outcome:
        before = outcomes.snapshot(attempt.output)
        code, output, errors = called(attempt, self._scratch)
        try:
            problems = outcomes.problems(target, attempt, code, errors, before)
            if damage.neutral and not problems:
                problems += self._compared(target, attempt, code, output)
        except Exception:  # the result is missing or cannot be read
            problems = [f"cannot be judged: {traceback.format_exc()[-1_500:]}"]
        notes = any(line.startswith("note: ") for line in errors.splitlines())
        name = {0: "noted" if notes else "right", 1: "one of several"}.get(code, "refused")
        return Outcome("fault" if problems else name, tuple(problems), damage.words, errors[-4_000:])

    def _compared(self, target: Target, attempt: Attempt, code: int, output: str) -> list[str]:
        """What differs from the result of the undamaged file."""
        if code != 0:
            return [f"exit code {code} for a file that means the same"]
        numbers = outcomes.result(attempt, output)
        key = target.kind, target.command, attempt.variant
        if key not in self._undamaged:
            self._undamaged[key] = self._undamaged_result(target, attempt.variant)
        expected = self._undamaged[key]
        names = [name for name in {*numbers, *expected} if numbers.get(name) != expected.get(name)]
        return [f"a file that means the same gives another {sorted(names)[0]}"] if names else []

    def _undamaged_result(self, target: Target, variant: str) -> dict:
        for seed in range(1_000):
            folder = self._scratch / "undamaged"
            shutil.rmtree(folder, ignore_errors=True)
            attempt = target.attempt(self._source, folder, np.random.default_rng(seed))
            if attempt.variant == variant:
                attempt.settle()
                code, output, errors = called(attempt, self._scratch)
                if code != 0:
                    raise RuntimeError(f"the undamaged files of {target} fail: {errors}")
                return outcomes.result(attempt, output)
        raise RuntimeError(f"{target} has no variant {variant}")


def _generator(kind: str, command: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(kind.encode()), zlib.crc32(command.encode()), seed])


def called(attempt: Attempt, scratch: pathlib.Path) -> tuple[int, str, str]:
    """Returns (exit code, stdout, stderr) of an attempt's call in this process."""
    texts = []
    with _captured(scratch, texts):
        code = _exit_code(attempt)
    return code, *texts


def _exit_code(attempt: Attempt) -> int:
    from avsal_jax.cli.main import main
    from avsal_jax.errors import AvsalError

    try:
        if not callable(attempt.call):
            return main(attempt.call)
        attempt.call()
    except AvsalError as error:  # as `main` does
        print(f"avsal: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except SystemExit as stop:
        return stop.code
    except BaseException:
        traceback.print_exc()
        return outcomes.UNEXPECTED
    return 0


@contextlib.contextmanager
def _captured(scratch: pathlib.Path, texts: list[str]) -> Iterator[None]:
    """Gathers what is printed meanwhile, by libraries written in C as well."""
    files = [(scratch / name).open("w+b") for name in ("stdout", "stderr")]
    descriptors = [os.dup(number) for number in (1, 2)]
    try:
        for number, file in enumerate(files, 1):
            os.dup2(file.fileno(), number)
        yield
    finally:
        for number, (stream, file) in enumerate(zip((sys.stdout, sys.stderr), files, strict=True), 1):
            stream.flush()
            os.dup2(descriptors[number - 1], number)
            os.close(descriptors[number - 1])
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
            file.close()


def _lend_models() -> None:
    """Has `--model picture` and `--model hearing` mean small networks that are compiled once in a process."""
    from avsal_jax.inference import predictor
    from avsal_jax.spec.front_ends import Waveform
    from avsal_jax.testing.models import hearing_probe, probe_model

    models, load = {}, predictor.load_model
    makers = {
        "picture": lambda: probe_model(8, 32, 32),
        "hearing": lambda: hearing_probe(Waveform(20_000), 8, 32, 32),
    }

    def load_or_lend(path, runtime=None, smoothing=None):
        if path in makers:
            return models.setdefault(path, models.get(path) or makers[path]())
        return load(path, runtime, smoothing)

    predictor.load_model = load_or_lend


def _remember_shapes() -> None:
    """Has a network be traced for its shapes once, which takes longer than all else that reads a model."""
    from avsal_jax import storage
    from avsal_jax.convert import convert

    remembered, trace = {}, storage.abstract_variables

    def abstract_variables(network):
        if network not in remembered:
            remembered[network] = trace(network)
        return remembered[network]

    storage.abstract_variables = convert.abstract_variables = abstract_variables


def _remember_programs() -> None:
    """Has a network be compiled once; other weights are other arguments of the same programs."""
    from avsal_jax.inference.streaming import WindowEngine

    remembered, compile_programs = {}, WindowEngine.__init__

    def remembering(self, network, variables, batch, medium="video"):
        key = network, batch
        if key not in remembered:
            compile_programs(self, network, variables, batch, medium)
            remembered[key] = self
        self.__dict__ |= {**remembered[key].__dict__, "_variables": variables}

    WindowEngine.__init__ = remembering
