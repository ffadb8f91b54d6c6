"""`avsal evaluate`: metrics over a whole data set, for a model or for saved maps of any method."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

from avsal_jax.cli import flags, gaze_flags
from avsal_jax.cli.table_help import TableHelp, TableHelpFormatter


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("evaluate", formatter_class=TableHelpFormatter,
        help="metrics over a data set, for a model or saved maps")  # fmt: skip
    add = parser.add_argument
    add("--dataset", required=True, metavar="NAME", help="such as diem, dhf1k, stavis:MINE")
    add("--root", required=True, type=pathlib.Path, metavar="DIR", help="folder of the data set")
    add("--output", required=True, type=pathlib.Path, metavar="DIR", help="where the results go")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="DIR", help=TableHelp("a model, 1=DIR,2=DIR,3=DIR for pooled "
        "folds, a .npz of fit-prior, {baseline}"))  # fmt: skip
    source.add_argument("--predictions", type=pathlib.Path, metavar="DIR", help="saved maps: DIR/<video>/...")
    add("--protocol", metavar="P", help="of `avsal list protocol` (default: that of the set)")
    add("--postprocess", choices=("none", "vinet"), help="how maps of a model are stored; vinet: blurred "
        "11x11, as its public code does on every set (default: the protocol's)")  # fmt: skip
    add("--split", default="test", choices=("train", "val", "test", "all"),
        help="all: every stimulus of a set of recorded gaze")  # fmt: skip
    add("--fold", type=flags.positive, metavar="K")
    add("--list", type=pathlib.Path, metavar="FILE", help="videos to evaluate, 'set video' per line, or "
        "domain:nature_test")  # fmt: skip
    add("--shard", type=flags.shard, metavar="I/N", help="only the I-th of N shares, which merge in DIR "
        "(default: the launcher's number)")  # fmt: skip
    add("--observers", metavar="DIR", help="raw fixations, for --model human; of several sets "
        "diem=DIR,coutrot1=FILE,coutrot2=FILE")  # fmt: skip
    add("--metrics", type=flags.names, default=(), metavar="LIST", help=TableHelp(
        "of {metric:by_default} (default: these), {metric}; on a grid also: {metric:grid_only}"))  # fmt: skip
    add("--prior", type=pathlib.Path, metavar="FILE", help="of fit-prior: adds the information gain over it "
        "(without: over the centre prior, where --metrics has it)")  # fmt: skip
    add("--seed", type=flags.seed, default=0, help="of the random numbers")
    add("--label", type=flags.label, metavar="NAME", help="the method's name in tables (default: the folder; "
        "of runs/NAME/model, NAME)")  # fmt: skip
    add("--batch", type=flags.batch, metavar="N")
    add("--smoothing", type=flags.smoothing, metavar="SECONDS", help=flags.SMOOTHING)
    add("--allow-seen", action="store_true", help="score a prior or mean map on what it was fitted on")
    flags.add_ablations(parser)
    gaze_flags.add_gaze(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import tqdm

    from avsal_jax.cli.sharing import own_shard
    from avsal_jax.evaluation.evaluate import Request, evaluate
    from avsal_jax.runtime.compile_cache import use_compile_cache

    use_compile_cache()
    names = {field.name for field in dataclasses.fields(Request)} & vars(args).keys()
    settings = {name: getattr(args, name) for name in names} | {"shard": own_shard(args.shard)}
    request = Request(**settings, list_file=args.list, gaze=gaze_flags.gaze_options(args))

    def progress(units):
        return tqdm.tqdm(units, unit="video", desc="evaluating", file=sys.stderr)

    summary = evaluate(
        request, output=args.output, say=lambda line: print(line, file=sys.stderr), progress=progress
    )
    if "submission" in summary:
        print(f"{summary['videos']} videos for submission in {summary['submission']}")
    elif "metrics" in summary:
        print((args.output / "table.md").read_text(encoding="utf-8"))
    else:
        print(f"{summary['videos']} of {summary['of']} videos are done; the last share writes the tables")
    for line in summary["failed"]:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if summary["failed"] else 0
