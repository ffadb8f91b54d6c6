"""Checkpoints in real trouble: SIGKILL, a full disk; and two processes that share them."""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from avsal_jax.training.checkpointing import Checkpoints


def opened(folder, **settings):
    return contextlib.closing(Checkpoints(folder, read_only=True, **settings))


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


@pytest.mark.slow
def test_sigkill_at_any_time_loses_at_most_the_save_in_flight(tmp_path):
    folder, moments, last = tmp_path / "checkpoints", random.Random(5), 0
    like = {f"leaf{i}": np.zeros((300, 100), np.float32) for i in range(6)}
    for _ in range(3):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for _ in range(3):
                assert child.stdout.readline()
            time.sleep(moments.random())
            child.send_signal(signal.SIGKILL)
            steps = [int(line) for line in child.stdout.read().split()]
        with opened(folder, metric="cc") as reader:
            latest = reader.latest()
            assert latest > last and latest >= max(steps, default=0) - 1
            for step in {latest, reader.best()}:
                state = reader.restore(step, like)
                assert all((state[f"leaf{i}"] == step * 10 + i).all() for i in range(6))
                assert reader.meta(step) == {"step": step}
            last = latest


FULL = """
    import os, resource, sys
    import numpy as np
    from avsal_jax.errors import AvsalError
    from avsal_jax.training.checkpointing import Checkpoints
    checkpoints = Checkpoints(sys.argv[1], keep=2)
    draw = np.random.default_rng(0)
    for step in (80, 100):
        state = {"x": draw.random(100_000)}  # 0.8 MB
        checkpoints.save(step, state, {"step": step})
    checkpoints.wait()
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    checkpoints.save(120, {"x": draw.random(400_000)}, {})
    for attempt in (lambda: checkpoints.save(140, {"x": np.zeros(1)}, {}), checkpoints.close):
        try:
            attempt()
        except AvsalError as error:
            print(error)
    print(sorted(os.listdir(sys.argv[1])), np.array_equal(checkpoints.restore(100, state)["x"], state["x"]))
    checkpoints.save(160, {"x": np.zeros(1)}, {})
    checkpoints.close()
    print(sorted(os.listdir(sys.argv[1])))
"""


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """A disk of 3 MB, mounted for one process alone; where that is not allowed, files of 100 kB at most."""
    folder = tmp_path / "checkpoints"
    private = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=3m tmpfs {tmp_path} && exec "$@"',
        "-",
    ]
    allowed = shutil.which("unshare") and subprocess.run([*private, "true"], capture_output=True, check=False)
    mounted = bool(allowed) and allowed.returncode == 0
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(folder), "mounted" if mounted else "limit"]
    process = subprocess.run(
        [*private, *command] if mounted else command, capture_output=True, text=True, timeout=120, check=False
    )
    reason = "No space left on device" if mounted else "File too large"
    assert process.stdout.splitlines() == [
        f"cannot save step 120 in {folder}: {reason}; the last complete checkpoint is step 100",
        "['100', '80'] True",
        "['100', '160']",
    ]
    assert process.stderr == "" and process.returncode == 0


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


@pytest.mark.slow
def test_two_processes_save_and_restore_one_checkpoint(tmp_path):
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
            _, error = child.communicate(timeout=120)
            assert child.returncode == 0, error
    finally:
        for child in children:
            child.kill()
    with opened(folder) as reader:
        state = reader.restore(3, {"x": np.zeros((4, 3), np.float32)})
    assert state["x"][:, 0].tolist() == [0, 0, 1, 1]
    assert sorted(p.name for p in folder.iterdir()) == ["1", "3"]
