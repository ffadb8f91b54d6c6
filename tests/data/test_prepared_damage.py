"""Prepared data that is damaged, foreign or oddly named gives one line; a rerun repairs what it can."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError, InputSpec, Waveform
from avsal_jax.cli.main import main
from avsal_jax.data.prepared.prepare import prepare
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.data.prepared.shards import KINDS, ShardFolder
from avsal_jax.data.prepared.videos import PreparedSet
from avsal_jax.testing import fake_data

SIZE = (32, 64)
SPEC = InputSpec(frames=4, height=32, width=64, audio=Waveform(35_280))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    videos = fake_data.fake_videos(("a", "b", "c"))
    fake_data.write_stavis(folder / "root", "DIEM", videos, {"train": ("a", "b"), "test": ("c",)})
    prepare("diem", folder / "root", folder / "out", SIZE)
    return folder


@pytest.fixture
def out(workspace, tmp_path):
    return shutil.copytree(workspace / "out", tmp_path / "out")


def shard(out, kind, index=0):
    return next((out / "diem" / kind).rglob(f"*{index:05d}-of*"))


def streamed(out, source=("diem", 1)):
    from avsal_jax.data.prepared.pipeline import clip_batches, numpy_batches

    videos = PreparedSources(out).videos([source], "train")
    list(numpy_batches(clip_batches(videos, SPEC, 2, steps=3)))
    return [video.name for video in videos]


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_shard_is_reported_and_repaired(workspace, out, kind):
    """array_record opens such a file as one without records."""
    path = shard(out, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AvsalError, match=f"{path} has 0 records, .*; prepare the set again"):
        streamed(out)
    assert prepare("diem", workspace / "root", out, SIZE)["prepared"] == 1
    assert streamed(out) == ["a", "b"]


def test_damage_within_a_shard_becomes_one_line(out, capfd):
    """A reader raises it in a thread of TensorFlow, which would print the whole traceback."""
    path = shard(out, "sound")
    content = bytearray(path.read_bytes())
    content[2_000:2_100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(AvsalError, match=f"^cannot read {path}: .*; delete it and prepare the set again$"):
        streamed(out)
    assert "Traceback" not in capfd.readouterr().err


def test_a_reader_that_fails_otherwise_is_told_too(out, monkeypatch):
    def fails(*_):
        raise MemoryError("no memory for it")

    monkeypatch.setattr("avsal_jax.data.prepared.pipeline.Sampler.clip", fails)
    with pytest.raises(AvsalError, match="^MemoryError: no memory for it$"):
        streamed(out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": 10**12}, "is damaged: 1000000000000 frames"),
        ({"fps": 0.0}, "is damaged: 6 frames .* at 0.0 a second"),
        ({"fps": float("nan")}, "is damaged: .* at nan a second"),
        ({"rate": 0}, "is damaged: .* 5292 samples at 0 Hz"),
        ({"piece": -3}, "is damaged: "),
        ({"black": np.zeros(2, bool)}, r"is damaged: 6 frames \(2 with truth\)"),
        ({"samples": 10**15}, "has 1 records, but its video states"),
        ({"name": b"\xff\xfe"}, "is damaged: 'utf-8' codec"),
        ({"name": "other"}, "is of diem other, not of diem a; delete it"),
    ],
    ids=str,
)
def test_records_of_videos_are_checked(out, change, words):
    shards = ShardFolder(out / "diem", 3, SIZE, "jpeg")
    record = shards.read("videos", 0, [0])[0]
    record = {key: value.decode() if isinstance(value, bytes) else value for key, value in record.items()}
    with shards.writer("videos", 0) as add:
        add({**record, **change})
    with pytest.raises(AvsalError, match=words):
        PreparedSet(out / "diem").video(0)


def test_records_of_another_kind_are_refused(out):
    shutil.copy(shard(out, "sound"), shard(out, "videos"))
    with pytest.raises(AvsalError, match="holds no videos: .*; delete it and prepare the set again"):
        PreparedSet(out / "diem").video(0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "bmp"}, "its encoding is 'bmp'"),
        ({"dataset": 5}, "its dataset is 5"),
        ({"complete": "no"}, "complete: 'no'"),
        ({"failed": [7]}, "a list has the index of a video that does not exist"),
        ({"videos": [["diem", "a"]] * 3}, "it names 3 videos, some of them twice"),
        ({"height": True}, "its height and width are"),
        ({"encoding": ["jpeg"]}, "its encoding is"),
        ({"videos": 3}, "its videos are not pairs of a set and a name"),
        ({"videos": ["ab"]}, "its videos are not pairs of a set and a name"),
        ({"videos": [["diem", 5]]}, "its videos are not pairs of a set and a name"),
        ({"lists": [1]}, "its lists are not numbers of videos by split and fold"),
        ({"lists": {"train": [0]}}, "its lists are not numbers of videos by split and fold"),
        ({"lists": {"train": {"": 0}}}, "its lists are not numbers of videos by split and fold"),
        ({"lists": {"train": {"": ["0"]}}}, "a list has the index of a video that does not exist"),
        ({"failed": None}, "its failed videos are not a list of numbers"),
        ({"more": 1}, "it has a strange field 'more'"),
    ],
    ids=str,
)
def test_descriptions_are_checked(workspace, out, change, words):
    path = out / "diem/preparation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    for call in (lambda: PreparedSet(out / "diem"), lambda: prepare("diem", workspace / "root", out, SIZE)):
        with pytest.raises(AvsalError, match=f"{words}.*; delete {out / 'diem'} and prepare the set again"):
            call()


@pytest.mark.parametrize("field", ["format", "dataset", "videos", "lists", "failed", "complete"])
def test_a_description_that_lacks_a_field(out, field):
    path = out / "diem/preparation.json"
    content = json.loads(path.read_text())
    del content[field]
    path.write_text(json.dumps(content))
    with pytest.raises(AvsalError, match=f"is damaged: it lacks the field '{field}'; delete"):
        PreparedSet(out / "diem")


@pytest.mark.parametrize("content", [None, 5, [], "text"], ids=str)
def test_a_description_that_is_none(out, content):
    (out / "diem/preparation.json").write_text(json.dumps(content))
    with pytest.raises(AvsalError, match="is damaged: it holds no object with fields; delete"):
        PreparedSet(out / "diem")


def test_a_very_long_name_does_not_make_a_very_long_line(out):
    path = out / "diem/preparation.json"
    content = json.loads(path.read_text())
    content["videos"][0][1] = "a" * 1_000_000
    path.write_text(json.dumps(content))
    with pytest.raises(AvsalError, match="is of diem a, not of diem aaa") as error:
        PreparedSet(out / "diem").video(0)
    assert len(str(error.value)) <= 2_000


def test_a_description_nested_without_end(out):
    (out / "diem/preparation.json").write_text("[" * 100_000)
    with pytest.raises(AvsalError, match="cannot be read: maximum recursion"):
        PreparedSet(out / "diem")


def test_tensorflow_datasets_counts_repaired_shards(workspace, out):
    """It reads the lengths of the new shards."""
    import tensorflow_datasets as tfds

    path = shard(out, "videos")
    path.write_bytes(b"")
    prepare("diem", workspace / "root", out, SIZE)
    builder = tfds.builder_from_directory(str(path.parent))
    assert builder.info.splits["data"].shard_lengths == [1, 1, 1]


def test_lists_lead_nowhere_else(out, tmp_path):
    shutil.copytree(out / "diem", tmp_path / "elsewhere")
    (tmp_path / "list.txt").write_text("../elsewhere a\n")
    with pytest.raises(AvsalError, match="'../elsewhere' is not a data set; there are"):
        PreparedSources(out).videos([str(tmp_path / "list.txt")], "train")


def test_own_sets_have_the_folds_of_their_lists(tmp_path, capsys):
    lists = {"train_1": ("a", "b"), "test_1": ("c",), "train_5": ("b", "c")}
    fake_data.write_stavis(tmp_path / "root", "MINE", fake_data.fake_videos(("a", "b", "c")), lists)
    (tmp_path / "root/fold_lists/MINE_list_train_2_fps.txt").write_text("a b c d\n")
    arguments = ["--dataset", "stavis:MINE", "--root", str(tmp_path / "root"), "--output"]
    assert main(["prepare", *arguments, str(tmp_path / "out"), "--size", "32x64"]) == 0
    assert "note: " in (errors := capsys.readouterr().err) and "line 1 has 4 words" in errors
    sources = PreparedSources(tmp_path / "out")
    assert [v.name for v in sources.videos([("stavis:MINE", 5)], "train")] == ["b", "c"]
    with pytest.raises(AvsalError, match="was prepared with the folds 1, 5; got none"):
        sources.videos([("stavis:MINE", None)], "train")
    shutil.rmtree(tmp_path / "root/fold_lists")
    with pytest.raises(AvsalError, match="needs its list .*MINE_list_train_fps.txt"):
        prepare("stavis:MINE", tmp_path / "root", tmp_path / "none", SIZE)


def test_many_absent_videos_are_not_all_told_on_the_terminal(tmp_path, capsys):
    videos = fake_data.fake_videos(("a", "b", "c"))
    fake_data.write_stavis(tmp_path / "root", "DIEM", videos, {"test": ("c",)})
    (tmp_path / "root/fold_lists/DIEM_list_train_fps.txt").write_text(
        "a 6 25\n" + "".join(f"absent{i} 6 25\n" for i in range(20))
    )
    arguments = ["--dataset", "diem", "--root", str(tmp_path / "root"), "--output", str(tmp_path / "out")]
    assert main(["prepare", *arguments, "--size", "32x64"]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 6 and notes[-1] == "note: and 15 more such lines in the report"
    assert (tmp_path / "out/diem/report.md").read_text().count("is listed, but left out") == 20


@pytest.mark.parametrize("suffix", [".jfif", ".ppm", ".TGA"])
def test_sets_have_frames_in_the_formats_that_pillow_reads(workspace, tmp_path, suffix):
    root = shutil.copytree(workspace / "root", tmp_path / "root")
    for path in sorted((root / "video_frames/DIEM/a").iterdir()):
        image = Image.open(path).convert("RGB")
        path.unlink()
        image.save(path.with_suffix(suffix), format="jpeg" if suffix == ".jfif" else None)
    summary = prepare("diem", root, tmp_path / "out", SIZE)
    assert summary["failed"] == [] and summary["prepared"] == 3
    assert len(streamed(tmp_path / "out")) == 2


def test_pictures_of_32_bits_are_refused(tmp_path):
    """No file states their range, and Pillow would make all above 255 white."""
    video = fake_data.fake_video("a", 3)
    fake_data.write_stavis(tmp_path / "root", "DIEM", [video], {"train": ("a",)})
    for path in sorted((tmp_path / "root/video_frames/DIEM/a").iterdir()):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.float32)
        path.unlink()
        Image.fromarray(257 * grey).save(path.with_suffix(".tif"))
    failed = prepare("diem", tmp_path / "root", tmp_path / "out", SIZE)["failed"]
    assert len(failed) == 1 and failed[0].endswith(
        "of mode F, 32 bits per channel; frames have 8 bits per channel, or 16 for grey: "
        "scale and save it as PNG first"
    )


def test_maps_of_two_sizes_are_told(tmp_path):
    video = fake_data.fake_video("a", 3)
    fake_data.write_stavis(tmp_path / "root", "DIEM", [video], {"train": ("a",)})
    path = tmp_path / "root/annotations/DIEM/a/maps/eyeMap_00002.jpg"
    Image.open(path).resize((104, 72)).save(path)
    prepare("diem", tmp_path / "root", tmp_path / "out", SIZE)
    report = (tmp_path / "out/diem/report.md").read_text()
    assert "- diem a: density and fixation maps of 1 frames differ in size" in report


def test_names_that_are_no_text(tmp_path):
    videos = [fake_data.fake_video("good", 3), fake_data.fake_video("bad", 3)]
    fake_data.write_rearranged(tmp_path / "root", "train", videos)
    train = os.fsencode(tmp_path / "root/train")
    os.rename(train + b"/bad", train + b"/bad\xff")
    with pytest.raises(AvsalError, match=r"has a video named 'bad\\udcff'; rename it"):
        prepare("dhf1k:OWN", tmp_path / "root", tmp_path / "out", SIZE)


def test_ctrl_c_stops_at_once_and_leaves_no_partial_file(tmp_path):
    videos = [fake_data.fake_video(f"v{i}", 200, (180, 240), seed=i) for i in range(2)]
    names = tuple(video.name for video in videos)
    fake_data.write_stavis(tmp_path / "root", "DIEM", videos, {"train": names})
    output = tmp_path / "out"
    command = [sys.executable, "-m", "avsal_jax.cli.main", "prepare", "--dataset", "diem", "--workers", "1"]
    command += ["--root", str(tmp_path / "root"), "--output", str(output), "--size", "32x64"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(output.rglob(".targets-data*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "avsal: interrupted; no partial output is left"
    shards = [path.name for path in output.rglob("*-of-00002")]
    assert shards and all(name.endswith("-00000-of-00002") for name in shards), "the first video was written"
    assert not list(output.rglob(".*"))
    with pytest.raises(AvsalError, match="is not complete"):
        PreparedSet(output / "diem")
    # The first video may be complete before the signal is handled.
    finished = len(list(output.rglob("videos-data*-of-00002")))
    assert prepare("diem", tmp_path / "root", output, SIZE)["prepared"] == 2 - finished
    assert len(PreparedSources(output).videos([("diem", 1)], "train")) == 2
