"""What some tests need beyond the extras `dev` and `train`; a skipped test names it, and how to get it."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FULL_DEVICE = pathlib.Path("/dev/full")

chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: install the package chromium")
full_device = pytest.mark.skipif(not FULL_DEVICE.exists(), reason="needs /dev/full: run on Linux")


def torch():
    """Returns PyTorch, or skips the test or module that asks."""
    return pytest.importorskip("torch", reason="needs PyTorch: run .venv/bin/pip install torch")


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str) -> Iterator[pathlib.Path]:
    """Makes `folder` an empty disk of `size` for as long as it lasts, or skips."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk: run as root, in a container with CAP_SYS_ADMIN")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def torch_type(name: str):
    """Returns a type of PyTorch, or skips where this release does not have it yet."""
    if not hasattr(torch(), name):
        pytest.skip(f"needs PyTorch with {name}: install the newest PyTorch")
    return getattr(torch(), name)


def pillow_format(suffix: str, available: bool) -> None:
    """Skips where this build of Pillow lacks a format."""
    if not available:
        pytest.skip(f"needs Pillow with {suffix}: install the newest Pillow wheel")


def display_matrices(stream) -> None:
    """Skips where this PyAV cannot write a display matrix into a stream."""
    if not hasattr(stream, "set_display_matrix"):
        pytest.skip("needs PyAV that writes display matrices: install the newest PyAV wheel")


def package_file(name: str, suffix: str) -> pathlib.Path:
    """Returns the file of an installed package with that end, or skips."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs {name}: run .venv/bin/pip install --no-deps {name}")
    (file,) = (path for path in distribution.files or () if path.suffix == suffix)
    return pathlib.Path(str(distribution.locate_file(file)))


GAZE_FOLDERS = ("eyecrowd", "hands", "hevc", "osie", "scenes")


def find_gaze_root() -> pathlib.Path | None:
    """Returns the folder of recorded gaze, AVSAL_GAZE_ROOT or ../shared/gaze of the checkout; else None."""
    value = os.environ.get("AVSAL_GAZE_ROOT")
    root = pathlib.Path(value) if value else pathlib.Path(__file__).parents[2] / "shared" / "gaze"
    return root if all((root / name).is_dir() for name in GAZE_FOLDERS) else None


def gaze_root() -> pathlib.Path:
    """Returns the folder of recorded gaze, or skips."""
    root = find_gaze_root()
    if root is None:
        folders = ", ".join(GAZE_FOLDERS)
        pytest.skip(f"needs recorded gaze: set AVSAL_GAZE_ROOT to a folder that holds {folders}")
    return root


def gaze_golden() -> dict:
    """Returns the counts and figures of recorded gaze, in ../golden of its folder; or skips."""
    path = gaze_root().parent / "golden" / "gaze_counts.json"
    if not path.is_file():
        pytest.skip(f"needs the counts of recorded gaze: put them into {path}")
    return json.loads(path.read_text())
