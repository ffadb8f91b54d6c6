"""`avsal fit-prior`: writes the mean map of stimuli to a file for `avsal evaluate --model`."""

from __future__ import annotations

import argparse
import pathlib
import sys

from avsal_jax.cli import flags, gaze_flags


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("fit-prior", help="fit a prior (the mean map) on the gaze of a data set")
    add = parser.add_argument
    add("--dataset", required=True, metavar="NAME", help="such as osie, hevc_gaze, gaze:MINE, diem")
    add("--root", required=True, type=pathlib.Path, metavar="DIR", help="folder of the data set")
    add("--output", required=True, type=pathlib.Path, metavar="FILE", help="the .npz file to write")
    add("--split", default="train", choices=("train", "val", "test", "all"), help="default: train")
    add("--fold", type=flags.positive, metavar="K")
    add("--list", type=pathlib.Path, metavar="FILE", help="stimuli to use in place of the split")
    gaze_flags.add_gaze(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import tqdm

    from avsal_jax.data.sets.datasets import open_dataset
    from avsal_jax.evaluation.priors import fit_prior

    entries = open_dataset(
        args.dataset,
        root=args.root,
        split=args.split,
        fold=args.fold,
        list_file=args.list,
        gaze=gaze_flags.gaze_options(args),
    )

    def progress(stimuli):
        return tqdm.tqdm(stimuli, unit="stimulus", desc="fitting", file=sys.stderr)

    count = fit_prior(entries, args.output, progress)
    print(f"the mean map of {count} stimuli of {args.dataset} is in {args.output}")
    return 0
