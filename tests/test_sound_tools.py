"""The reports on sound and on domains, and SoundNet's start: they run, and print what they measured."""

import pathlib
import re
import runpy
import sys

import numpy as np
import pytest

from avsal_jax.data.clip_sound import Sound
from avsal_jax.data.prepare import prepare_generated
from avsal_jax.errors import AvsalError
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import read_model, write_model

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
        form = rf"the domains by `{feature}` \| ([\d.]+) % .*; ([\d.]+) % of what it was trained on"
        ((held, trained),) = re.findall(form, table)
        assert float(trained) > 90 and float(held) < float(trained)
        # the looks of other videos too; what a random network hears tells the timbres of its own ones alone
        assert feature == "audio" or float(held) > 60
        assert re.findall(form, twice) == [("50.0", "50.0")]  # a set cannot be told from itself


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "names, videos, trained_on",
    [("a", 6, "the 4 classes of sound of 42 training videos of a synthetic set"),
     ("ab", 12, "the 8 classes of sound of 84 training videos of 2 synthetic sets")],
)  # fmt: skip
def test_soundnet_starts_from_the_classes_of_sound(tool, folders, tmp_path, names, videos, trained_on):
    roots = [folders / name / "synthetic-source" for name in names]
    options = ["--width", 1 / 16, "--samples", 4574, "--steps", 2]
    text = tool("pretrain_sound", "--root", *roots, "--output", tmp_path / "s", *options)
    assert "step 2/2  loss" in text and f"of the clips of {videos} validation videos told right" in text
    found = read_model(tmp_path / "s")
    assert found.preset.kind == "part" and set(found.variables["params"]) == {"audio_encoder"}
    assert found.card["provenance"]["trained on"] == trained_on


def test_classes_of_several_sets_are_told_apart(tests_dir, folders):
    """No class of one set is one of another: nothing says which timbres of the domains belong together."""
    sounds = runpy.run_path(str(tests_dir.parent / "tools/pretrain_sound.py"))["Sounds"]
    spec = resolve("soundnet", {"audio.samples": 4574, "frames": 8}).input
    kinds = {}
    for names in ("a", "b", "ab"):
        roots = [folders / name / "synthetic-source" for name in names]
        found = sounds(roots, "train", spec)
        kinds[names] = [found.clip(video, 0.0)[1] for video in range(len(found))]
    assert set(kinds["a"]) == set(kinds["b"]) == {0, 1, 2, 3}
    assert kinds["ab"] == kinds["a"] + [4 + kind for kind in kinds["b"]]


def test_transposed_sounds_have_their_frequencies_times_the_factor(tests_dir):
    transposed = runpy.run_path(str(tests_dir.parent / "tools/pretrain_sound.py"))["transposed"]
    tone = Sound(np.sin(2 * np.pi * 500 * np.arange(44_100) / 22_050).astype(np.float32), 22_050)
    for factor in (0.5, 1.0, 2.0):
        heard = transposed(tone, factor)
        assert heard.rate == 22_050 and len(heard.wave) == pytest.approx(44_100 / factor, rel=0.005)
        spectrum = np.abs(np.fft.rfft(heard.wave))
        peak = np.fft.rfftfreq(len(heard.wave), 1 / heard.rate)[spectrum.argmax()]
        assert peak == pytest.approx(500 * factor, rel=0.005)


def test_each_video_is_heard_at_several_pitches(tests_dir, folders):
    """Eight of each; the shorter ones have fewer frames, and all clips are as long as they were."""
    names = runpy.run_path(str(tests_dir.parent / "tools/pretrain_sound.py"))
    spec = resolve("soundnet", {"audio.samples": 4574, "frames": 8}).input
    root = folders / "a/synthetic-source"
    own, pitched = names["Sounds"]([root], "val", spec), names["Sounds"]([root], "val", spec, 1.0)
    assert len(pitched) == 8 * len(own) and pitched.names == own.names
    for video in range(len(own)):
        clips = [pitched.clip(8 * video + k, 0.5) for k in range(8)]
        assert {kind for _, kind in clips} == {own.clip(video, 0.5)[1]}
        assert len({wave.tobytes() for wave, _ in clips}) > 4  # pitches are rounded
        assert {wave.shape for wave, _ in clips} == {(4574,)}


def test_a_pitch_beyond_hearing_is_refused(tool, folders, tmp_path):
    options = ["--output", tmp_path / "s", "--pitch", 9]
    with pytest.raises(AvsalError, match=r"--pitch must be a number of octaves in \[0, 3\]; got 9"):
        tool("pretrain_sound", "--root", folders / "a/synthetic-source", *options)


@pytest.mark.slow
def test_vggish_starts_from_the_classes_of_sound_too(tool, folders, tmp_path):
    options = ["--encoder", "vggish", "--width", 1 / 16, "--frames", 16, "--steps", 2]
    text = tool(
        "pretrain_sound", "--root", folders / "a/synthetic-source", "--output", tmp_path / "v", *options
    )
    assert "step 2/2  loss" in text
    found = read_model(tmp_path / "v")
    assert found.preset.parts["audio_encoder"]["name"] == "vggish" and found.preset.input.frames == 16
    assert set(found.variables["params"]) == {"audio_encoder"}
