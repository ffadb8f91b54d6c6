"""Kills a training run by SIGKILL at random moments and checks each time that its rerun loses nothing.

  python tools/kill_training.py --prepared DIR [--times 20]

DIR holds the synthetic set prepared at 64x96, as `avsal prepare --dataset synthetic --set preset=tiny
--size 64x96 --output DIR`. Each rerun must go on from the last complete checkpoint, which is that of the
last save begun or the one before it; every run is killed five times and must end with the same bits as the
run that was not killed.
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
        print(f"the whole run: {run.first_seconds:.0f} s")
        saving = 0
        for seed in range(-(-args.times // 5)):
            found = run.interrupt(seed, [KILL] * min(5, args.times - 5 * seed))
            run.check(found)
            saving += sum(one["saving"] for one in found)
            print(*found, sep="\n", flush=True)
    print(f"{args.times} kills, {saving} of them during a save: nothing lost")


if __name__ == "__main__":
    main()
