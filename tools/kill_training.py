"""Kills a training run by SIGKILL at random moments and checks each time that its rerun loses nothing.

  python tools/kill_training.py --prepared DIR [--times 20]

DIR holds the synthetic set prepared at 64x96 by `avsal prepare --dataset synthetic --set preset=tiny
--size 64x96 --output DIR`. Each rerun must resume from the last complete checkpoint: that of the last save
that had begun, or the previous one. Each run is killed five times. Its final weights must be bit-identical to
those of a run that was not killed.
"""

import argparse
import tempfile

from avsal_jax.testing.interruptions import KILL, Interrupted


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepared", required=True)
    parser.add_argument("--times", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Interrupted("vinet_synthetic:smoke", args.prepared, folder, steps=120)
        print(f"the run without interruptions: {run.first_seconds:.0f} s")
        saving = 0
        for seed in range(-(-args.times // 5)):
            interruptions = run.interrupt(seed, [KILL] * min(5, args.times - 5 * seed))
            run.check(interruptions)
            saving += sum(row["saving"] for row in interruptions)
            print(*interruptions, sep="\n", flush=True)
    print(f"{args.times} kills, {saving} of them during a save: nothing lost")


if __name__ == "__main__":
    main()
