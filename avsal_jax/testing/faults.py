"""What must hold when one of two processes is killed, the disk fills up, or SIGTERM comes during a save."""

from __future__ import annotations

import signal

from avsal_jax.testing.interruptions import FULL, HEARTBEAT, KILL, STOP_SAVING, Interrupted
from avsal_jax.training.launch import LOST

# The network does not matter here, and all processes but the first compile it anew at every start.
SMALL = (
    "--config.model.visual_encoder=small",
    "--config.model.visual_encoder.width=0.0625",
    "--config.model.heads.saliency=small",
)


def check(run: Interrupted, found: list[dict]) -> list[str]:
    """Raises AssertionError unless two processes met each event as they should; returns the figures."""
    run.check(found)
    checks = {KILL: _check_kill, STOP_SAVING: _check_stop, FULL: _check_full}
    return [f"{checks[one['event']](one)}; {one['recorded'] - one['restored']} steps lost" for one in found]


def _check_kill(one: dict) -> str:
    """A killed process is named by the other, which ends by itself soon."""
    victim, survivor = one["victim"], 1 - one["victim"]
    code, seconds = one["codes"][survivor], one["seconds"][survivor]
    # Either the watch ends it, or jax before, at the end of the heartbeat or when process 0 is gone.
    assert one["codes"][victim] == -signal.SIGKILL and code in (LOST, -signal.SIGABRT), one
    assert seconds < HEARTBEAT + 10, one
    assert f"process {victim + 1} of 2 (" in one["texts"][survivor], one
    return f"killed process {victim + 1}: the other ended with {code} in {seconds:.1f} s"


def _check_full(one: dict) -> str:
    """A full disk is told in one line by who meets it, one process or both; another knows of it."""
    codes, apart = one["codes"], max(one["seconds"]) - min(one["seconds"])
    assert 2 in codes and set(codes) <= {2, LOST}, one
    assert all("cannot save step" in text and "No space left on device" in text for text in one["texts"]), one
    assert apart < HEARTBEAT + 10, one
    return f"full disk: both ended, with {codes}, {apart:.1f} s apart"


def _check_stop(one: dict) -> str:
    """SIGTERM to one process during a save: all save where they are, and say so."""
    assert one["codes"] == [75, 75] and one["committed"] == one["recorded"], one
    return (
        f"SIGTERM to process {one['victim'] + 1} during a save: both saved step {one['committed']} and ended "
        f"with 75 after {max(one['seconds']):.1f} s"
    )
