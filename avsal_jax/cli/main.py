"""The console script `avsal`: picks the command and turns a user's mistake into one line."""

from __future__ import annotations

import argparse
import os
import sys

import avsal_jax
from avsal_jax.cli import compare, convert, doctor, evaluate, predict, prepare, train
from avsal_jax.errors import AvsalError

_COMMANDS = (predict, prepare, train, evaluate, compare, convert, doctor)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0 done, 2 a user mistake, 75 run it again, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="avsal", description="Predicts where people look in a video.")
    parser.add_argument("--version", action="version", version=f"avsal_jax {avsal_jax.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    args, more = parser.parse_known_args(argv)
    if more and not hasattr(args, "more"):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    args.more = more  # of `train`: the values of its config
    try:
        return args.run(args)
    except AvsalError as error:
        print(f"avsal: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("avsal: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as `avsal doctor | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
