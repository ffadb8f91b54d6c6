"""Keeps compiled programs between runs, in the user's own cache folder."""

from __future__ import annotations

import os
import pathlib
import stat

import jax


def use_compile_cache() -> pathlib.Path | None:
    """Turns jax's compile cache on, unless the user set one; returns its folder, or None.

    What jax finds there it runs, so the folder is the user's alone (mode 0700); one that belongs to
    another or that others may write is not used.
    """
    if jax.config.jax_compilation_cache_dir:
        return pathlib.Path(jax.config.jax_compilation_cache_dir)
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = pathlib.Path(root) / "avsal_jax" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
    except OSError:
        return None
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    if not stat.S_ISDIR(found.st_mode) or not mine or stat.S_IMODE(found.st_mode) & 0o077:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # By default jax keeps programs that took a second; the many small ones take seconds together.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    return folder
