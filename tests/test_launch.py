"""`tools/launch`: linted, valid for Kubernetes, and each `avsal train` in it one that the program takes."""

import argparse
import json
import math
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import kubernetes_validate
import pytest
import yaml

from avsal_jax.cli import evaluate, train
from avsal_jax.training.launch import PREEMPTED
from avsal_jax.training.overrides import config_values
from avsal_jax.training.schema import build_config

LAUNCH = pathlib.Path(__file__).parent.parent / "tools" / "launch"
MANIFESTS = ["kubernetes.yaml", "kubernetes_tpu.yaml"]
SCRIPTS = ["slurm.sh", "tpu_pod.sh"]
POD = {
    "PROJECT": "mine",
    "ZONE": "here-a",
    "SHARE": "10.0.0.2:/share",
    "WHEEL": "dist/avsal_jax-1.0-py3-none-any.whl",
}


def tool(name):
    """The path of a program that the extra `dev` brings; a failure without it."""
    path = shutil.which(name, path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    assert path, f"{name} is missing: pip install --editable '.[dev,train]'"
    return path


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    """A function that puts a program in front of all others; it notes its arguments and runs some shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    calls = tmp_path / "calls"
    calls.mkdir()

    def make(name, shell="exit 0"):
        note = f"printf '%s\\0' {name} \"$@\" > {calls}/$(ls {calls} | wc -l | tr -d ' ')"
        (folder / name).write_text(f"#!/bin/sh\n{note}\n{shell}\n")
        (folder / name).chmod(0o755)

    def called():
        paths = sorted(calls.iterdir(), key=lambda path: int(path.name))
        return [path.read_text().split("\0")[:-1] for path in paths]

    make.called = called
    return make


def run(script, *arguments, **variables):
    plain = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    return subprocess.run(
        ["bash", str(LAUNCH / script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**plain, **variables},
    )


def config_of(words):
    """Returns (flags, config) of the words of an `avsal train`; only known flags and values are taken."""
    parser = argparse.ArgumentParser()
    train.add_parser(parser.add_subparsers())
    args, overrides = parser.parse_known_args(words)
    return args, build_config(config_values(args.config, overrides))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_sound(script):
    subprocess.run(["bash", "-n", str(LAUNCH / script)], check=True)
    subprocess.run([tool("shellcheck"), "--enable=quote-safe-variables", str(LAUNCH / script)], check=True)
    assert os.access(LAUNCH / script, os.X_OK)


def test_every_file_is_tested_here():
    assert {path.name for path in LAUNCH.iterdir()} == {*SCRIPTS, *MANIFESTS, "Dockerfile"}


def test_the_slurm_job_is_one_that_the_program_takes(stubs, tmp_path):
    stubs("srun")
    odd = str(tmp_path / 'a run\'s "dir"')
    model = ("--config.model.frames=8", "--config.model.height=64")
    overrides = (*model, "--config.data.sources=(('synthetic', None),)")
    result = run("slurm.sh", *overrides, DRY_RUN="1", WORKDIR=odd)
    assert result.returncode == 0 and not stubs.called(), result.stderr
    subprocess.run(["bash", "-c", result.stdout], check=True)  # what is printed is a command
    assert run("slurm.sh", *overrides, WORKDIR=odd, SLURM_JOB_ID="7").returncode == 0
    printed, started = stubs.called()
    assert printed == started and printed[0] == "srun" and "--kill-on-bad-exit=0" in printed
    args, config = config_of(printed[printed.index("train") :])
    assert str(args.workdir) == odd and config.data.sources == (("synthetic", None),)
    assert (config.model.preset().input.frames, config.model.preset().input.height) == (8, 64)
    assert config.data.batch % int(sbatch_options()["ntasks-per-node"]) == 0


def sbatch_options():
    directives = re.findall(r"^#SBATCH --(\S+?)(?:=(\S+))?$", (LAUNCH / "slurm.sh").read_text(), re.MULTILINE)
    assert len(directives) == (LAUNCH / "slurm.sh").read_text().count("#SBATCH") > 5
    return dict(directives)


def test_slurm_gives_a_process_for_each_gpu_and_time_to_save():
    options = sbatch_options()
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert re.fullmatch(r"TERM@\d{3}", options["signal"]) and "requeue" in options


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"),
    [(PREEMPTED, 3, True), (PREEMPTED, 100, False), (0, 0, False), (2, 0, False)],
)
def test_slurm_queues_again_what_was_preempted_and_nothing_else(stubs, code, restarts, requeued):
    stubs("srun", f"exit {code}")
    stubs("scontrol")
    result = run("slurm.sh", SLURM_JOB_ID="123", SLURM_RESTART_COUNT=str(restarts))
    assert result.returncode == code
    assert stubs.called()[1:] == ([["scontrol", "requeue", "123"]] if requeued else [])


def test_the_pod_is_made_installed_and_trained_on(stubs):
    stubs("gcloud")
    result = run("tpu_pod.sh", "--", "--config.loss.cc=-0.1", DRY_RUN="1", **POD)
    assert result.returncode == 0 and not stubs.called(), result.stderr
    subprocess.run(["bash", "-c", result.stdout], check=True)
    create, copy, install, start = stubs.called()
    assert create[:5] == ["gcloud", "compute", "tpus", "queued-resources", "create"]
    assert copy[1:6] == ["compute", "tpus", "tpu-vm", "scp", POD["WHEEL"]]
    for call in (create, copy, install, start):
        assert "--project=mine" in call and "--zone=here-a" in call
        assert call is create or "--worker=all" in call
    assert "./avsal_jax-1.0-py3-none-any.whl[train,tpu]" in shlex.split(remote(install))
    assert "mount -t nfs 10.0.0.2:/share /mnt/avsal" in remote(install)
    words = shlex.split(remote(start))
    assert words[:2] == ["sudo", "systemd-run"] and "--wait" in words and "--batch-size=all" in start
    args, config = config_of(words[words.index("train") :])
    assert config.loss.weights["cc"] == -0.1 and str(args.workdir).startswith("/mnt/avsal/")
    chips = int(next(word for word in create if "--accelerator-type" in word).rpartition("-")[2])
    assert config.data.batch % chips == 0
    for command in (install, start):
        subprocess.run(["bash", "-n", "-c", remote(command)], check=True)


def remote(call):
    (command,) = (word for word in call if word.startswith("--command="))
    return command.removeprefix("--command=")


def test_the_pod_is_waited_for(stubs, tmp_path):
    state = tmp_path / "state"
    describe = f'if [ "$4" = describe ]; then cat {state} || exit 1; echo ACTIVE > {state}; exit; fi'
    stubs("gcloud", f"{describe}; echo WAITING_FOR_RESOURCES > {state}")
    result = run("tpu_pod.sh", "create", POLL_SECONDS="0", SPOT="1", **POD)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "avsal is WAITING_FOR_RESOURCES\n"
    assert [call[4] for call in stubs.called()] == ["describe", "create", "describe", "describe"]
    assert "--spot" in stubs.called()[1]
    assert run("tpu_pod.sh", "create", POLL_SECONDS="0", **POD).returncode == 0  # it exists already
    assert [call[4] for call in stubs.called()[4:]] == ["describe", "describe"]
    state.write_text("SUSPENDED\n")
    stubs("gcloud", f"cat {state}")
    result = run("tpu_pod.sh", "create", POLL_SECONDS="0", **POD)
    assert result.returncode == 1 and result.stderr == "avsal is SUSPENDED; delete it and create it again\n"


def test_the_steps_of_a_pod_can_be_taken_singly(stubs):
    stubs("gcloud")
    assert run("tpu_pod.sh", "log", "stop", "delete", **POD).returncode == 0
    log, stop, delete = stubs.called()
    assert "--worker=0" in log and remote(log).startswith("sudo journalctl")
    assert "--worker=all" in stop and remote(stop) == "sudo systemctl stop avsal"
    assert delete[4:6] == ["delete", "avsal"]


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["creat"], {}, "steps are create, install, train, log, stop and delete; got creat"),
        (["create"], {"PROJECT": ""}, "PROJECT: is the name of a Google Cloud project"),
        (["install"], {"SHARE": ""}, "SHARE: is an NFS share"),
        (
            ["install"],
            {"WHEEL": "none.whl"},
            "WHEEL is one wheel, as make wheel puts into dist/; got none.whl",
        ),
    ],
)
def test_mistakes_with_pods_are_errors(stubs, arguments, variables, words):
    stubs("gcloud")
    result = run("tpu_pod.sh", *arguments, **{**POD, **variables})
    assert result.returncode != 0 and words in result.stderr and not stubs.called()


def documents(name):
    service, job = yaml.safe_load_all((LAUNCH / name).read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return service, job, container


@pytest.mark.parametrize("version", ["1.31", "latest"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_valid(name, version):
    version = kubernetes_validate.latest_version() if version == "latest" else version
    for document in documents(name)[:2]:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_manifest_is_noticed():
    _, job, _ = documents(MANIFESTS[0])
    job["spec"]["podFailurePolicy"]["rules"][0]["onExitCode"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.31", strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_find_each_other_and_save_when_they_are_taken_away(name):
    service, job, container = documents(name)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert pod["restartPolicy"] == "Never"  # which podFailurePolicy needs
    rules = [
        (r["action"], r["onExitCodes"]["values"])
        for r in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in r
    ]
    assert rules == [("FailJob", [2]), ("Ignore", [PREEMPTED])]
    assert pod["terminationGracePeriodSeconds"] >= 120
    kind = "tpu" if "tpu" in name else "cuda"
    assert container["image"].endswith(f":{kind}")
    user = dict(instructions())["USER"]  # of the image; libtpu wants root
    assert pod["securityContext"]["runAsUser"] == (0 if kind == "tpu" else int(user))


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_commands_of_pods_are_ones_that_the_program_takes(name):
    service, job, container = documents(name)
    words = [word.replace("$(JOB_COMPLETION_INDEX)", "1") for word in container["command"]]
    args, config = config_of(words[words.index("avsal") + 1 :])
    (mount,) = (m["mountPath"] for m in container["volumeMounts"] if m["name"] == "shared")
    assert str(args.workdir).startswith(f"{mount}/") and config.data.root.startswith(f"{mount}/")
    pods = job["spec"]["parallelism"]
    if "tpu" in name:
        chips = pods * container["resources"]["limits"]["google.com/tpu"]
        topology = job["spec"]["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
        assert chips == math.prod(map(int, topology.split("x"))) and config.data.batch % chips == 0
        assert args.coordinator is None and args.num_processes is None and args.process_id is None
    else:
        (port,) = service["spec"]["ports"]
        assert port["port"] == container["ports"][0]["containerPort"]
        first = f"{job['metadata']['name']}-0.{service['metadata']['name']}:{port['port']}"
        assert (args.coordinator, args.num_processes, args.process_id) == (first, pods, 1)
        assert container["env"][-1]["value"] == f"$(POD_IP):{port['port']}"
        assert config.data.batch % (pods * container["resources"]["limits"]["nvidia.com/gpu"]) == 0


def test_the_container_file_is_sound():
    result = subprocess.run(
        [tool("hadolint"), "--failure-threshold", "style", str(LAUNCH / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    result = subprocess.run(
        [tool("hadolint"), "--format", "json", "-"],
        input="FROM debian\nRUN cd /x",
        capture_output=True,
        text=True,
        check=False,
    )
    # The linter does find mistakes.
    assert {"DL3003", "DL3006"} <= {finding["code"] for finding in json.loads(result.stdout)}


def instructions():
    text = re.sub(r"\\\n\s*", "", (LAUNCH / "Dockerfile").read_text())
    return [line.partition(" ")[::2] for line in text.splitlines() if line and not line.startswith("#")]


def test_what_the_container_file_copies_is_what_the_wheel_is_made_of():
    root = LAUNCH.parent.parent
    copied = [
        shlex.split(rest)[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest
    ]
    copied = {name for names in copied for name in names}
    assert all((root / name).exists() for name in copied)
    project = tomllib.loads((root / "pyproject.toml").read_text())
    hatch = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    paths = {*hatch["packages"], *hatch["force-include"], *project["project"]["license-files"]}
    paths.add(project["project"]["readme"])
    assert all({name, name.partition("/")[0]} & copied for name in paths)
    bundled = json.loads((root / "checkpoints" / "manifest.json").read_text())["bundled"]
    assert bundled and {f"checkpoints/{row['name']}" for row in bundled} <= paths & copied


@pytest.mark.parametrize(
    ("accelerator", "extras"), [("cpu", "train"), ("cuda", "train,cuda"), ("tpu", "train,tpu"), ("gpu", None)]
)
def test_the_container_file_installs_extras_that_exist(stubs, monkeypatch, accelerator, extras):
    stubs("pip")
    (shell,) = (rest for word, rest in instructions() if word == "RUN" and "ACCELERATOR" in rest)
    result = subprocess.run(
        ["sh", "-c", shell],
        env={**os.environ, "ACCELERATOR": accelerator},
        capture_output=True,
        text=True,
        check=False,
    )
    if extras is None:
        assert result.returncode == 2 and "ACCELERATOR is cpu, cuda or tpu; got gpu" in result.stderr
        assert not stubs.called()
        return
    assert result.returncode == 0, result.stderr
    assert stubs.called() == [["pip", "install", "--no-cache-dir", f"/wheels/*.whl[{extras}]"]]
    project = tomllib.loads((LAUNCH.parent.parent / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_the_page_names_every_file_and_commands_that_the_program_takes():
    page = (LAUNCH.parent.parent / "docs" / "pod.md").read_text()
    assert all(f"`{path.name}`" in page for path in LAUNCH.iterdir())
    trained = re.findall(r"^avsal (train .*)$", page, re.MULTILINE)
    assert trained and [config_of(shlex.split(line))[1].data.batch for line in trained] == [64]
    (submitted,) = re.findall(r"slurm.sh (--config.*)$", page, re.MULTILINE)
    data = config_of(["train", "--config", "vinet_synthetic:smoke", *submitted.split()])[1].data
    assert data.root == "prepared_tiny" and data.batch % int(sbatch_options()["ntasks-per-node"]) == 0
    parser = argparse.ArgumentParser()
    evaluate.add_parser(parser.add_subparsers())
    (wrapped,) = re.findall(r"--wrap 'avsal (evaluate .*)'$", page, re.MULTILINE)
    assert parser.parse_args(shlex.split(wrapped.replace("$SLURM_ARRAY_TASK_ID", "3"))).shard == (3, 8)


def test_the_page_uses_the_measured_input_rate():
    docs = LAUNCH.parent.parent / "docs"
    page, measured = (docs / "pod.md").read_text(), (docs / "performance.md").read_text()
    clips, frames = re.search(r"prepared JPEG \| ([\d.]+) \(.*\| ([\d,]+) \|", measured).groups()
    size = int(re.search(r"`jpeg` \(.*?\) \| ([\d,]+) \|", measured)[1].replace(",", ""))
    clips, per_core = float(clips), int(frames.replace(",", "")) / 2
    assert f"{clips:.0f} clips per second with 2 cores" in page and f"{clips / 2:.0f} clips, or" in page
    assert f"{round(per_core, -1):,.0f} frames" in page
    assert f"{32 * size / 1e6:.1f} MB per clip ({size / 1e3:.0f} kB per frame" in page
    assert f"{clips:.0f} clips per second are {round(clips * 32 * size / 1e6, -1):.0f} MB" in page
