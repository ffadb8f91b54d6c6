"""The watch of a run: the lines that it prints, and how it finds processes that died."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest

from avsal_jax.runtime import watch as module
from avsal_jax.runtime.watch import Watch
from avsal_jax.training import launch


@pytest.fixture
def lines():
    return []


@pytest.fixture
def watch(lines, monkeypatch):
    """A watch with forty heartbeats per second."""
    monkeypatch.setattr(module, "_HEARTBEAT_SECONDS", 0.025)
    monkeypatch.setattr(module, "_HEARTBEAT_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(module, "_EXIT_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(module, "_PROCESS_0_WAIT_SECONDS", 0.1)
    instance = Watch(lines.append, 0.3, lambda words: lines.append(f"ended: {words}"))
    yield instance
    instance.close()


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_a_run_without_progress_prints_its_stacks(watch, lines, capfd):
    watch.record_progress("step 7 of 9")
    until(lambda: len(lines) >= 2)
    assert lines[0].startswith("no progress for ")
    assert "(step 7 of 9); the stacks of all threads:" in lines[0]
    watch.close()
    stacks = capfd.readouterr().err
    assert "test_watch.py" in stacks and "in until" in stacks  # where the main thread was


def test_a_run_that_moves_shows_none(watch, lines):
    for step in range(30):
        watch.record_progress(f"step {step}")
        time.sleep(0.02)
    assert not lines


def test_a_quiet_run_says_that_it_lives(watch, lines, monkeypatch):
    monkeypatch.setattr(module, "_ALIVE_LINE_SECONDS", 0.1)
    watch.record_progress("validating at step 4 of 9")
    until(lambda: lines)
    assert lines[0] == "alive: validating at step 4 of 9, for 00:00"


RUN = "this one"


def peer(folder, pid, ended="", host=None, run=RUN):
    machine = module._machine() if host is None else f"machine of {host}"
    content = {"run": run, "host": host or socket.gethostname(), "machine": machine, "pid": pid}
    content |= {"at": "step 3", "beats": 1, "ended": ended}
    (folder / "1.json").write_text(json.dumps(content))


def join(watch, folder, write, limit=100.0):
    """Joins as process 0 of 2, after process 1 has written its file."""
    write()
    watch.join(folder, 0, 2, RUN, limit)


def test_a_killed_process_is_named(watch, lines, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    join(watch, tmp_path, lambda: peer(tmp_path, other.pid))
    time.sleep(0.5)
    assert watch._loss is None  # it writes no heartbeats, but it runs
    other.send_signal(signal.SIGKILL)  # which leaves a zombie
    message = f"process 1 of 2 ({socket.gethostname()}, pid {other.pid}) has died; last activity: step 3"
    assert watch.wait_for_loss(10) == message
    until(lambda: f"ended: {message}" in lines)
    other.wait()


def test_a_run_that_lost_a_process_ends_with_69_and_its_name(watch, tmp_path, monkeypatch, capfd):
    codes, victim = [], subprocess.Popen([sys.executable, "-c", ""])
    victim.wait()
    peer(tmp_path, victim.pid)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(launch, "_run_identifier", lambda: RUN)
    monkeypatch.setattr(os, "_exit", codes.append)
    limits = launch.Limits(join=60, heartbeat=100, stall=900)
    with launch.joined_watch(lambda line: None, tmp_path, limits):
        until(lambda: codes)
    assert codes[0] == 69
    name = f"process 1 of 2 ({socket.gethostname()}, pid {victim.pid})"
    assert f"avsal: {name} has died; last activity: step 3\n" in capfd.readouterr().err


def test_the_words_of_one_that_ended_are_passed_on(watch, tmp_path):
    join(watch, tmp_path, lambda: peer(tmp_path, os.getpid(), "no room"))
    assert watch.wait_for_loss(10).endswith(" ended: no room")


def test_one_that_is_done_is_not_missed(watch, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", ""])
    other.wait()
    join(watch, tmp_path, lambda: peer(tmp_path, other.pid, "done"))
    assert watch.wait_for_loss(0.5) is None


def test_silence_on_another_machine_is_only_reported(watch, lines, tmp_path):
    join(watch, tmp_path, lambda: peer(tmp_path, 1, host="elsewhere"), limit=0.1)
    warning = "no heartbeat of process 1 of 2 (elsewhere, pid 1) for "
    until(lambda: any(warning in line for line in lines))
    assert watch._loss is None and sum(warning in line for line in lines) == 1
    # After an error, the silent process is its likely cause.
    assert "process 1 of 2 (elsewhere) has stopped sending heartbeats" in watch.wait_for_loss(0.3)


def test_files_of_another_run_count_for_nothing(watch, tmp_path):
    """As those of a second start in the same workdir, which is refused and says so in its file."""
    join(watch, tmp_path, lambda: peer(tmp_path, os.getpid(), "the workdir is in use", run="another"))
    assert watch.wait_for_loss(0.5) is None


def test_a_folder_that_takes_no_files_is_reported(watch, lines, tmp_path):
    (tmp_path / "file").write_text("")
    watch.join(tmp_path / "file", 0, 2, RUN, 100.0)
    assert any("cannot write to" in line and "cannot monitor this process" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("ended", ["closed", "died"])
def test_the_witness_of_a_process_that_died_names_the_other(tmp_path, ended):
    """It outlives its parent, and says nothing where the end was meant."""
    victim = subprocess.Popen([sys.executable, "-c", ""])
    victim.wait()
    peer(tmp_path, victim.pid)
    command = [sys.executable, "-P", "-m", module.__name__, str(tmp_path), "0", "2", RUN]
    witness = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    _, output = witness.communicate(b"closed" if ended == "closed" else b"", timeout=60)
    name = f"process 1 of 2 ({socket.gethostname()}, pid {victim.pid})"
    line = f"avsal: process 0 died; {name} has died; last activity: step 3\n"
    assert output.decode() == ("" if ended == "closed" else line) and witness.returncode == 0


@pytest.fixture
def other():
    """A process that lives."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    yield process
    process.kill()
    process.wait()


def test_process_0_stays_until_the_others_are_gone(watch, other, tmp_path, monkeypatch):
    """One that has said why it ends may still have to print it."""
    monkeypatch.setattr(module, "_PROCESS_0_WAIT_SECONDS", 60)
    join(watch, tmp_path, lambda: peer(tmp_path, other.pid))
    peer(tmp_path, other.pid, "no room")
    closing = threading.Thread(target=watch.close, args=["no room"])
    closing.start()
    closing.join(1)
    assert closing.is_alive()
    other.kill()
    other.wait()
    closing.join(10)
    assert not closing.is_alive()


def test_process_0_does_not_stay_for_ever(watch, other, tmp_path):
    join(watch, tmp_path, lambda: peer(tmp_path, other.pid))
    assert watch._peers.alive()
    watch.close("no room")


def test_one_on_another_machine_lives_while_it_shows_itself(watch, tmp_path):
    join(watch, tmp_path, lambda: peer(tmp_path, 1, host="elsewhere"))
    assert watch._peers.alive()
    until(lambda: not watch._peers.alive())
    peer(tmp_path, 1, "no room", host="elsewhere")
    assert watch._peers.alive()
    until(lambda: not watch._peers.alive())


def test_what_one_knows_the_others_hear(watch, tmp_path):
    """A survivor passes on the words of the one that ended, then ends itself."""
    join(watch, tmp_path, lambda: peer(tmp_path, os.getpid(), "no room"))
    until(lambda: "no room" in json.loads((tmp_path / "0.json").read_text())["ended"])


@pytest.mark.parametrize("content", [b"[" * 4096, b"", b"{", b"[]", b'{"host": 1}', b"\xff" * 9000])
def test_files_that_make_no_sense_are_passed_over(watch, tmp_path, content):
    join(watch, tmp_path, lambda: (tmp_path / "1.json").write_bytes(content))
    assert watch.wait_for_loss(0.3) is None


def test_what_it_writes_is_what_it_reads(watch, tmp_path):
    join(watch, tmp_path, lambda: None)
    watch.record_progress("x" * 5000)
    time.sleep(0.2)
    content = json.loads((tmp_path / "0.json").read_text())
    assert content["at"] == "x" * 100 and content["pid"] == os.getpid() and content["ended"] == ""
    watch.close("€" * 5000)
    text = (tmp_path / "0.json").read_text()
    assert len(text) == 4096 and json.loads(text)["ended"] == "€" * 400
