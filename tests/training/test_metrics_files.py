"""metrics.jsonl and TensorBoard files: nothing missing and nothing twice after a restart."""

import io
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from avsal_jax.errors import AvsalError
from avsal_jax.training.records.event_files import EventWriter
from avsal_jax.training.records.metrics_log import MetricsLog, read_metrics


def written(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_are_on_disk_when_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    assert log.resume(-1) == [] and path.read_text() == ""
    log.write(np.int64(1), {"loss": jnp.float32(0.5), "lr": 1e-4, "device": "cpu"})
    assert written(path) == [{"step": 1, "loss": 0.5, "lr": 1e-4, "device": "cpu"}]
    log.write(2, {"loss": np.float64("nan"), "skipped": True, "count": np.int32(3)})
    assert path.read_text().splitlines()[1] == '{"step": 2, "loss": null, "skipped": true, "count": 3}'
    assert np.isnan(read_metrics(path)[1]["loss"])
    log.close()


def test_a_resumed_run_has_no_gap_and_no_double(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(1, 8):
        log.write(step, {"loss": 1 / step})
        if step % 2 == 0:
            log.write(step, {"val/cc": step / 10})
    log.close()
    with path.open("a") as file:
        file.write('{"step": 8, "lo')  # the crash
    resumed = MetricsLog(path)
    assert [r["step"] for r in resumed.resume(4)] == [1, 2, 2, 3, 4, 4]
    for step in range(5, 9):
        resumed.write(step, {"loss": 1 / step})
    resumed.close()
    assert [r["step"] for r in written(path) if "loss" in r] == list(range(1, 9))
    assert [r["step"] for r in written(path) if "val/cc" in r] == [2, 4]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_torn_and_foreign_lines_are_dropped_and_complete_ones_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "loss": 2.0}\n\xff\xfe\n[1]\n{"step": "x"}\n{"loss": 1}\n\n{"step": 2, "lr": 1.0}'
    )
    log = MetricsLog(path)
    assert log.resume(9) == [{"step": 1, "loss": 2.0}, {"step": 2, "lr": 1.0}]
    log.write(3, {"lr": 0.5})
    log.close()
    assert [r["step"] for r in written(path)] == [1, 2, 3]
    assert read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 2, "loss": [1.0, 2.0]}',
        '{"step": 2, "loss": {"kl": 1.0}}',
        '{"step": 2, "loss": 1e308}',
        '{"step": 2, "loss": 1' + "0" * 400 + "}",
        '{"step": 2, "loss": Infinity}',
        '{"step": -1, "loss": 1.0}',
        '{"step": 1' + "0" * 30 + ', "loss": 1.0}',
        '{"step": 2, "loss": ' + "[" * 10_000,
    ],
    ids=lambda line: line[:30],
)
def test_lines_that_no_run_writes_are_dropped(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "loss": 2.0}}\n{line}\n{{"step": 3, "loss": null}}\n')
    assert [record["step"] for record in read_metrics(path)] == [1, 3]
    assert [record["step"] for record in MetricsLog(path).resume(9)] == [1, 3]
    assert written(path) == [{"step": 1, "loss": 2.0}, {"step": 3, "loss": None}]


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    for action in (lambda log: log.write(1, {}), lambda log: log.resume(1)):
        with pytest.raises(AvsalError, match=r"cannot write .*none/m.jsonl: No such file"):
            action(MetricsLog(tmp_path / "none" / "m.jsonl"))
    with pytest.raises(AvsalError, match="cannot read .*: Is a directory"):
        read_metrics(tmp_path)


def accumulated(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


def points(accumulator, tag):
    return [(e.step, round(e.value, 6)) for e in accumulator.Scalars(tag)]


def test_tensorboard_reads_scalars_and_pictures(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    writer = EventWriter(tmp_path / "events")
    for step in (1, 2):
        writer.scalars(step, {"loss": jnp.float32(step / 4), "val/cc": 0.5})
    writer.image(2, "predictions", picture)
    writer.close()
    events = accumulated(tmp_path / "events")
    assert points(events, "loss") == [(1, 0.25), (2, 0.5)]
    assert points(events, "val/cc") == [(1, 0.5), (2, 0.5)]
    (image,) = events.Images("predictions")
    assert (image.step, image.width, image.height) == (2, 40, 24)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), picture)


def test_tensorboard_shows_each_step_of_a_resumed_run_once(tmp_path):
    first = EventWriter(tmp_path)
    for step in range(1, 8):
        first.scalars(step, {"loss": step})
    first.flush()
    first.path.write_bytes(first.path.read_bytes()[:-5])  # the crash cut the last record
    second = EventWriter(tmp_path, restored_step=4)
    for step in range(5, 7):
        second.scalars(step, {"loss": 10 * step})
    second.close()
    third = EventWriter(tmp_path, restored_step=6)
    third.scalars(7, {"loss": 700})
    third.close()
    first.close()
    assert points(accumulated(tmp_path), "loss") == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
        (5, 50),
        (6, 60),
        (7, 700),
    ]


def test_event_files_need_no_tensorflow(tmp_path):
    code = (
        "import sys\n"
        "from avsal_jax.training.records.event_files import EventWriter\n"
        "writer = EventWriter(sys.argv[1]); writer.scalars(1, {'loss': 2.0}); writer.close()\n"
        "assert sys.modules.get('tensorflow') is None\n"
    )
    for blocked in ("", "import sys; sys.modules['tensorflow'] = None\n"):
        command = [sys.executable, "-W", "error", "-c", blocked + code, str(tmp_path)]
        subprocess.run(command, check=True, timeout=120)
    assert points(accumulated(tmp_path), "loss") == [(1, 2.0), (1, 2.0)]


def test_missing_tensorboard_and_bad_folders_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(AvsalError, match="cannot write event files to .*file"):
        EventWriter(tmp_path / "file")
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(AvsalError, match=r"install avsal-jax\[train\]"):
        EventWriter(tmp_path / "events")
