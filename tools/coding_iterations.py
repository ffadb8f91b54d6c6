"""Scores a model with several numbers of iterations of predictive coding (Xiong et al. 2023, figure 5).

  python tools/coding_iterations.py --model DIR --dataset diem --root DATA --output results_iterations

Runs `avsal evaluate --coding-iterations N` for each number of --iterations in OUTPUT/nN, and writes
OUTPUT/iterations.md, a table, and OUTPUT/iterations.png, a curve for each metric. It continues where it was
stopped. With `--model 1=DIR,2=DIR,3=DIR` the videos of all folds are pooled.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

from avsal_jax.cli import flags
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.files import write_text
from avsal_jax.runtime.compile_cache import use_compile_cache

METRICS = ("cc", "nss", "sim")


def table(counts: Sequence[int], means: dict[str, Sequence[float]]) -> str:
    """Returns Markdown: a row for each number of iterations, a column for each metric."""
    lines = [f"| iterations | {' | '.join(means)} |", "|---" * (1 + len(means)) + "|"]
    rows = zip(counts, *means.values(), strict=True)
    lines += [f"| {count} | {' | '.join(f'{value:.4f}' for value in values)} |" for count, *values in rows]
    return "\n".join(lines) + "\n"


def draw(counts: Sequence[int], means: dict[str, Sequence[float]], path: pathlib.Path) -> None:
    """Writes a PNG with a curve over the iterations for each metric."""
    figure, axes = plt.subplots(
        1, len(means), figsize=(3 * len(means), 2.6), squeeze=False, layout="constrained"
    )
    for axis, (name, values) in zip(axes[0], means.items(), strict=True):
        axis.plot(counts, values, "o-")
        axis.set(title=name, xlabel="iterations", xticks=list(counts))
    figure.savefig(path, metadata={"Software": None}, dpi=110)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", required=True, type=pathlib.Path)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--fold", type=int)
    parser.add_argument("--protocol")
    parser.add_argument("--metrics", type=flags.names, default=METRICS)
    parser.add_argument("--iterations", default="0,1,2,3,4,5", help="numbers (default: those of the figure)")
    args = parser.parse_args()
    use_compile_cache()
    counts = sorted({int(number) for number in args.iterations.split(",")})
    settings = {name: getattr(args, name) for name in ("split", "fold", "protocol", "metrics", "model")}
    means = {name: [] for name in args.metrics}
    for count in counts:
        request = Request(args.dataset, args.root, coding_iterations=count, **settings)
        summary = evaluate(request, args.output / f"n{count}", say=lambda line: print(line, file=sys.stderr))
        for name, values in means.items():
            values.append(summary["metrics"][name]["mean"])
    text = table(counts, means)
    write_text(args.output / "iterations.md", text)
    draw(counts, means, args.output / "iterations.png")
    print(text)


if __name__ == "__main__":
    main()
