"""How far apart the logits of an untrained network lie, for both starts of its parameters.

  python tools/start_report.py [--systems vinet avrsp] [--seeds 3]

Prints a table for docs/training.md: the standard deviation over the pixels of the logits of one clip of noise
of 64x96, at full width, as the range over seeds. A deviation near 0 says the same of every place.
"""

import argparse

import jax
import numpy as np

from avsal_jax.models.network import SALIENCY, init_variables
from avsal_jax.models.systems import build, resolve, systems
from avsal_jax.testing.training import random_clips
from avsal_jax.training.objectives import clip_of

STARTS = ("he", "torch")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="*", choices=systems(), default=systems())
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(f"| system | {' | '.join(STARTS)} |\n|---|{'---|' * len(STARTS)}")
    for system in args.systems:
        cells = [_range(values) for values in _deviations(system, args.seeds)]
        print(f"| `{system}` | {' | '.join(cells)} |", flush=True)


def _deviations(system: str, seeds: int) -> list[list[float]]:
    """Returns the deviation of the logits for each start and seed."""
    network = build(resolve(system, {"height": 64, "width": 96}))
    clip, run = clip_of(random_clips(network.input, 1)), jax.jit(network.run)

    def deviation(seed, start):
        logits = run(init_variables(network, seed, start), clip).logits[SALIENCY]
        return float(np.std(np.asarray(logits)))

    return [[deviation(seed, start) for seed in range(seeds)] for start in STARTS]


def _range(values: list[float]) -> str:
    return f"{min(values):.2g} to {max(values):.2g}"


if __name__ == "__main__":
    main()
