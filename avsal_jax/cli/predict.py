"""`avsal predict`: saliency maps and an overlay video for a video file."""

from __future__ import annotations

import argparse
import sys

_UNTRAINED = (
    "note: these maps are not meaningful: no --model was given, and the small default has random weights"
)


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("predict", help="saliency maps and an overlay for a video")
    parser.add_argument("input", metavar="INPUT", help="a video file")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--model", metavar="DIR", help="a model directory (from avsal convert, or trained)")
    parser.add_argument(
        "--save",
        type=_saves,
        default=("maps", "overlay"),
        metavar="KINDS",
        help="of maps,overlay (default: both)",
    )
    parser.add_argument(
        "--batch", type=_positive, metavar="N", help="windows per call (default: 1 on CPU, else 8)"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import jax.numpy as jnp
    import tqdm

    from avsal_jax.data.video import Video
    from avsal_jax.inference.predict import predict_file
    from avsal_jax.inference.predictor import load_model, untrained_model
    from avsal_jax.models.layers import Runtime

    def progress(maps, total):
        return tqdm.tqdm(maps, total=total, unit="map", desc="predicting", file=sys.stderr)

    Video(args.input)  # a wrong path is told before a model is loaded
    runtime = Runtime(dtype=jnp.dtype(args.dtype))
    if args.model is None:
        _say(_UNTRAINED)
    model = untrained_model(runtime) if args.model is None else load_model(args.model, runtime)
    summary = predict_file(model, args.input, args.output, args.save, args.batch, _say, progress)
    print(
        f"{summary['frames']} maps in {args.output} ({summary['maps_per_second']:.2f} a second, after "
        f"{summary['compile_seconds']:.1f} s of compiling)"
    )
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _saves(text: str) -> tuple[str, ...]:
    allowed = ("maps", "overlay")
    kinds = tuple(text.split(","))
    unknown = [kind for kind in kinds if kind not in allowed]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(allowed)}")
    return kinds


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)
