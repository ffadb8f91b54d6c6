"""The wheel of the checkout, installed into a folder of its own, and commands that run it from elsewhere."""

import os
import pathlib
import subprocess
import sys


def built_wheel(folder: pathlib.Path) -> pathlib.Path:
    """Builds the wheel into a folder."""
    root = pathlib.Path(__file__).parents[1]
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)])
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed(wheel: pathlib.Path, site: pathlib.Path) -> pathlib.Path:
    """Installs a wheel, without what it depends on, into the folder `site`; returns that."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    _run([*pip, "--target", str(site), str(wheel)])
    return site


def run_from(site: pathlib.Path, folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `python ...` in a folder, with the package of `site`."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=folder, env=environment
    )


def avsal(site: pathlib.Path, folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `avsal ...` in a folder, with the package of `site`."""
    return run_from(site, folder, "-m", "avsal_jax.cli.main", *arguments)


def _run(command: list[str]) -> None:
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
