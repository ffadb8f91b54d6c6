"""What goes wrong around a run: its folder, its disk, its data, its config; one line each, nothing lost."""

import json
import os
import resource
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.models.part import Limit
from avsal_jax.training.checkpointing import Checkpoints
from avsal_jax.training.records.event_files import EventWriter
from avsal_jax.training.records.metrics_log import MetricsLog, read_metrics
from avsal_jax.training.records.overview import overview
from avsal_jax.training.records.reporting import read_pictures, write_picture
from avsal_jax.training.records.run_log import RunLog
from avsal_jax.training.state import step_key
from avsal_jax.training.train import Preempted, Trainer
from avsal_jax.training.validation import Validation
from avsal_jax.training.workdir import Workdir
from tests import needs

SHORT = {"steps": 2, "evaluation__every": 2, "save_every": 2}


def run(config, workdir, should_stop=lambda step: False):
    lines = []
    return Trainer(config, workdir, lines.append, should_stop=should_stop).run(), lines


def add_checkpoint(workdir):
    """Makes a workdir look as if it had a checkpoint."""
    (workdir / "checkpoints" / "4").mkdir(parents=True)


def test_one_run_at_a_time(tmp_path):
    first = Workdir(tmp_path / "w", {"a": 1}, True)
    with pytest.raises(AvsalError, match=r"another run is using the workdir .*w; wait for its end"):
        Workdir(tmp_path / "w", {"a": 1}, True)
    Workdir(tmp_path / "w", {"a": 1}, False)  # another process of the same run
    first.release()
    Workdir(tmp_path / "w", {"a": 1}, True).release()


def test_a_refused_run_holds_nothing(tmp_path):
    add_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 1}')
    with pytest.raises(AvsalError, match=r"belongs to another config: a was 1, is 2; name another"):
        Workdir(tmp_path, {"a": 2}, True)
    Workdir(tmp_path, {"a": 1}, True).release()


def test_a_folder_without_a_checkpoint_takes_another_config(tmp_path):
    Workdir(tmp_path, {"init": "wrong"}, True).release()
    Workdir(tmp_path, {"init": "right"}, True).release()
    assert json.loads((tmp_path / "config.json").read_text()) == {"init": "right"}
    add_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    Workdir(tmp_path, {"init": "right"}, True).release()
    with pytest.raises(AvsalError, match="init was 'right', is 'other'"):
        Workdir(tmp_path, {"init": "other"}, True)


def test_many_differences_are_not_all_listed(tmp_path):
    add_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({str(i): i for i in range(9)}))
    with pytest.raises(AvsalError, match=r"5 was 5, is None; and 3 more; name another"):
        Workdir(tmp_path, {}, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "is not a config: "),
        ("{", "is not a config: Expecting"),
        ("[1]", "is not a config: it holds a list"),
        ("\xff", "is not a config: "),
        (" " * 1_000_001, "is not a config: it is too large"),
    ],
)
def test_a_config_file_that_is_not_a_config(tmp_path, text, words):
    add_checkpoint(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(AvsalError, match=words) as error:
        Workdir(tmp_path, {"a": 1}, True)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AvsalError, match=r"cannot write to the workdir .*file/w: Not a directory"):
        Workdir(tmp_path / "file" / "w", {}, True)


@needs.full_device
def test_a_full_disk_under_the_records_is_reported_once():
    log = MetricsLog(needs.FULL_DEVICE)
    with pytest.raises(AvsalError, match="cannot write /dev/full: No space left on device; make room"):
        log.write(1, {"loss": 1.0})
    log.close()


def test_a_full_disk_under_the_event_files_is_reported(tmp_path):
    writer = EventWriter(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (writer.path.stat().st_size, before[1]))
    try:
        writer.scalars(1, {"loss": 1.0})
        for action in (writer.flush, writer.close):
            with pytest.raises(AvsalError, match="cannot write .*tfevents.*: File too large; make room"):
                action()
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_pictures_are_whole_and_those_that_are_not_are_left_out(tmp_path):
    folder = tmp_path / "pictures"
    for step in range(1, 10):
        write_picture(folder / f"{step:08d}.png", np.full((2, 3, 3), step, np.uint8))
    assert sorted(p.name for p in folder.iterdir()) == [f"{step:08d}.png" for step in range(1, 10)]
    assert [step for step, _ in read_pictures(folder, 3)] == [1, 5, 9]
    assert [step for step, _ in read_pictures(folder, 20)] == list(range(1, 10))
    (folder / "00000009.png").write_bytes((folder / "00000009.png").read_bytes()[:40])
    (folder / "00000008.png").write_text("<html>")
    Image.new("RGB", (3, 2)).save(folder / "mine.png")
    pictures = read_pictures(folder, 20)
    assert [step for step, _ in pictures] == list(range(1, 8)) and (pictures[2][1] == 3).all()
    assert read_pictures(tmp_path / "none", 6) == []


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path):
    log = RunLog(tmp_path, 9, True, lambda line: None)
    log.open(None)
    (tmp_path / "pictures").write_text("")
    pictures = (np.zeros((1, 4, 6, 3), np.uint8), np.zeros((1, 4, 6)), np.zeros((1, 4, 6)))
    with pytest.raises(AvsalError, match=r"cannot write .*pictures/00000003.png"):
        log.validated(3, Validation({"cc": 0.5}, 1, pictures), "val list")
    log.close()
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [3]


def test_a_run_killed_before_its_first_checkpoint_shows_each_step_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for losses in ((1.0, 2.0, 3.0), (10.0,)):
        log = RunLog(tmp_path, 9, True, lambda line: None)
        log.open(None)
        for step, loss in enumerate(losses, 1):
            log.add({"loss": loss})
            log.record(step, 0.1)
        log.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 10.0)]
    assert [r["loss"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [10.0]


def test_the_report_does_without_pictures(tmp_path):
    log = RunLog(tmp_path, 9, True, lambda line: None)
    log.open(None)
    log.finish({}, overview({"heads": {"saliency": {"bias": np.zeros(2)}}}))
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295; got 4294967296"),
        (
            {"evaluation__metric": "loss", "early_stop": {"mode": "max"}},
            "early_stop.mode 'max' waits for evaluation.metric 'loss' to rise, which should fall",
        ),
        (
            {"evaluation__metric": "kl", "optimizer__schedule": {"name": "plateau", "mode": "max"}},
            "optimizer.schedule.mode 'max' waits for evaluation.metric 'kl'",
        ),
    ],
)
def test_what_does_not_go_together(config, changes, words):
    with pytest.raises(AvsalError, match=words):
        config(**changes)
    config(seed=2**32 - 1, early_stop={"mode": "max"})


def test_an_accumulation_longer_than_the_run(config, tmp_path):
    with pytest.raises(AvsalError, match="optimizer.accumulate 3 is more than the run's 2 steps"):
        run(config(optimizer__accumulate=3, **SHORT), tmp_path / "w")


def test_the_largest_seed_has_random_numbers():
    keys = [jax.random.key_data(step_key(seed, 0, "dropout")).tolist() for seed in (0, 2**31, 2**32 - 1)]
    assert len({tuple(key) for key in keys}) == 3


def test_a_wrong_start_can_be_corrected(config, tmp_path):
    """A wrong file for `init` leaves the workdir to the run with the right one."""
    wrong = {"init": {"s3d": {"path": "nowhere"}}, **SHORT}
    with pytest.raises(AvsalError, match="there is no model directory nowhere"):
        run(config(**wrong), tmp_path / "w")
    assert run(config(**wrong | {"init": {}}), tmp_path / "w")[0]["steps"] == 2


@pytest.fixture(scope="module")
def short(config, tmp_path_factory):
    """A run with a validation at each step and few records; its workdir."""
    workdir = tmp_path_factory.mktemp("short") / "w"
    changes = {"steps": 5, "evaluation__every": 2, "save_every": 5, "log_every": 3, "keep": 9}
    run(config(**changes), workdir)
    return workdir


def test_what_is_validated_is_saved(short):
    saved = Checkpoints(short / "checkpoints", read_only=True)
    values = {step: saved.metrics(step)["cc"] for step in (2, 4, 5)}
    records = read_metrics(short / "metrics.jsonl")
    assert values == {r["step"]: r["val/cc"] for r in records if "val/cc" in r}
    saved.close()


def test_the_last_steps_are_on_record(short):
    records = read_metrics(short / "metrics.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [3, 5]


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"progress": {}, "pending": {}},
        {"progress": {"plateau": {"best": 1, "wurst": 2}}},
        {"progress": []},
    ],
)
def test_a_checkpoint_with_a_foreign_record(config, tmp_path, meta):
    ready = Trainer(config(**SHORT), tmp_path / "w", lambda line: None)
    ready.checkpoints.save(1, ready.program.initial_state(), meta)
    with pytest.raises(AvsalError, match=r"the record of checkpoint 1 in .* was not written by this version"):
        ready.run()


def test_resuming_beyond_the_end(short, config, tmp_path):
    with pytest.raises(AvsalError, match=r"is at step 5 already, and this run ends at step 2; set more"):
        run(config(resume=str(short), **SHORT), tmp_path / "w")


def test_resuming_in_another_workdir_restarts_the_count_of_validations(config, tmp_path):
    """A run that stopped early continues under the same rule, but not at a rate that another rule lowered."""
    never = {"early_stop": {"patience": 1, "threshold": 1.0}, "evaluation__every": 1, "log_every": 1}
    plateau = {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 1.0}
    stopped, _ = run(config(optimizer__schedule=plateau, **never), tmp_path / "w")
    assert stopped["steps"] == 2
    resumed, _ = run(config(resume=str(tmp_path / "w"), **never), tmp_path / "v")
    assert resumed["steps"] == 3  # the first validation, at step 2, counts; that of step 3 is no better
    rates = {r["step"]: r["lr"] for r in read_metrics(tmp_path / "v/metrics.jsonl") if "lr" in r}
    assert rates == {3: 1e-4}


def test_data_that_changed_is_reported(config, values, prepared, tmp_path):
    copy = tmp_path / "prepared"
    shutil.copytree(prepared, copy)
    changes = {"data__root": str(copy), **SHORT}
    with pytest.raises(Preempted):
        run(config(**changes), tmp_path / "w", lambda step: step == 1)
    path = copy / "synthetic" / "preparation.json"
    preparation = json.loads(path.read_text())
    preparation["lists"]["train"][""].pop()
    path.write_text(json.dumps(preparation))
    _, lines = run(config(**changes), tmp_path / "w")
    assert any(
        "warning: the data has changed, was 7 videos" in line and "is 6 videos" in line for line in lines
    )


def test_data_that_breaks_during_a_run_is_one_line(config, prepared, tmp_path):
    copy = tmp_path / "prepared"
    shutil.copytree(prepared, copy)
    changes = {"data__root": str(copy), "steps": 300, "evaluation__every": 300, "save_every": 2}

    def breaking(step):
        if step == 3:
            for shard in (copy / "synthetic" / "pictures" / "1.0.0").glob("*array_record*"):
                os.truncate(shard, 100)
        return False

    with pytest.raises(AvsalError) as error:
        run(config(**changes), tmp_path / "w", breaking)
    assert "\n" not in str(error.value) and f"cannot read the prepared data in {copy}: " in str(error.value)
    assert "run avsal prepare again" in str(error.value)
    assert Checkpoints(tmp_path / "w/checkpoints", read_only=True).latest() >= 2


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"model__dtype": "bfloat16"}, {"model__norm": "frozen"}])
def test_other_ways_to_compute(config, tmp_path, changes):
    before = Trainer(config(**SHORT), tmp_path / "v", lambda line: None).program.initial_state()
    ready = Trainer(config(**changes, **SHORT), tmp_path / "w", lambda line: None)
    ready.run()
    saved = Checkpoints(tmp_path / "w/checkpoints", read_only=True)
    state = saved.restore(2, ready.program.shapes)
    leaves = jax.tree.leaves((state.params, state.batch_stats))
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)} and all(
        np.isfinite(x).all() for x in leaves
    )
    moved = [
        (np.asarray(a) != b).any()
        for a, b in zip(jax.tree.leaves(before.batch_stats), jax.tree.leaves(state.batch_stats), strict=True)
    ]
    assert any(moved) is (changes.get("model__norm") != "frozen")
    assert read_metrics(tmp_path / "w/metrics.jsonl")[0]["loss"] > 0


def test_a_value_above_its_bound_is_recorded_and_warned_of_once(tmp_path):
    lines = []
    log = RunLog(tmp_path, total=9, writes=True, say=lines.append)
    log.open(None)
    for step in (3, 6):
        log.limits(step, {"a.rate": Limit(0.1, 0.05, "use less"), "b.rate": Limit(0.1, 0.2, "unused")})
    log.close()
    assert lines == ["warning: a.rate is 0.1, above its bound of 0.05: use less"]
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["limit/a.rate bound"] for r in records if "limit/a.rate" in r] == [0.05, 0.05]
