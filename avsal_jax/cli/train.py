"""`avsal train`: trains a recipe in a workdir; the same command resumes a stopped run."""

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
    add("--workdir", type=pathlib.Path, metavar="DIR", help="folder of the run")
    add("--list", action="store_true", help="print every config and row, with the results in the papers")
    flags.add_processes(parser)
    add("--stall", type=flags.positive, default=900, metavar="S",
        help="seconds without progress after which stacks are printed")  # fmt: skip
    add("--profile", type=flags.positive, default=0, metavar="STEPS",
        help="number of steps to record in WORKDIR/profile, for TensorBoard (XProf) or Perfetto")  # fmt: skip
    parser.set_defaults(run=run, overrides=[])  # arguments that `main` does not parse


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
    config = build_config(config_values(args.config, args.overrides, args.plugin))
    use_compile_cache()
    cluster = launch.chosen_cluster(args.coordinator, args.num_processes, args.process_id)
    limits = launch.Limits(args.join, args.heartbeat, args.stall)
    try:
        summary = launch.train_together(
            config,
            workdir=args.workdir,
            say=say,
            cluster=cluster,
            limits=limits,
            profile=args.profile,
            config_name=recipes.label(args.config),
        )
    except launch.Preempted as stopped:
        say(f"{stopped}, and saved; the same command resumes from there")
        return launch.PREEMPTED
    if summary:
        best = "best {} {:.4f} at step {}; ".format(*summary["best"]) if summary["best"] else ""
        print(f"{summary['steps']} steps; {best}the model is {summary['model']}")
    return 0
