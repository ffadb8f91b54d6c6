"""`avsal train`: a recipe and a workdir; the same command goes on where it was stopped."""

from __future__ import annotations

import argparse
import functools
import pathlib
import sys

from avsal_jax.cli import flags
from avsal_jax.errors import AvsalError


def add_parser(commands) -> None:
    """Adds the command's flags."""
    usage = "avsal train --config FILE_OR_NAME[:VARIANT,...] --workdir DIR [--config.KEY=VALUE ...]"
    parser = commands.add_parser("train", help="train a network by a recipe", usage=usage)
    add = parser.add_argument
    add("--config", metavar="NAME", help="a .py file or a shipped config, as vinet_dhf1k:table2_t16,smoke")
    add("--workdir", type=pathlib.Path, metavar="DIR", help="where the run lives")
    add("--list", action="store_true", help="print every config and row, with what the papers print for it")
    flags.add_processes(parser)
    add("--stall", type=flags.positive, default=900, metavar="S",
        help="seconds without progress after which stacks are printed")  # fmt: skip
    add("--profile", type=flags.positive, default=0, metavar="STEPS",
        help="number of steps to profile into WORKDIR/profile, for XProf or Perfetto")  # fmt: skip
    parser.set_defaults(run=run, more=[])  # `more`: the overrides, that `main` leaves to this command


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from avsal_jax.training import recipes

    if args.list:
        print(recipes.listing())
        return 0
    if args.config is None or args.workdir is None:
        raise AvsalError("train needs --config and --workdir, or --list")

    from avsal_jax.runtime.compile_cache import use_compile_cache
    from avsal_jax.training import launch
    from avsal_jax.training.overrides import config_values
    from avsal_jax.training.schema import build_config

    say = functools.partial(print, file=sys.stderr, flush=True)
    config = build_config(config_values(args.config, args.more, args.plugin))
    use_compile_cache()
    cluster = launch.chosen_cluster(args.coordinator, args.num_processes, args.process_id)
    limits = launch.Limits(args.join, args.heartbeat, args.stall)
    try:
        summary = launch.train_together(
            config, workdir=args.workdir, say=say, cluster=cluster, limits=limits, profile=args.profile
        )
    except launch.Preempted as stopped:
        say(f"{stopped}, and saved; the same command goes on from there")
        return launch.PREEMPTED
    if summary:
        best = "best {} {:.4f} at step {}; ".format(*summary["best"]) if summary["best"] else ""
        print(f"{summary['steps']} steps; {best}the model is {summary['model']}")
    return 0
