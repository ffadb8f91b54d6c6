"""The reports on sound and on domains, and SoundNet's start: they run, and print what they measured."""

import pathlib
import re
import runpy
import sys

import numpy as np
import pytest

from avsal_jax.cli.main import main
from avsal_jax.data.prepared.prepare import prepare_generated
from avsal_jax.errors import AvsalError
from avsal_jax.media.clip_sound import Sound
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import read_model, write_model
from avsal_jax.synthetic.sounds import Sounds, transposed
from avsal_jax.training.objectives import Steps
from avsal_jax.training.objectives.sound_classes import SoundStream
from avsal_jax.training.records.metrics_log import read_metrics

SETTINGS = {
    "frames": 8,
    "height": 32,
    "width": 64,
    "visual_encoder": "small",
    "visual_encoder.width": 1 / 16,
    "audio_encoder.width": 1 / 16,
    "audio.samples": 4574,
    "fusion": "concatenation",
    "heads.saliency.width": 1 / 16,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Prepared sets of both domains."""
    folder = tmp_path_factory.mktemp("domains")
    for domain in ("a", "b"):
        settings = {"preset": "tiny", "videos": "60", "frames": "16", "domain": domain, "objects": "2"}
        prepare_generated("synthetic", settings, output=folder / domain, size=(32, 64), workers=1)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    preset = resolve("avinet", SETTINGS)
    path = tmp_path_factory.mktemp("model") / "m"
    return write_model(path, preset, init_variables(build(preset), 0), {"by": "a test"})


@pytest.fixture
def tool(tests_dir, monkeypatch, capsys):
    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(tests_dir.parent / "tools" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_sound_report(tool, folders, model):
    root = folders / "a/synthetic-source"
    table = tool(
        "sound_report", "--model", model, "--root", root, "--split", "train", "--every", 4, "--bfloat16"
    )
    values = dict(re.findall(r"^\| ([^|]+) \| (-?[\d.]+) \| -?[\d.]+ to", table, re.MULTILINE))
    assert set(values) == {
        "CC, true sound",
        "CC, sound of another object",
        "CC, silence",
        "pairs in which the named object's mass rises",
        "CC of the maps in bfloat16 with these",
    }
    assert 0.9 < float(values["CC of the maps in bfloat16 with these"]) <= 1
    assert 0 <= float(values["pairs in which the named object's mass rises"]) <= 1
    assert len({value for name, value in values.items() if name.startswith("CC, ")}) == 3


@pytest.mark.slow
def test_sound_report_of_relevance(tool, tmp_path):
    settings = {"preset": "tiny", "videos": "20", "frames": "16", "objects": "2", "inconsistent": "0.5"}
    prepare_generated("synthetic", settings, output=tmp_path, size=(32, 64), workers=1)
    preset = resolve("avinet", {**SETTINGS, "fusion": "ravf", "fusion.width": 1 / 16})
    variables = init_variables(build(preset), 0)
    model = write_model(tmp_path / "m", preset, variables, {"by": "a test"})
    root = tmp_path / "synthetic-source"
    table = tool("sound_report", "--model", model, "--root", root, "--split", "train", "--every", 8)
    rows, absolute = (
        re.findall(rf"^\| {name}, ([^|]+) \| (-?[\d.]+) \| .* \| (\d+) \|$", table, re.MULTILINE)
        for name in ("Ret_A", "absolute Ret_A")
    )
    assert all(abs(float(a[1])) <= float(b[1]) for a, b in zip(rows, absolute, strict=True))
    assert [kind for kind, _, _ in rows] == ["a sound of the scene", "music", "narration"]
    assert sum(int(count) for _, _, count in rows) == 14 and len({value for _, value, _ in rows}) > 1
    off_screen = dict(re.findall(r"^\| CC, ((?:music|narration).*?) \| (-?[\d.]+) \|", table, re.MULTILINE))
    kinds = ["music", "music, silence instead", "narration", "narration, silence instead"]
    assert list(off_screen) == kinds and off_screen["music"] != off_screen["music, silence instead"]


@pytest.mark.slow
def test_domain_report(tool, folders, model):
    sides = ["--source", folders / "a/synthetic", "--target", folders / "b/synthetic"]
    table = tool("domain_report", "--model", model, *sides, "--seeds", 1, "--steps", 400)
    assert "| CC, source, 12 videos |" in table and "| CC, target, 12 videos |" in table
    twice = tool(
        "domain_report", "--model", model, *sides[:3], folders / "a/synthetic", "--seeds", 1, "--steps", 400
    )
    for feature in ("audio", "fused"):
        form = rf"the domains by `{feature}` \| ([\d.]+) % .*; ([\d.]+) % on its training clips"
        ((held_out, trained),) = re.findall(form, table)
        assert float(trained) > 90 and float(held_out) < float(trained)
        # A random network's fused features also separate the looks of other videos. Its audio features
        # separate only the timbres of the videos that the discriminator was trained on.
        assert feature == "audio" or float(held_out) > 60
        assert re.findall(form, twice) == [("50.0", "50.0")]  # a set cannot be distinguished from itself


def test_domains_of_the_report_are_lists(tests_dir, folders, tmp_path):
    """One list gives up the tenth that a run on it holds out; two are for training and test."""
    videos_of = runpy.run_path(str(tests_dir.parent / "tools/domain_report.py"))["videos_of"]
    folder = folders / "a"
    published = videos_of(folder / "synthetic", [], None)
    assert [len(videos) for videos in published.values()] == [42, 12]
    lists = []
    for split, videos in published.items():
        lists.append(str(tmp_path / f"{split}.txt"))
        pathlib.Path(lists[-1]).write_text("".join(f"{v.dataset} {v.name}\n" for v in videos))
    names = {split: [video.name for video in videos] for split, videos in published.items()}
    both_lists = videos_of(folder, lists, None)
    assert {split: [video.name for video in videos] for split, videos in both_lists.items()} == names
    train, test = ({video.name for video in videos} for videos in videos_of(folder, lists[:1], None).values())
    assert (len(train), len(test)) == (38, 4) and train | test == set(names["train"])
    with pytest.raises(AvsalError, match="is in both lists"):
        videos_of(folder, [lists[0]] * 2, None)
    with pytest.raises(AvsalError, match="a list for training and one for test"):
        videos_of(folder, [*lists, "x.txt"], None)


def pretrained(folder, sets, *values):
    """Trains two steps by the command line; returns what the run printed and the workdir's model."""
    command = ["train", "--config", "sound_classes", "--workdir", str(folder), "steps=2", "data.batch=4"]
    command += [f"objective.sets={tuple(map(str, sets))!r}", "model.audio_encoder.width=1/16", *values]
    assert main(command) == 0
    return read_model(folder / "model")


@pytest.mark.parametrize(
    "names, clips, trained_on",
    [("a", 24, "the 4 classes of sound of 42 training videos of a synthetic set"),
     pytest.param("ab", 48, "the 8 classes of sound of 84 training videos of 2 synthetic sets",
                  marks=pytest.mark.slow)],
)  # fmt: skip
def test_soundnet_starts_from_the_classes_of_sound(folders, tmp_path, capsys, names, clips, trained_on):
    sets = [folders / name / "synthetic-source" for name in names]
    model = pretrained(tmp_path / "w", sets, "model.audio.samples=4574")
    lines = capsys.readouterr().err
    assert (
        f"step 2/2  validation on {clips} clips (by the objective): loss " in lines and "accuracy 0." in lines
    )
    assert model.preset.kind == "part" and set(model.variables["params"]) == {"audio_encoder"}
    assert model.card["provenance"]["trained on"] == trained_on
    records = read_metrics(tmp_path / "w" / "metrics.jsonl")
    assert {"loss", "accuracy", "val/loss", "val/accuracy"} <= {name for record in records for name in record}


SPEC = {"audio.samples": 4574, "frames": 8}


def test_a_stopped_run_on_classes_of_sound_sees_the_same_clips(folders):
    spec = resolve("soundnet", SPEC).input
    stream = SoundStream((str(folders / "a/synthetic-source"),), 1.0)
    steps = {"batch": 4, "seed": 3, "spec": spec}
    every = list(stream.batches(Steps(0, 3, shard=(0, 1), **steps)))
    (last,) = stream.batches(Steps(2, 3, shard=(0, 1), **steps))
    halves = [next(stream.batches(Steps(2, 3, shard=(index, 2), **steps))) for index in (0, 1)]
    for name in ("audio", "kind"):
        np.testing.assert_array_equal(last[name], every[2][name])
        np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), last[name])
    assert not np.array_equal(every[0]["audio"], every[1]["audio"])


def test_classes_of_several_sets_are_distinct(folders):
    """No class belongs to two sets, because the timbres of two domains have no known correspondence."""
    spec = resolve("soundnet", SPEC).input
    kinds = {}
    for names in ("a", "b", "ab"):
        sounds = Sounds([folders / name / "synthetic-source" for name in names], "train", spec)
        kinds[names] = [sounds.clip(video, 0.0)[1] for video in range(len(sounds))]
    assert set(kinds["a"]) == set(kinds["b"]) == {0, 1, 2, 3}
    assert kinds["ab"] == kinds["a"] + [4 + kind for kind in kinds["b"]]


def test_transposed_sounds_have_their_frequencies_times_the_factor():
    tone = Sound(np.sin(2 * np.pi * 500 * np.arange(44_100) / 22_050).astype(np.float32), 22_050)
    for factor in (0.5, 1.0, 2.0):
        sound = transposed(tone, factor)
        assert sound.rate == 22_050 and len(sound.wave) == pytest.approx(44_100 / factor, rel=0.005)
        spectrum = np.abs(np.fft.rfft(sound.wave))
        peak = np.fft.rfftfreq(len(sound.wave), 1 / sound.rate)[spectrum.argmax()]
        assert peak == pytest.approx(500 * factor, rel=0.005)


def test_each_video_is_heard_at_several_pitches(folders):
    """Eight of each; the shorter ones have fewer frames, and all clips are as long as they were."""
    spec, root = resolve("soundnet", SPEC).input, folders / "a/synthetic-source"
    recorded, pitched = Sounds([root], "val", spec), Sounds([root], "val", spec, 1.0)
    assert len(pitched) == 8 * len(recorded)
    for video in range(len(recorded)):
        clips = [pitched.clip(8 * video + k, 0.5) for k in range(8)]
        assert {kind for _, kind in clips} == {recorded.clip(video, 0.5)[1]}
        assert len({wave.tobytes() for wave, _ in clips}) > 4  # pitches are rounded
        assert {wave.shape for wave, _ in clips} == {(4574,)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("objective.pitch=9", "objective.pitch must be a number from 0 to 3; got 9"),
        ("objective.sets=()", "objective.sets is empty: name a generated set"),
        ("evaluation.metric=cc", "evaluation.metric must be 'loss' with this objective"),
        ("data.cached_features=true", "data.cached_features is incompatible with this objective"),
    ],
)
def test_what_does_not_go_with_classes_of_sound_is_one_line(tmp_path, capsys, value, message):
    assert main(["train", "--config", "sound_classes", "--workdir", str(tmp_path), value]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_vggish_starts_from_the_classes_of_sound_too(folders, tmp_path):
    model = pretrained(
        tmp_path / "w",
        [folders / "a/synthetic-source"],
        "model.system=vggish",
        "model.audio=logmel",
        "model.frames=16",
    )
    assert model.preset.parts["audio_encoder"]["name"] == "vggish" and model.preset.input.frames == 16
    assert set(model.variables["params"]) == {"audio_encoder"}
