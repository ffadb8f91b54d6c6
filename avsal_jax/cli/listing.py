"""`avsal list`: the names that configs and commands accept, from the package and from plugins."""

from __future__ import annotations

import argparse
import sys


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("list", help="what is registered: parts, metrics, data sets, and so on")
    parser.add_argument(
        "kind", nargs="?", metavar="KIND", help="such as fusion or metric (default: all kinds)"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of the kind, with all its fields")
    parser.add_argument("--example", action="store_true", help="print a complete plugin of the kind")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command; loads all installed plugins."""
    from avsal_jax import catalogue, registry
    from avsal_jax.plugins import load_all_installed

    if args.kind is not None:
        registry.find_kind(args.kind)
    failed = load_all_installed()
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if args.kind is None:
        print(catalogue.kinds())
    elif args.example:
        print(catalogue.example(args.kind))
    elif args.name is None:
        print(catalogue.of_kind(args.kind))
    else:
        print(catalogue.of_name(args.kind, args.name))
    return 1 if failed else 0
