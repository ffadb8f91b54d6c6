"""What must hold when one of two processes is killed, the disk fills up, or SIGTERM comes during a save."""

from __future__ import annotations

import signal

from avsal_jax.testing.interruptions import FULL, HEARTBEAT_SECONDS, KILL, STOP_SAVING, Interrupted
from avsal_jax.training.launch import MISSING_PROCESS

# Any network will do; a small one, because all processes except the first compile it at every start.
SMALL = (
    "--config.model.visual_encoder=small",
    "--config.model.visual_encoder.width=0.0625",
    "--config.model.heads.saliency=small",
)


def check(run: Interrupted, interruptions: list[dict]) -> list[str]:
    """Raises AssertionError unless two processes handled each event correctly; returns the figures."""
    run.check(interruptions)
    checks = {KILL: _check_kill, STOP_SAVING: _check_stop, FULL: _check_full}
    return [
        f"{checks[row['event']](row)}; {row['recorded'] - row['restored']} steps lost"
        for row in interruptions
    ]


def _check_kill(row: dict) -> str:
    """The surviving process names the killed one in its output, and ends by itself soon."""
    victim, survivor = row["victim"], 1 - row["victim"]
    code, seconds = row["codes"][survivor], row["seconds"][survivor]
    # Either the watch ends it, or jax does so first: after the heartbeat timeout or when process 0 dies.
    assert row["codes"][victim] == -signal.SIGKILL and code in (MISSING_PROCESS, -signal.SIGABRT), row
    assert seconds < HEARTBEAT_SECONDS + 10, row
    assert f"process {victim} of 2 (" in row["texts"][survivor], row
    return f"killed process {victim}: the other ended with {code} in {seconds:.1f} s"


def _check_full(row: dict) -> str:
    """Each process that meets the full disk reports it in one line; if only one does, the other ends too."""
    codes, apart = row["codes"], max(row["seconds"]) - min(row["seconds"])
    assert 2 in codes and set(codes) <= {2, MISSING_PROCESS}, row
    assert all("cannot save step" in text and "No space left on device" in text for text in row["texts"]), row
    assert apart < HEARTBEAT_SECONDS + 10, row
    return f"full disk: both ended, with {codes}, {apart:.1f} s apart"


def _check_stop(row: dict) -> str:
    """After SIGTERM to one process during a save, all processes save their current step and report it."""
    assert row["codes"] == [75, 75] and row["committed"] == row["recorded"], row
    return (
        f"SIGTERM to process {row['victim']} during a save: both saved step {row['committed']} and ended "
        f"with 75 after {max(row['seconds']):.1f} s"
    )
