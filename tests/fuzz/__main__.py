"""Runs inputs of all kinds and commands and prints a table of outcomes. Exits with 1 if one is a fault.

python -m tests.fuzz --count 2000 --seconds 600 --jobs 2
python -m tests.fuzz --only mp4:predict --count 100
python -m tests.fuzz --only mp4:predict --seed 17 --count 1     (repeats one input)
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import itertools
import os
import pathlib
import sys
import tempfile
import time

_FORMER_FAULTS = pathlib.Path(__file__).with_name("found.txt")
_ORDER = ("right", "noted", "one of several", "refused", "fault")


def main() -> int:
    args = _arguments()
    _settings(args.cache)
    from tests.fuzz import workers
    from tests.fuzz.targets import BY_NAME

    _import_everything()
    keys = [key for key in BY_NAME if not args.only or _matches(key, args.only)]
    if not keys:
        sys.exit(f"--only {args.only} is not one of {', '.join(map(':'.join, BY_NAME))}")
    with contextlib.ExitStack() as stack:
        place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="avsal-fuzz-")))
        source = place / "undamaged"
        built = next(workers.run([("build",)], functools.partial(_builder, source), 1))
        if built.death or built.answer:
            sys.exit(f"the undamaged files cannot be made: {built.death or built.answer}")
        started = time.monotonic()
        jobs = _jobs(keys, args, started)
        work = functools.partial(_trial, source, place, args.keep)
        return _report(workers.run(jobs, work, args.jobs), started, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--count", type=int, default=2_000, help="of inputs, spread evenly (default: 2000)")
    add("--seconds", type=float, default=600, help="no input starts later (default: 600)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per processor)")
    add("--seed", type=int, default=0, help="of the first input of each kind and command")
    add("--only", default="", metavar="KIND:COMMAND", help="either may be omitted")
    add("--found", action="store_true", help="also run the inputs of found.txt, which were faults once")
    add("--keep", type=pathlib.Path, default=pathlib.Path("fuzz-faults"), help="folder for inputs of faults")
    add("--cache", default="", help="a folder of compiled programs to use again")
    return parser.parse_args()


def _settings(cache: str) -> None:
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache or tempfile.mkdtemp(prefix="avsal-fuzz-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # as avsal_jax.data.prepared sets it


def _import_everything() -> None:
    """Before the processes are forked: what a first call would import."""
    import librosa
    import tensorflow_datasets  # noqa: F401
    import torch

    import tests.fuzz.reading
    import tests.fuzz.trial  # noqa: F401

    _ = librosa.resample  # librosa imports its parts when they are first asked for
    torch.set_num_threads(1)


def _matches(key: tuple[str, str], only: str) -> bool:
    kind, _, command = only.partition(":")
    return kind in ("", key[0]) and command in ("", key[1])


def _jobs(keys, args, started: float):
    """Yields (kind, command, seed): former faults, then seed by seed, until count or time is reached."""
    former = [job for job in _former_faults() if job[:2] in keys] if args.found else []
    seeds = ((kind, command, seed) for seed in itertools.count(args.seed) for kind, command in keys)
    for job in itertools.chain(former, itertools.islice(seeds, args.count)):
        if time.monotonic() - started > args.seconds:
            return
        yield job


def _former_faults():
    """Yields (kind, command, seed) of the inputs in found.txt."""
    lines = _FORMER_FAULTS.read_text().splitlines() if _FORMER_FAULTS.exists() else []
    for line in lines:
        text = line.partition("#")[0].strip()
        if text:
            kind, command, seed = text.split("\t")
            yield kind, command, int(seed)


def _builder(source: pathlib.Path):
    from tests.fuzz import corpus

    def build(_):
        try:
            corpus.build(source)
        except Exception:
            import traceback

            return traceback.format_exc()
        return None

    return build


def _trial(source: pathlib.Path, place: pathlib.Path, keep: pathlib.Path):
    from tests.fuzz.trial import Trial

    return Trial(source, pathlib.Path(tempfile.mkdtemp(prefix="worker-", dir=place)), keep.absolute())


def _report(results, started: float, args) -> int:
    counts, faults, seconds = collections.defaultdict(collections.Counter), [], collections.Counter()
    slowest, peak = (0.0, ()), 0
    for result in results:
        kind, command, seed = result.job
        name = "fault" if result.death else result.answer.name
        counts[kind, command][name] += 1
        seconds[kind, command] += result.seconds
        slowest, peak = max(slowest, (result.seconds, result.job)), max(peak, result.peak)
        if name == "fault":
            faults.append(result.job)
            answer = result.answer
            problems = [result.death] if result.death else [*answer.problems, f"({answer.words})"]
            repeat = f"python -m tests.fuzz --only '{kind}:{command}' --seed {seed} --count 1"
            print("FAULT", repeat, *problems, sep="\n    ", flush=True)
    print(_table(counts, seconds))
    total = sum(counter.total() for counter in counts.values())
    print(
        f"{total} inputs in {time.monotonic() - started:.0f} s; {len(faults)} faults; the slowest took "
        f"{slowest[0]:.1f} s: {slowest[1]}; at most {peak >> 20} MiB of memory"
    )
    return 1 if faults else 0


def _table(counts, seconds) -> str:
    lines = [
        "| kind | command | " + " | ".join(_ORDER) + " | all | seconds each |",
        "|---" * (len(_ORDER) + 4) + "|",
    ]
    totals = collections.Counter()
    for key in sorted(counts, key=lambda key: (key[1], key[0])):
        total = sum(counts[key].values())
        totals.update(counts[key])
        cells = [*key, *(counts[key][name] for name in _ORDER), total, f"{seconds[key] / total:.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    cells = ["all", "", *(totals[name] for name in _ORDER), sum(totals.values()), ""]
    return "\n".join([*lines, "| " + " | ".join(map(str, cells)) + " |"])


if __name__ == "__main__":
    sys.exit(main())
