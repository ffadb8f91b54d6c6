"""`avsal predict`: saliency maps, overlays and reports for videos and photographs."""

from __future__ import annotations

import argparse
import pathlib
import sys

from avsal_jax.bundled import DEFAULT, NOTE
from avsal_jax.cli import flags
from avsal_jax.cli.table_help import TableHelp, TableHelpFormatter


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("predict", formatter_class=TableHelpFormatter,
        help="saliency maps, overlays and a report for videos and photographs")  # fmt: skip
    add = parser.add_argument
    add("input", nargs="+", metavar="INPUT",
        help="a video, a photograph, a folder of images (one video), a folder of videos")  # fmt: skip
    add("--stills", action="store_true", help="treat every picture, also in folders, as a photograph")
    add("--output", required=True, type=pathlib.Path, metavar="DIR", help="where the results go")
    add("--model", metavar="DIR", help="a model directory (from avsal convert, or trained), or the name of a "
        f"bundled model (default: {DEFAULT})")  # fmt: skip
    add("--audio", default="auto", metavar="auto|off|FILE", help="the input audio of a model (default: auto)")
    add("--save", type=flags.names, metavar="NAMES",
        help=TableHelp("of {output:is_default} (default: these), {output}, or a plugin's"))  # fmt: skip
    flags.add_features(parser)
    add("--postprocess", choices=("none", "vinet"), default="none",
        help="vinet: blur maps as the public code does")  # fmt: skip
    add("--batch", type=flags.batch, metavar="N", help="windows per call (default: 1 on CPU, else 8)")
    add("--smoothing", type=flags.smoothing, metavar="SECONDS", help=flags.SMOOTHING)
    add("--dtype", choices=("float32", "bfloat16"), default="float32")
    add("--fps", type=flags.rate, metavar="F", help="frames per second of a folder of images (default: 25)")
    add("--frame-step", type=flags.positive, default=1, metavar="K",
        help="use only every K-th frame")  # fmt: skip
    add("--stream", type=flags.count, metavar="N", help="index of the video stream in each file, as "
        "ffprobe counts (default: the one that players choose)")  # fmt: skip
    add("--shard", type=flags.shard, metavar="I/N", help="share I of N inputs (default: from the launcher)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import jax.numpy as jnp

    from avsal_jax.cli.running import predict_all
    from avsal_jax.cli.sharing import own_inputs
    from avsal_jax.inference.features import FeatureSettings
    from avsal_jax.inference.inputs import SoundChoice, list_inputs
    from avsal_jax.inference.predict import check_source
    from avsal_jax.inference.predictor import load_model
    from avsal_jax.inference.settings import Settings
    from avsal_jax.models.layers import Runtime
    from avsal_jax.runtime.compile_cache import use_compile_cache

    feature_settings = FeatureSettings(
        args.features, args.feature_frames, compare_audio=args.compare_audio, iterations=args.iterations
    )
    options = {name: getattr(args, name) for name in ("postprocess", "audio", "fps", "frame_step", "batch")}
    if args.save is not None:
        options["save"] = args.save
    settings = Settings(features=feature_settings, video_stream=args.stream, **options)

    def note(line):
        print(f"note: {line}", file=sys.stderr)

    inputs = own_inputs(list_inputs(args.input, args.output, note=note, stills=args.stills), args.shard)
    if not inputs:
        return 0
    if is_single := len(inputs) == 1:  # fails before a model is loaded
        inputs = {check_source(source, settings): folder for source, folder in inputs.items()}
    else:
        SoundChoice(args.audio).check()
    use_compile_cache()
    runtime = Runtime(dtype=jnp.dtype(args.dtype))
    if args.model is None:
        print(NOTE, file=sys.stderr)
    model = load_model(args.model or DEFAULT, runtime, args.smoothing)
    return predict_all(model, inputs, settings, are_checked=is_single)
