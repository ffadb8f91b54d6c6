"""Strict session: two CPU devices, no rank promotion, warnings are errors (pyproject.toml).

All workers and the processes that they start share one compile cache, in `build`; later runs use it too.

Most programs here run once or twice, so XLA optimises little. Tests with the fixture `optimised` run what
users run: operations, losses, metrics, whole networks against public code, twenty training steps.
`JAX_DISABLE_MOST_OPTIMIZATIONS=0 make test` optimises everything. XLA_FLAGS is the caller's.
"""

import importlib.metadata
import os
import pathlib

os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    f"{pathlib.Path(__file__).parents[1]}/build/compiled-jax-{importlib.metadata.version('jax')}",
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # most programs are small, and many
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # lowering is faster by 3 %
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "2"

import gc
import shutil
import signal

import jax
import pytest

pytest_plugins = ("tests.times",)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a shell; processes that tests start would not hear Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)
jax.config.update("jax_numpy_rank_promotion", "raise")


MOST_CACHE_BYTES = 2 << 30


def pytest_configure(config):
    folder = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    is_default = folder.parent == pathlib.Path(__file__).parents[1] / "build"  # the caller may choose one
    if is_default and not hasattr(config, "workerinput"):
        _shrink_compile_cache(folder)


def pytest_collection_finish():
    """Collects garbage less often: of millions of objects that jax keeps, it took 8 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _shrink_compile_cache(folder: pathlib.Path) -> None:
    """Removes the oldest programs beyond the limit, other versions, and empty files of killed processes.

    jax compiles a program again that another process is just writing; its warning is ignored.
    """
    for other in folder.parent.glob("compiled-jax-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    total = 0
    for file in sorted(folder.glob("*"), key=lambda file: file.stat().st_mtime, reverse=True):
        size = file.stat().st_size
        total += size
        if total > MOST_CACHE_BYTES or not size:
            file.unlink()


@pytest.fixture(scope="session", autouse=True)
def known_small_parts():
    """`visual_encoder=small` is a part; processes know it by `python -m avsal_jax.testing.command`."""
    from avsal_jax.testing.parts import small_parts

    with small_parts():
        yield


@pytest.fixture
def optimised():
    """XLA optimises as for users: for what must hold there, and for programs that run hundreds of times."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def tests_dir() -> pathlib.Path:
    return pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def clip_path(tests_dir) -> pathlib.Path:
    return tests_dir / "media" / "big_buck_bunny_5s.mp4"


@pytest.fixture(scope="session")
def tiny_model():
    from avsal_jax.inference.predictor import Model
    from avsal_jax.testing.models import tiny_stored

    return Model(tiny_stored())


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory) -> pathlib.Path:
    from avsal_jax.storage import write_model
    from avsal_jax.testing.models import tiny_stored

    stored = tiny_stored()
    return write_model(tmp_path_factory.mktemp("models") / "tiny", stored.preset, stored.variables)
