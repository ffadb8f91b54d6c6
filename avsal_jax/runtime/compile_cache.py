"""Keeps compiled programs between runs, in the user's own cache folder."""

from __future__ import annotations

import os
import pathlib
import stat

import jax


def use_compile_cache() -> pathlib.Path | None:
    """Turns on jax's compile cache unless the user configured one; returns its folder, or None.

    jax executes the programs that it finds in this folder. Therefore only the user can access it (mode 0700).
    A folder of another user, or with other permissions, is not used.
    """
    if jax.config.jax_compilation_cache_dir:
        return pathlib.Path(jax.config.jax_compilation_cache_dir)
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = pathlib.Path(root) / "avsal_jax" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
    except OSError:
        return None
    is_owner = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not stat.S_ISDIR(status.st_mode) or not is_owner or stat.S_IMODE(status.st_mode) & 0o077:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # By default jax keeps only programs that compile for a second. The many small ones add up to seconds.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    return folder
