"""What must hold when one of two processes is killed, the disk fills up, or SIGTERM comes during a save."""

from __future__ import annotations

import signal

from avsal_jax.testing.interruptions import HEARTBEAT, Interrupted
from avsal_jax.training.launch import LOST

# The network does not matter here, and all processes but the first compile it anew at every start.
SMALL = ("--config.model.set=visual_encoder=small,visual_encoder.width=0.0625",)


def check_kills(run: Interrupted, found: list[dict]) -> list[str]:
    """A killed process is named by the other, which ends by itself soon; nothing is lost. Returns figures."""
    run.check(found)
    lines = []
    for one in found:
        victim = one["victim"]
        survivor = 1 - victim
        code, seconds = one["codes"][survivor], one["seconds"][survivor]
        # Either the watch ends it, or jax before, at the end of the heartbeat or when process 0 is gone.
        assert one["codes"][victim] == -signal.SIGKILL and code in (LOST, -signal.SIGABRT), one
        assert seconds < HEARTBEAT + 10, one
        assert f"process {victim + 1} of 2 (" in one["texts"][survivor], one
        lost = one["recorded"] - one["restored"]
        lines.append(
            f"killed process {victim + 1}: the other ended with {code} in {seconds:.1f} s; {lost} steps lost"
        )
    return lines


def check_full_disk(run: Interrupted, found: list[dict]) -> str:
    """A full disk is told in one line by one process; the other knows; the last checkpoint is whole."""
    found[0]["saving"] = True  # it failed; what it had written is removed again
    run.check(found)
    codes, texts = found[0]["codes"], found[0]["texts"]
    assert sorted(codes) == [2, LOST], found
    assert all("cannot save step" in text and "No space left on device" in text for text in texts), found
    lost = found[0]["recorded"] - found[0]["restored"]
    apart = max(found[0]["seconds"]) - min(found[0]["seconds"])
    assert apart < HEARTBEAT + 10, found
    return f"full disk: both ended, with {codes}, {apart:.1f} s apart; {lost} steps lost"


def check_stop(run: Interrupted, found: list[dict]) -> str:
    """SIGTERM to one process during a save: all save where they are, and say so."""
    run.check(found)
    one = found[0]
    assert one["codes"] == [75, 75] and one["committed"] == one["recorded"], one
    return (
        f"SIGTERM to process {one['victim'] + 1} during a save: both saved step {one['committed']} and ended "
        f"with 75 after {max(one['seconds']):.1f} s; 0 steps lost"
    )
