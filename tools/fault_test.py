"""Two processes train as one; one is killed, the disk fills, SIGTERM comes during a save: is anything lost?

  python tools/fault_test.py --prepared DIR [--times 5]

DIR holds the synthetic set prepared at 64x96, as `avsal prepare --dataset synthetic --set preset=tiny
--size 64x96 --output DIR`. Each time a run of two processes is interrupted four times: a process, drawn at
random, is killed by SIGKILL, twice; one gets SIGTERM while a checkpoint is written; the disk of the
checkpoints fills up (needs the right to mount). After each, both are started again, and they must end with
the same bits as a run that was left alone.
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
        print(f"the whole run: {run.first_seconds:.0f} s", flush=True)
        for time in range(args.times):
            found = run.interrupt(time, [KILL, KILL, STOP_SAVING, FULL])
            print(*check(run, found), sep="\n", flush=True)
    print(f"{args.times} times: nothing lost")


if __name__ == "__main__":
    main()
