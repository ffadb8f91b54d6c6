"""Measures the CPU time of the NumPy metrics on one core (Linux), and frames per second of five metrics.

python tools/benchmark_metrics.py [--height 360] [--width 640] [--fixations 60] [--frames 20]
"""

import argparse
import os
import statistics
import time

import numpy as np

from avsal_jax import metrics

FIVE = ("cc", "sim", "nss", "kl", "auc_judd")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--fixations", type=int, default=60, help="fixated pixels per frame")
    parser.add_argument("--frames", type=int, default=20)
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    frames = [_frame(rng, args.height, args.width, args.fixations) for _ in range(args.frames)]
    seconds = {name: statistics.median(_timed(run, *f) for f in frames) for name, run in _runs(rng).items()}
    print(f"{args.height}x{args.width}, {args.fixations} fixated pixels, numpy {np.__version__}, one core\n")
    print("| metric | median ms per frame |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value * 1e3:.2f} |")
    print(f"\n{', '.join(FIVE)}: {1 / statistics.median(_five(frames)):.0f} frames per second")


def _frame(rng, height, width, count):
    """Returns a float32 prediction, an 8-bit density and fixations that are drawn from it."""
    y, x = np.mgrid[:height, :width] / height
    centre = rng.uniform(0.3, 0.7, 2)
    density = np.exp(-((y - centre[0]) ** 2 + (x - 2 * centre[1]) ** 2) / 0.02)
    indices = rng.choice(density.size, count, replace=False, p=(density / density.sum()).ravel())
    fixations = np.zeros((height, width), np.uint8)
    fixations.ravel()[indices] = 1
    prediction = (0.8 * density + 0.2 * rng.random((height, width))).astype(np.float32)
    return prediction, np.rint(density * 255).astype(np.uint8), fixations


def _runs(rng):
    def shuffled(p, _, f):
        return metrics.auc_shuffled(p, f, metrics.sample_shuffled_negatives(f, f[::-1], rng))

    return {
        "cc": lambda p, g, _: metrics.cc(p, g),
        "sim": lambda p, g, _: metrics.sim(p, g),
        "nss": lambda p, _, f: metrics.nss(p, f),
        "kl": lambda p, g, _: metrics.kl(p, g),
        "auc_judd": lambda p, _, f: metrics.auc_judd(p, f),
        "auc_shuffled, 100 splits": shuffled,
        "imresize from half the size": lambda p, *_: metrics.imresize(p[::2, ::2], *p.shape),
    }


def _timed(run, *frame):
    started = time.process_time()
    run(*frame)
    return time.process_time() - started


def _five(frames):
    runs = [run for name, run in _runs(None).items() if name in FIVE]
    return [sum(_timed(run, *frame) for run in runs) for frame in frames]


if __name__ == "__main__":
    main()
