"""The profile of some steps of a run; and that no step copies an array from the host."""

import gzip
import json

import jax
import pytest

from avsal_jax.cli.main import main
from avsal_jax.training.train import Trainer


def test_a_profile_holds_the_steps_that_were_asked_for(config, tmp_path):
    """Perfetto opens `*.trace.json.gz`; TensorBoard with XProf opens `*.xplane.pb`."""
    lines = []
    Trainer(config(steps=6), tmp_path, lines.append, profile=2).run()
    (trace,) = tmp_path.glob("profile/plugins/profile/*/*.trace.json.gz")
    assert list(trace.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = [int(event["args"]["step_num"]) for event in events if event.get("name") == "train"]
    assert sorted(steps) == [2, 3]
    assert f"the profile of 2 steps is in {tmp_path / 'profile'}" in lines


def test_a_run_without_a_profile_writes_none(config, tmp_path):
    Trainer(config(steps=1), tmp_path, lambda line: None).run()
    assert not (tmp_path / "profile").exists()


def test_the_flag_takes_a_number_of_steps(tmp_path, capsys):
    arguments = ["train", "--config", "vinet_synthetic:smoke", "--workdir", str(tmp_path)]
    with pytest.raises(SystemExit):
        main([*arguments, "--profile", "0"])
    assert "'0' is not a positive whole number" in capsys.readouterr().err


def test_a_batch_on_the_host_is_refused(config, tmp_path, monkeypatch):
    """Otherwise each step would wait for the copy of its batch."""
    trainer = Trainer(config(steps=1), tmp_path, lambda line: None)
    monkeypatch.setattr(trainer.parallel, "split", lambda batch: batch)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        trainer.run()
