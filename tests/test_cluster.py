"""What launchers say: SLURM, Open MPI, a TPU machine; which GPUs and which videos a process takes."""

import itertools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import types

import jax
import pytest

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.runtime.cluster import Cluster, find_cluster, own_gpus, share, tpu_worker
from avsal_jax.storage import write_model
from avsal_jax.testing import COMMAND, fake_data
from avsal_jax.testing.interruptions import free_address
from avsal_jax.testing.models import tiny_stored
from avsal_jax.testing.videos import moving_spot, write_video
from avsal_jax.training import launch


def slurm(index=0, count=2, nodes="127.0.0.1", job=4321, local=None):
    """The variables of `srun` that jax reads."""
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index if local is None else local),
        "SLURM_STEP_NUM_NODES": "1",
    }


OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}


def test_slurm():
    cluster = find_cluster(slurm(1))
    assert cluster == Cluster("SLURM", count=2, index=1, local=1)
    assert str(cluster) == "SLURM: process 1 of 2"


def test_who_is_by_itself():
    assert find_cluster({}) is None
    assert find_cluster(slurm(0, 1)) is None  # one task
    batch = {k: v for k, v in slurm().items() if not k.startswith("SLURM_STEP")}
    assert find_cluster(batch) is None  # the batch script, outside of srun


def test_open_mpi():
    cluster = find_cluster(OPEN_MPI)
    assert cluster == Cluster("Open MPI", count=4, index=3, local=1)
    assert str(cluster) == "Open MPI: process 3 of 4"
    assert find_cluster({**slurm(), **OPEN_MPI}) == cluster  # mpirun in an allocation of SLURM
    one_task = OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}
    assert find_cluster({**slurm(), **one_task}) is None


def test_open_mpi_without_the_address_of_process_0(monkeypatch):
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)
    for index in (None, 1):
        with pytest.raises(AvsalError, match="not report the address of process 0; set --coordinator"):
            launch.chosen_cluster(None, None, index)
    assert launch.chosen_cluster("10.0.0.1:99", None, None) == Cluster("Open MPI", "10.0.0.1:99", 4, 3, 1)
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1531576320.0;tcp://10.96.0.1:34911")
    assert launch.chosen_cluster(None, None, None) == Cluster("Open MPI", None, 4, 3, 1)


@pytest.mark.parametrize(
    ("libtpu", "platforms", "cluster"),
    [
        (True, "tpu,cpu", Cluster("a TPU machine")),
        (True, "cpu", None),
        (True, None, None),
        (False, "tpu,cpu", None),
    ],
)
def test_tpu_machines(monkeypatch, libtpu, platforms, cluster):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if libtpu else None)
    monkeypatch.setattr(jax, "config", types.SimpleNamespace(jax_platforms=platforms))
    assert find_cluster({}) == cluster
    assert find_cluster(slurm(1)).kind == "SLURM"


@pytest.mark.slow
def test_jax_adds_tpu_to_its_platforms_where_it_is_used():
    """Which is how `find_cluster` recognises a TPU machine; the variable stands in for a chip."""
    code = "import jax; print(jax.config.jax_platforms)"
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    for chip, platforms in (({}, "None"), ({"JAX_FORCE_TPU_INIT": "1"}, "tpu,cpu")):
        command = [sys.executable, "-c", code]
        process = subprocess.run(command, env={**environment, **chip}, stdout=subprocess.PIPE, check=True)
        assert process.stdout.decode().strip() == platforms


@pytest.mark.slow
def test_an_empty_list_leaves_all_gpus_to_jax():
    """Which is what `join_processes` passes for a process that has its machine for itself."""
    code = (
        "import jax, sys\n"
        "jax.distributed.initialize(num_processes=1, process_id=0, local_device_ids=eval(sys.argv[1]))\n"
        "print(jax.config.read('jax_cuda_visible_devices'))\n"
    )
    environment = {
        **os.environ,
        **slurm(0, local=3),
        "JAX_COORDINATOR_PORT": free_address().rpartition(":")[2],
    }
    for gpus, visible in (([], "all"), (None, "3")):
        command = [sys.executable, "-c", code, str(gpus)]
        process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        assert process.stdout.decode().strip() == visible


def test_the_number_of_a_tpu_machine():
    assert tpu_worker({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}) == (1, 2)
    assert tpu_worker({}) is None and tpu_worker({"TPU_WORKER_HOSTNAMES": "a", "TPU_WORKER_ID": "0"}) is None


def test_a_name_that_leads_to_this_machine_alone_is_no_address_to_listen_at(monkeypatch):
    lines = []
    answer = [(None, None, None, None, ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: answer)
    assert launch._bind_address(Cluster("SLURM", "node7:61665", 2, 0), lines.append) is None
    assert "node7 is 127.0.1.1 on this machine, so process 0 listens on all interfaces" in lines[0]
    for address in ("127.0.1.1:5", "localhost:5"):
        assert launch._bind_address(Cluster("flags", address, 2, 0), lines.append) == address


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({**slurm(), "SLURM_NTASKS": "two"}, "SLURM_NTASKS is 'two', not a whole number"),
        (slurm(2, 2), "SLURM reports process 2 of 2, counted from 0"),
    ],
)
def test_variables_that_are_wrong(environment, message):
    with pytest.raises(AvsalError, match=message):
        find_cluster(environment)


def test_gpus():
    two_gpus = {"CUDA_VISIBLE_DEVICES": "4,5"}
    assert own_gpus(Cluster("x"), two_gpus) is None
    assert own_gpus(Cluster("x", local=1), {}) == [1]  # none is hidden from it
    assert own_gpus(Cluster("x", local=1), two_gpus) == [1]
    assert own_gpus(Cluster("x", local=3), {"CUDA_VISIBLE_DEVICES": "7"}) is None  # --gpus-per-task=1
    assert own_gpus(Cluster("x", local=0), two_gpus | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}) is None
    assert own_gpus(Cluster("x", local=1), two_gpus | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)"}) == [1]
    with pytest.raises(AvsalError, match="process 2 of this machine, counted from 0, has no GPU: 2 are"):
        own_gpus(Cluster("x", local=2), two_gpus)


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        (slurm(1, local=0) | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, []),  # jax alone would take one GPU
        (slurm(1), [1]),
        (slurm(1) | {"CUDA_VISIBLE_DEVICES": "7"}, []),
        (slurm(1, local=0) | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "JAX_LOCAL_DEVICE_IDS": "2,3"}, None),
    ],
)
def test_jax_takes_all_gpus_of_a_process_that_has_its_machine_for_itself(monkeypatch, environment, gpus):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *values, **names: calls.append((values, names)))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    limits = launch.Limits(join=60, heartbeat=100, stall=900)
    launch.join_processes(launch.chosen_cluster(None, None, None), lambda line: None, limits)
    (((coordinator,), names),) = calls
    assert coordinator is None and names["cluster_detection_method"] is None
    assert names["local_device_ids"] == gpus


def test_shares_lose_nothing_and_take_nothing_twice():
    for items in range(8):
        for count in range(1, 5):
            shares = [share(list(range(items)), (index, count)) for index in range(1, count + 1)]
            assert sorted(itertools.chain(*shares)) == list(range(items))
    assert share([1, 2], None) == [1, 2]


def test_flags_go_before_the_launcher(monkeypatch):
    for name, value in slurm(1).items():
        monkeypatch.setenv(name, value)
    cluster = launch.chosen_cluster("10.0.0.1:99", None, None)
    assert cluster == Cluster("SLURM", "10.0.0.1:99", 2, 1, 1)
    assert launch.chosen_cluster(None, 3, 2) == Cluster("SLURM", None, 3, 2, 1)
    assert launch.chosen_cluster(None, 1, 0) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("10.0.0.1:99", None, 0), "without a launcher such as SLURM, set all of --coordinator HOST:PORT"),
        (("10.0.0.1:99", 2, 2), "--process-id must be from 0 to 1 with --num-processes 2; got 2"),
        (("localhost", 2, 0), "--coordinator must be HOST:PORT, for example 10.0.0.1:4321; got 'localhost'"),
        ((":123", 2, 0), "--coordinator must be HOST:PORT"),
        (("localhost:99999", 2, 0), "--coordinator must be HOST:PORT"),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    with pytest.raises(AvsalError, match=message):
        launch.chosen_cluster(*flags)


def start(arguments, cwd, **environment):
    """Starts `avsal ...` in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env={
            **os.environ,
            "JAX_NUM_CPU_DEVICES": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
    )


def finished(*processes):
    try:
        texts = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return texts, [process.returncode for process in processes]


def train_flags(tmp_path, config, *flags):
    return ["train", "--config", config, "--workdir", tmp_path / "w", "--join", "3", *flags]


@pytest.mark.slow
def test_a_process_that_never_comes_is_one_clear_line(tmp_path, tests_dir):
    config = tests_dir.parent / "configs" / "vinet_synthetic.py"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    pair_flags = ["--coordinator", address, "--num-processes", 2]
    first = start(train_flags(tmp_path, config, *pair_flags, "--process-id", 0), tmp_path)
    texts, codes = finished(first)
    last = texts[0].splitlines()[-1]
    assert codes == [launch.MISSING_PROCESS]
    assert last.startswith(f"avsal: flags: process 0 of 2, coordinator {address}: ")
    assert "not all 2 processes have joined after 3 s; check that all were started" in last
    texts, codes = finished(start(train_flags(tmp_path, config, *pair_flags, "--process-id", 1), tmp_path))
    assert codes == [launch.MISSING_PROCESS]
    assert f"process 0 does not answer at {address} after 3 s" in texts[0].splitlines()[-1]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model, a set of four videos, and three files to predict."""
    folder = tmp_path_factory.mktemp("work")
    stored = tiny_stored()
    write_model(folder / "model", stored.preset, stored.variables)
    videos = [fake_data.fake_video(f"v{i}", 10 + i, (40, 64), seed=i) for i in range(4)]
    fake_data.write_stavis(folder / "root", "DIEM", videos, {"test": tuple(v.name for v in videos)})
    clip = pathlib.Path(__file__).parent / "media" / "big_buck_bunny_5s.mp4"
    (folder / "inputs").mkdir()
    for name in "abc":
        shutil.copy(clip, folder / "inputs" / f"{name}.mp4")
    return folder


def tree(folder, *suffixes):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.suffix in suffixes}


@pytest.mark.slow
def test_two_processes_of_slurm_evaluate_and_predict_as_one(work):
    evaluate = ["evaluate", "--dataset", "diem", "--root", "root", "--model", "model", "--output"]
    predict = ["predict", "inputs", "--model", "model", "--frame-step", 6, "--save", "maps,npz", "--output"]
    for arguments in (evaluate, predict):
        name = arguments[0]
        texts, codes = finished(start([*arguments, f"{name}-one"], work))
        assert codes == [0], texts
        texts, codes = finished(*(start([*arguments, f"{name}-two"], work, **slurm(i)) for i in range(2)))
        assert codes == [0, 0], texts
        assert "found SLURM: this process takes share 2 of 2" in texts[1]
    single, pair = work / "evaluate-one", work / "evaluate-two"
    for file in ("summary.json", "frames.csv", "videos.csv"):
        assert (single / file).read_bytes() == (pair / file).read_bytes()
    assert json.loads((pair / "summary.json").read_text())["videos"] == 4
    maps = tree(work / "predict-one", ".png", ".npz")
    assert len(maps) > 3 * 10 and tree(work / "predict-two", ".png", ".npz") == maps


@pytest.mark.slow
def test_shares_are_restartable(work):
    """The share of a process that was killed is done by its rerun; the other's is not done again."""
    arguments = ["evaluate", "--dataset", "diem", "--root", "root", "--model", "model", "--output", "again"]
    texts, codes = finished(start([*arguments, "--shard", "1/2"], work))
    assert codes == [0] and "2 of 4 videos are done; the last share writes the tables" in texts[0]
    parts = {p.name: p.stat().st_mtime_ns for p in (work / "again" / "parts").iterdir()}
    texts, codes = finished(*(start([*arguments], work, **slurm(i)) for i in range(2)))
    assert codes == [0, 0] and (work / "again" / "table.md").exists()
    now = {p.name: p.stat().st_mtime_ns for p in (work / "again" / "parts").iterdir()}
    assert len(now) == 4 and parts.items() <= now.items()
    texts, codes = finished(start(["predict", "inputs/a.mp4", "--output", "none", "--shard", "2/2"], work))
    assert codes == [0] and "there are more processes than inputs" in texts[0]


def test_a_share_of_one_video_has_the_folder_of_that_video(tiny_dir, tmp_path):
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mp4", moving_spot(2, 32, 64))
    call = ["predict", str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), "--model", str(tiny_dir)]
    call += ["--save", "npz", "--output", str(tmp_path / "out")]
    for part in ("1/2", "2/2"):
        assert main([*call, "--shard", part]) == 0
    assert {path.parent.name for path in (tmp_path / "out").glob("*/maps.npz")} == {"a", "b"}
    assert not (tmp_path / "out" / "maps.npz").exists()
