"""`avsal compare`: results side by side, with paired differences and published numbers."""

from __future__ import annotations

import argparse
import pathlib


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("compare", help="tables, paired differences and pictures of results")
    parser.add_argument(
        "result",
        nargs="+",
        metavar="RESULT",
        help="a folder that avsal evaluate wrote, LABEL=FOLDER, published:METHOD such as "
        "'published:AViNet(B)', or published:KEY such as 'published:avinet:2:ViNet(T=16)' (`avsal train "
        "--list` prints keys); results of one method on several sets join; differences are from the first",
    )
    parser.add_argument(
        "--output", required=True, type=pathlib.Path, metavar="DIR", help="where the files go"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from avsal_jax.evaluation.compare import compare
    from avsal_jax.evaluation.compare_report import write_comparison
    from avsal_jax.evaluation.compare_tables import markdown
    from avsal_jax.evaluation.results import read_results

    results = [result for text in args.result for result in read_results(text)]
    comparison = compare(results)
    output = write_comparison(comparison, results, args.output)
    print(markdown(comparison))
    print(f"comparison.csv, comparison.md, comparison.json and report.html are in {output}")
    return 0
