"""The cases of `gpu_check.py`; each runs in a process of its own and writes what it measured as it goes.

  python tools/gpu_cases.py CASE --folder DIR [--rehearse]

writes DIR/CASE.json after every program and result. `complete` in it is true at the end alone.
"""

import argparse
import functools
import os
import pathlib
import sys
import threading
import traceback

import jax
import jax.numpy as jnp
import numpy as np
from gpu_parity import SYSTEMS, compare_golden, compare_system, one_step, short_stream, small_preset
from gpu_record import Check
from gpu_speed import measure_forward, measure_repeats, measure_stream, measure_training
from measure import card, machine, matrix_flops

from avsal_jax.ops.convolution import conv3d
from avsal_jax.testing.parts import small_parts


def small(check: Check) -> None:
    """Compiles and runs a network with and without sound, so that a changed API shows in seconds."""
    check.record("machine", machine())
    for name in ("vinet", "avinet_b"):
        preset = small_preset(name)
        check.record(name, one_step(check, name, preset))
        check.record(f"{name}, stream", short_stream(preset))
    check.record("torch", check.torch.__version__ if check.torch else "not installed")


def roof(check: Check) -> None:
    """The rate of a plain matrix product and of a plain 3x3x3 convolution, direct and folded."""
    sizes, rng = check.sizes, np.random.default_rng(0)
    channels, places = sizes.channels, (sizes.batch, sizes.frames, sizes.height // 4, sizes.width // 4)
    matrix = rng.standard_normal((sizes.side, sizes.side), np.float32)
    clip = rng.standard_normal((*places, channels), np.float32)
    kernel = rng.standard_normal((3, 3, 3, channels, channels), np.float32)
    folded, direct = (
        functools.partial(conv3d, padding=(1, 1, 1), lowering=lowering) for lowering in ("folded", "direct")
    )
    functions = {
        "matrix product": (jnp.matmul, matrix, matrix),
        "convolution": (direct, clip, kernel),
        "folded convolution": (folded, clip, kernel),
    }
    for dtype, precision in (("bfloat16", "default"), ("float32", "default"), ("float32", "highest")):
        for name, (function, *arrays) in functions.items():
            arguments = jax.device_put([jnp.asarray(array, dtype) for array in arrays])
            title = f"{name}, {dtype}{' without TF32' if precision == 'highest' else ''}"
            with jax.default_matmul_precision(precision):
                program = check.compile(title, function, *arguments)
            call = functools.partial(program, *arguments)
            check.record(title, check.plain_rate(call, matrix_flops(function, *arguments)))
    check.record("machine", machine())
    check.record("card under load", card())


def parity(check: Check) -> None:
    """ViNet T32 against its golden file."""
    precisions = (("float32", "highest"), ("float32", "default"), ("bfloat16", "default"))
    compare_golden(check, "vinet_t32", "vinet", {}, precisions[: 1 if check.rehearse else None])


CASES = {
    "small": small,
    "roof": roof,
    "parity": parity,
    "forward_bfloat16": functools.partial(measure_forward, dtype="bfloat16"),
    "forward_float32": functools.partial(measure_forward, dtype="float32"),
    "train_bfloat16": functools.partial(measure_training, dtype="bfloat16"),
    "train_float32": functools.partial(measure_training, dtype="float32"),
    "train_remat": functools.partial(measure_training, dtype="bfloat16", remat=True, with_torch=False),
    "stream": measure_stream,
    "repeat": measure_repeats,
    "repeat_deterministic": measure_repeats,
    **{name: functools.partial(compare_system, name=name) for name in SYSTEMS if name != "vinet"},
}


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone: the pipe on its standard input closes."""

    def watch():
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read, whose lock stops the interpreter's own end
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=tuple(CASES))
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=600.0, help="time that the case has")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--end-with-parent", action="store_true", help="when standard input closes")
    args = parser.parse_args()
    if args.end_with_parent:
        _end_with_parent()
    check = Check(args.case, args.folder, args.seconds, args.rehearse)
    check.write()
    try:
        if jax.default_backend() == "cpu" and not args.rehearse:
            raise RuntimeError("jax sees no accelerator; run `python -c 'import jax; jax.devices()'`")
        with small_parts():
            CASES[args.case](check)
    except Exception as error:
        traceback.print_exc()
        check.report["error"] = f"{type(error).__name__}: {error}"[:2000]
        check.write()
        sys.exit(1)
    check.report["complete"] = True
    check.write()


if __name__ == "__main__":
    main()
