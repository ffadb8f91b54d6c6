"""`avsal doctor`: versions, devices, and why no GPU is used."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import pathlib
import platform

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "orbax-checkpoint", "av", "librosa")
_OPTIONAL = ("torch", "tensorflow", "tensorflow-cpu", "tensorflow-datasets")


def add_parser(commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser("doctor", help="versions, devices, and why no GPU is used")
    parser.add_argument("--root", metavar="DIR", help="a folder of data sets to list")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    import avsal_jax

    print(f"avsal_jax {avsal_jax.__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in _PACKAGES:
        print(f"  {name} {_version(name) or 'is missing: reinstall avsal_jax'}")
    for name in _OPTIONAL:
        print(f"  {name} {_version(name) or 'not installed (optional)'}")
    import jax

    devices = jax.devices()
    print(f"devices: {len(devices)} {devices[0].platform} ({devices[0].device_kind})")
    if devices[0].platform == "cpu":
        print(f"no accelerator in use: {_why_no_gpu()}")
    if args.root is not None:
        _print_data_sets(args.root)
    return 0


def _print_data_sets(root: str) -> None:
    from avsal_jax import registry
    from avsal_jax.data.sets.datasets import open_dataset
    from avsal_jax.errors import AvsalError

    if not pathlib.Path(root).is_dir():
        raise AvsalError(f"there is no folder {root}")
    for name, dataset in registry.table("dataset").items():
        try:
            split = "test" if "test" in dataset.splits else dataset.splits[-1]
            entries = open_dataset(name, root, split, fold=1 if dataset.folds else None)
        except AvsalError as error:
            print(f"  {name}: {error}")
            continue
        notes = [f"{entry.name}: {note}" for entry in entries for note in entry.notes]
        print(f"  {name}: {len(entries)} {split} videos{', ' if notes else ''}{'; '.join(notes[:3])}")


def _why_no_gpu() -> str:
    import jax

    if jax.config.jax_platforms == "cpu":
        return "JAX_PLATFORMS is set to cpu"
    plugins = [m for m in ("jax_cuda12_plugin", "jax_cuda13_plugin", "libtpu") if importlib.util.find_spec(m)]
    has_card = pathlib.Path("/proc/driver/nvidia/version").exists() or pathlib.Path("/dev/nvidia0").exists()
    if has_card and not plugins:
        return "there is an NVIDIA card, but jax is installed without CUDA: pip install 'avsal-jax[cuda]'"
    if plugins and not has_card:
        return f"{plugins[0]} is installed, but no NVIDIA driver or TPU is found"
    if plugins:
        return f"jax could not start {plugins[0]}, though a driver exists; JAX_LOGGING_LEVEL=INFO shows why"
    return "no NVIDIA driver, no TPU library; the CPU is used"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
