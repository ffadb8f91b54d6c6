"""`avsal prepare`: converts a data set to shards from which training streams clips."""

from __future__ import annotations

import argparse
import pathlib
import sys

from avsal_jax.cli import flags, gaze_flags

_NOTES = 5  # printed on the terminal; the report has all


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("prepare", help="make a data set ready for training")
    add = parser.add_argument
    add("--dataset", required=True, metavar="NAME", help="such as diem, dhf1k, stavis:MINE, synthetic")
    add("--root", type=pathlib.Path, metavar="DIR", help="folder of the data set (synthetic: written)")
    add("--output", required=True, type=pathlib.Path, metavar="DIR", help="where prepared sets go")
    add(
        "--size",
        type=flags.size,
        metavar="HxW",
        help="of the pictures (default: 224x384; synthetic: its own)",
    )
    add("--encoding", default="jpeg", choices=("jpeg", "png"), help="jpeg (quality 95, 4:4:4) or png (exact)")
    add("--workers", type=flags.positive, metavar="N", help="parallel videos (default: one per processor)")
    add("--set", action="append", default=[], type=flags.pair, metavar="KEY=VALUE", dest="settings",
        help="of the synthetic set, such as preset=experiment or grade=identity")  # fmt: skip
    gaze_flags.add_gaze(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import tqdm

    from avsal_jax.data.prepared.prepare import prepare, prepare_generated
    from avsal_jax.data.sets.datasets import find_dataset
    from avsal_jax.errors import AvsalError

    def bar(total, unit="frame", desc="preparing"):
        return tqdm.tqdm(total=total, unit=unit, desc=desc, file=sys.stderr)

    options = {"encoding": args.encoding, "workers": args.workers, "bar": bar}
    if find_dataset(args.dataset).generator is not None:
        settings = dict(args.settings)
        summary = prepare_generated(
            args.dataset, settings, output=args.output, root=args.root, size=args.size, **options
        )
    elif args.settings:
        raise AvsalError(f"--set applies only to generated sets; remove it for {args.dataset}")
    elif args.root is None:
        raise AvsalError(f"--root is missing: the folder where {args.dataset} was unpacked")
    else:
        summary = prepare(
            args.dataset,
            root=args.root,
            output=args.output,
            size=args.size or (224, 384),
            gaze=gaze_flags.gaze_options(args),
            **options,
        )
    print(
        f"{summary['videos']} videos, {summary['frames']} frames, {summary['bytes'] / 1e6:.1f} MB in "
        f"{summary['folder']}; {summary['prepared']} prepared now; the report is {summary['report']}"
    )
    for line in summary["problems"][:_NOTES]:
        print(f"note: {line}", file=sys.stderr)
    if (omitted := len(summary["problems"]) - _NOTES) > 0:
        print(f"note: and {omitted} more such lines in the report", file=sys.stderr)
    for line in summary["failed"]:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if summary["failed"] else 0
