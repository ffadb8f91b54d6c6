"""Interrupts a run of two processes by SIGKILL, a full disk and SIGTERM, and checks that nothing is lost.

  python tools/fault_test.py --prepared DIR [--times 5]

DIR holds the synthetic set prepared at 64x96 by `avsal prepare --dataset synthetic --set preset=tiny
--size 64x96 --output DIR`. Each run is interrupted four times: twice SIGKILL ends a random process; once a
process gets SIGTERM while a checkpoint is written; once the disk of the checkpoints fills up (this needs the
right to mount). Both processes are started again after each interruption. The final weights must be
bit-identical to those of a run without interruptions.
"""

import argparse
import pathlib
import tempfile

from avsal_jax.testing.faults import SMALL, check
from avsal_jax.testing.interruptions import FULL, KILL, STOP_SAVING, Interrupted


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepared", required=True)
    parser.add_argument("--times", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Interrupted("vinet_synthetic:smoke", args.prepared, pathlib.Path(folder), 80, 2, SMALL)
        print(f"the run without interruptions: {run.first_seconds:.0f} s", flush=True)
        for time in range(args.times):
            interruptions = run.interrupt(time, [KILL, KILL, STOP_SAVING, FULL])
            print(*check(run, interruptions), sep="\n", flush=True)
    print(f"{args.times} times: nothing lost")


if __name__ == "__main__":
    main()
