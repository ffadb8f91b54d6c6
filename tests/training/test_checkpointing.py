"""Checkpoints: exact, atomic under SIGKILL and on a full disk, the last and the best kept."""

import contextlib
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avsal_jax.errors import AvsalError
from avsal_jax.training.checkpointing import Checkpoints

AXIS = jax.sharding.PartitionSpec("batch")
EVERYWHERE = jax.sharding.PartitionSpec()


def sharding(spec):
    return jax.sharding.NamedSharding(jax.sharding.Mesh(jax.devices(), ("batch",)), spec)


def make_state(seed=0, size=32):
    draw = np.random.default_rng(seed)
    kernel = jax.device_put(draw.standard_normal((size, 3)).astype(np.float32), sharding(AXIS))
    params = {"encoder": {"kernel": kernel, "half": jnp.asarray(draw.random(5), jnp.bfloat16)}}
    return {
        "step": jnp.asarray(seed, jnp.int32),
        "params": params,
        "optimizer": optax.adam(1e-3).init(params),
        "key": jax.random.key_data(jax.random.key(seed)),
        "seen": np.int64(2**40 + seed),
        "table": np.float64([0.1, np.nan]),
    }


def abstract(state):
    def leaf(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) if isinstance(x, jax.Array) else x

    return jax.tree.map(leaf, state)


def bits(tree):
    return [
        (np.asarray(x).dtype, np.asarray(x).shape, np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)
    ]


@pytest.fixture
def open_checkpoints(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(folder=tmp_path / "checkpoints", **settings):
            checkpoints = Checkpoints(folder, **settings)
            stack.callback(checkpoints.close)
            return checkpoints

        yield make


def test_a_state_comes_back_bit_by_bit_with_its_types_and_meta(open_checkpoints):
    state = make_state(7)
    meta = {"plateau": {"best": 0.1, "count": 3}, "stopped": False, "why": None}
    writer = open_checkpoints()
    assert writer.latest() is None and writer.best() is None
    assert writer.save(120, state, meta)
    meta["plateau"]["count"] = 4  # the copy that is written is of the call
    writer.close()
    reader = open_checkpoints()
    back = reader.restore(reader.latest(), abstract(state))
    assert bits(back) == bits(state) and jax.tree.structure(back) == jax.tree.structure(state)
    assert type(back["seen"]) is np.int64 and type(back["table"]) is np.ndarray
    assert back["params"]["encoder"]["kernel"].sharding == sharding(AXIS)
    assert reader.meta(120) == {"plateau": {"best": 0.1, "count": 3}, "stopped": False, "why": None}


def test_restore_places_leaves_as_asked(open_checkpoints):
    state = make_state()
    checkpoints = open_checkpoints()
    checkpoints.save(1, state, {})
    like = abstract(state)
    kernel = like["params"]["encoder"]["kernel"]
    for wanted in (sharding(EVERYWHERE), sharding(AXIS), jax.sharding.SingleDeviceSharding(jax.devices()[1])):
        like["params"]["encoder"]["kernel"] = jax.ShapeDtypeStruct(
            kernel.shape, kernel.dtype, sharding=wanted
        )
        back = checkpoints.restore(1, like)
        assert back["params"]["encoder"]["kernel"].sharding == wanted and bits(back) == bits(state)
    like["params"]["encoder"]["kernel"] = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
    back = checkpoints.restore(1, like)
    assert isinstance(back["params"]["encoder"]["kernel"], np.ndarray) and bits(back) == bits(state)


def test_the_last_ones_and_the_best_are_kept(open_checkpoints, tmp_path):
    checkpoints = open_checkpoints(keep=2, metric="cc")
    for step, value in ((10, 0.3), (20, 0.9), (30, float("nan")), (40, 0.9), (50, 0.2), (60, 0.4)):
        checkpoints.save(step, {"x": np.full(3, step)}, {}, {"cc": value, "loss": -value})
    checkpoints.wait()
    names = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert names == {"20", "50", "60"}
    assert (checkpoints.latest(), checkpoints.best()) == (60, 20)
    checkpoints.close()
    # The values of earlier runs count, also those of another metric.
    assert open_checkpoints(keep=2, metric="cc").best() == 20
    assert open_checkpoints(metric="loss", mode="max").best() == 50
    lowest = open_checkpoints(keep=1, metric="loss", mode="min")
    assert lowest.best() == 20
    lowest.save(70, {"x": np.zeros(3)}, {}, {"loss": -2.0})
    lowest.wait()
    assert lowest.best() == 70 and {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"70"}


def test_a_step_that_is_there_is_not_saved_again(open_checkpoints):
    checkpoints = open_checkpoints()
    assert checkpoints.save(5, {"x": np.ones(3)}, {"try": 1})
    assert not checkpoints.save(5, {"x": np.zeros(3)}, {"try": 2})
    assert checkpoints.meta(5) == {"try": 1}
    assert checkpoints.save(3, {"x": np.zeros(3)}, {})  # after a return to an older one
    assert checkpoints.latest() == 5


def test_a_mismatch_is_told_leaf_by_leaf(open_checkpoints):
    checkpoints = open_checkpoints()
    checkpoints.save(
        4, {"a": {str(i): np.zeros(2) for i in range(12)}, "b": np.zeros((2, 3)), "c": np.ones(1)}, {}
    )
    like = {"b": np.zeros((3, 2)), "c": np.ones(1, np.float32), "d": [np.zeros(1), np.zeros(1)]}
    with pytest.raises(AvsalError) as error:
        checkpoints.restore(4, like)
    text = str(error.value)
    assert "does not fit this run" in text and "\n" not in text
    assert "2 missing: d/0, d/1" in text
    assert "12 not known: a/0, a/1, a/10, a/11, a/2, a/3, a/4, a/5 ..." in text and "a/6" not in text
    assert "b is (2, 3, 'float64'), not (3, 2, 'float64')" in text
    assert "c is (1, 'float64'), not (1, 'float32')" in text
    on_device = {"a": {}, "b": jax.ShapeDtypeStruct((2, 3), np.float64, sharding=sharding(EVERYWHERE))}
    with pytest.raises(AvsalError, match="b is .*float64.*not .*float32"):  # a device would round it
        checkpoints.restore(4, on_device)


def test_what_is_not_there_or_damaged_is_told(open_checkpoints, tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(AvsalError, match="there is no folder"):
        open_checkpoints(read_only=True)
    assert not folder.exists()
    checkpoints = open_checkpoints()
    with pytest.raises(AvsalError, match="there is no checkpoint 3 in .*; there is none"):
        checkpoints.meta(3)
    state = {"x": np.arange(4000.0)}
    for step in (1, 2):
        checkpoints.save(step, state, {})
    with pytest.raises(AvsalError, match="there is no checkpoint 3 in .*; there are 1, 2"):
        checkpoints.restore(3, state)
    for file in (folder / "2" / "state").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AvsalError, match="checkpoint 2 in .* is damaged: .*; remove it"):
        checkpoints.restore(2, state)
    assert bits(checkpoints.restore(1, state)) == bits(state)
    (folder / "1" / "record" / "metadata").write_text("[1, 2")
    with pytest.raises(AvsalError, match="checkpoint 1 in .* is damaged"):
        open_checkpoints()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AvsalError, match="cannot write checkpoints to .*: "):
        open_checkpoints(tmp_path / "file" / "below")
    with pytest.raises(AvsalError, match="mode max or min; got 3, 'most'"):
        open_checkpoints(mode="most")


def test_leftovers_are_removed_and_never_restored(open_checkpoints, tmp_path):
    folder = tmp_path / "checkpoints"
    first = open_checkpoints()
    first.save(1, {"x": np.ones(3)}, {})
    first.close()
    for name in ("2.orbax-checkpoint-tmp", ".dropped"):
        (folder / name / "state").mkdir(parents=True)
    watcher = open_checkpoints(read_only=True)
    with pytest.raises(ValueError, match="opened to be read"):
        watcher.save(2, {"x": np.ones(3)}, {})
    assert watcher.latest() == 1 and (folder / "2.orbax-checkpoint-tmp").exists()
    again = open_checkpoints()
    assert again.latest() == 1
    again.save(3, {"x": np.ones(3)}, {})
    again.wait()
    assert {p.name for p in folder.iterdir()} == {"1", "3"}


def test_saving_returns_before_the_file_is_there(open_checkpoints, tmp_path):
    state = {"x": jnp.asarray(np.random.default_rng(0).random((4, 2_000_000), np.float32))}  # 32 MB of noise
    checkpoints = open_checkpoints()
    expected = np.array(state["x"])
    checkpoints.save(0, state, {})
    checkpoints.wait()
    started = time.perf_counter()
    checkpoints.save(1, state, {})
    returned = time.perf_counter() - started
    early = not (tmp_path / "checkpoints" / "1").exists()
    state = jax.jit(lambda s: {"x": s["x"] * 0}, donate_argnums=0)(state)  # the loop goes on
    checkpoints.wait()
    waited = time.perf_counter() - started
    assert early and returned < waited
    back = checkpoints.restore(1, abstract(state))
    assert np.array_equal(back["x"], expected)


KILLED = """
    import sys
    import numpy as np, jax, jax.numpy as jnp
    from avsal_jax.training.checkpointing import Checkpoints
    checkpoints = Checkpoints(sys.argv[1], keep=2, metric="cc")
    start = (checkpoints.latest() or 0) + 1
    for step in range(start, start + 100_000):
        state = {f"leaf{i}": jnp.full((300, 100), step * 10 + i, jnp.float32) for i in range(6)}
        checkpoints.save(step, state, {"step": step}, {"cc": float(np.sin(step))})
        print(step, flush=True)
"""


def test_sigkill_at_any_time_loses_at_most_the_save_in_flight(open_checkpoints, tmp_path):
    folder, moments, last = tmp_path / "checkpoints", random.Random(5), 0
    like = {f"leaf{i}": np.zeros((300, 100), np.float32) for i in range(6)}
    for _ in range(3):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for _ in range(3):
                assert child.stdout.readline()
            time.sleep(moments.random())
            child.send_signal(signal.SIGKILL)
            begun = [int(line) for line in child.stdout.read().split()]
        reader = open_checkpoints(metric="cc", read_only=True)
        latest = reader.latest()
        assert latest > last and latest >= max(begun, default=0) - 1
        for step in {latest, reader.best()}:
            state = reader.restore(step, like)
            assert all((state[f"leaf{i}"] == step * 10 + i).all() for i in range(6))
            assert reader.meta(step) == {"step": step}
        last = latest


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB; files of less than 100 kB where nothing can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    yield disk, mounted
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


FULL = """
    import resource, sys
    import numpy as np
    from avsal_jax.errors import AvsalError
    from avsal_jax.training.checkpointing import Checkpoints
    checkpoints = Checkpoints(sys.argv[1], keep=2)
    draw = np.random.default_rng(0)
    for step in (80, 100):
        checkpoints.save(step, {"x": draw.random(100_000)}, {"step": step})  # 0.8 MB each
    checkpoints.wait()
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    checkpoints.save(120, {"x": draw.random(400_000)}, {})
    for attempt in (lambda: checkpoints.save(140, {"x": np.zeros(1)}, {}), checkpoints.close):
        try:
            attempt()
        except AvsalError as error:
            print(error)
    checkpoints.save(160, {"x": np.zeros(1)}, {})
    checkpoints.close()
    print(checkpoints.latest())
"""


def test_a_full_disk_is_one_line_and_loses_nothing(open_checkpoints, small_disk):
    disk, mounted = small_disk
    folder = disk / "checkpoints"
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(folder), "mounted" if mounted else "limit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    reason = "No space left on device" if mounted else "File too large"
    said, latest = done.stdout.strip().splitlines()
    assert said == f"cannot save step 120 in {folder}: {reason}; the last complete one is step 100"
    assert latest == "160" and done.stderr == ""
    assert {p.name for p in folder.iterdir()} == {"100", "160"}
    reader = open_checkpoints(folder, read_only=True)
    draw = np.random.default_rng(0)
    draw.random(100_000)
    assert bits(reader.restore(100, {"x": np.zeros(100_000)})) == bits({"x": draw.random(100_000)})
    reader.close()


TWO_PROCESSES = """
    import os, sys
    os.environ.update(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="1")
    import jax, numpy as np
    index, address, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    jax.distributed.initialize(address, 2, index, coordinator_bind_address=address)
    from avsal_jax.training.checkpointing import Checkpoints
    mesh = jax.sharding.Mesh(jax.devices(), ("batch",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    state = {"x": jax.make_array_from_process_local_data(rows, np.full((2, 3), index, np.float32))}
    checkpoints = Checkpoints(folder, keep=1, metric="cc")
    for step in (1, 2, 3):
        checkpoints.save(step, state, {"step": step}, {"cc": -step})
    assert (checkpoints.latest(), checkpoints.best()) == (3, 1)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    back = checkpoints.restore(3, like)["x"]
    assert back.sharding == rows and (np.asarray(back.addressable_data(0)) == index).all()
    checkpoints.close()
    jax.distributed.shutdown()
"""


def test_two_processes_save_and_restore_one_checkpoint(open_checkpoints, tmp_path):
    folder = tmp_path / "checkpoints"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    code = textwrap.dedent(TWO_PROCESSES)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(i), address, str(folder)], stderr=subprocess.PIPE, text=True
        )
        for i in range(2)
    ]
    try:
        for child in children:
            _, said = child.communicate(timeout=120)
            assert child.returncode == 0, said
    finally:
        for child in children:
            child.kill()
    one = open_checkpoints(read_only=True).restore(3, {"x": np.zeros((4, 3), np.float32)})
    assert one["x"][:, 0].tolist() == [0, 0, 1, 1]
    assert sorted(p.name for p in folder.iterdir()) == ["1", "3"]
