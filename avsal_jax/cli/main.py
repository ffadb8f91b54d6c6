"""The console script `avsal`: runs a command, and prints errors of users as one line."""

from __future__ import annotations

import argparse
import os
import sys

import avsal_jax
from avsal_jax.cli import compare, convert, doctor, evaluate, fit_prior, listing, predict, prepare, train
from avsal_jax.errors import AvsalError, error_line, is_machine_error
from avsal_jax.plugins import load_plugins

_COMMANDS = (predict, prepare, train, evaluate, fit_prior, compare, convert, listing, doctor)
_FAULT = 70  # the exit code of an internal error (EX_SOFTWARE of sysexits.h)


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0: done. 1: some of several inputs failed. 2: an error that the user can fix. 70: an internal error of
    this program. 75: run the same command again. 130: interrupted.
    """
    for stream in (sys.stdout, sys.stderr):  # escapes characters that the terminal cannot encode
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        args = _parsed(argv)
        load_plugins(args.plugin)
        return args.run(args)
    except AvsalError as error:
        print(f"avsal: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("avsal: interrupted; no partial output is left", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as `avsal doctor | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        print(f"avsal: {error_line(error)}", file=sys.stderr)
        return 2 if is_machine_error(error) else _FAULT


def _parsed(argv: list[str] | None) -> argparse.Namespace:
    """Returns the arguments of a command; help texts read the registry, which loads plugins."""
    parser = argparse.ArgumentParser(prog="avsal", description="Predicts where people look in a video.")
    parser.add_argument("--version", action="version", version=f"avsal_jax {avsal_jax.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    for command in commands.choices.values():
        command.add_argument("--plugin", action="append", default=[], metavar="FILE_OR_MODULE",
            help="registers parts, metrics, data sets, ...; runs code: use only what you trust")  # fmt: skip
    args, overrides = parser.parse_known_args(argv)
    if overrides and not hasattr(args, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    args.overrides = overrides  # values of the config of `train`
    return args


if __name__ == "__main__":
    sys.exit(main())
