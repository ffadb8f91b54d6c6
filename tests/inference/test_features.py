"""`avsal predict --save features`: which clips, which features, and what the files hold."""

import argparse
import json
import re
import shlex

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsal_jax import Waveform
from avsal_jax.cli import predict
from avsal_jax.cli.main import main
from avsal_jax.errors import AvsalError
from avsal_jax.inference import features
from avsal_jax.inference.feature_engine import FeatureEngine, _thinned
from avsal_jax.inference.feature_views import VIEWS
from avsal_jax.inference.features import FeatureSettings
from avsal_jax.inference.inputs import Sounds
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.writers.features import FeaturePages
from avsal_jax.media.video import Video
from avsal_jax.models.fusion.casp_net import CASPNetFusion
from avsal_jax.models.fusion.ravf import RAVF
from avsal_jax.models.network import Network, init_variables
from avsal_jax.models.regulators.gates import RegulatorGates
from avsal_jax.models.systems import Preset
from avsal_jax.ops.predictive_coding import Coding
from avsal_jax.storage import StoredModel
from avsal_jax.testing.models import fusing_probe
from avsal_jax.testing.videos import moving_spot, write_video
from avsal_jax.types import Clip
from tests.inference.folders import file_names


def coding_fusion(iterations):
    return CASPNetFusion(interaction="none", coding=Coding(layers=1, iterations=iterations))


@pytest.fixture(scope="module")
def coding():
    return fusing_probe(coding_fusion(2), Waveform(8_000))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """20 frames; the sound grows louder."""
    wave = np.linspace(0, 0.9, 18_000) * np.sin(np.arange(18_000) / 5)
    path = tmp_path_factory.mktemp("videos") / "loud.mp4"
    return write_video(path, moving_spot(20, 36, 70), sound=wave.astype(np.float32))


@pytest.fixture(scope="module")
def prediction(coding, video, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "out"
    settings = FeatureSettings(frames=2, compare_audio="off")
    return out, predict_file(coding, video, out, Settings(save=("maps", "features"), features=settings))


def arrays(path):
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_files_are_those_of_the_chosen_frames(prediction):
    out, summary = prediction
    assert file_names(out) == ["features", "features.html", "maps", "summary.json"]
    names = ["000006", "000006-compared.npz", "000006.npz", "000016", "000016-compared.npz", "000016.npz"]
    assert file_names(out / "features") == names
    pictures = ["coding_activity.png", "fused.png", "iterations.png", "saliency-compared.png", "saliency.png"]
    assert file_names(out / "features" / "000016") == [*pictures, "taps.png"]
    assert summary["maps"] == summary["frames"] == 20
    recorded = [
        "iterations",
        "coding_error",
        "coding_square",
        "coding_norm",
        "coding_activity",
        "fused",
        "taps",
    ]
    assert summary["features"] == {"names": recorded, "frames": [6, 16], "sounds": ["own sound", "silence"]}
    page = (out / "features.html").read_text()
    for text in ("Frame 16, 0.60 s", "Frame 6: coding_error", "e_1, silence", "Between the two sounds"):
        assert text in page
    assert page.count("data:image/jpeg") == 2 * (3 + 4)


def test_arrays_are_of_the_window_and_the_sound_that_make_the_map(coding, video, prediction):
    with_sound, silent = coding.predict_video(video), coding.predict_video(video, audio="off")
    assert np.abs(with_sound - silent).max() > 1e-3  # so that a wrong sound would show
    for number in (6, 16):
        first = arrays(prediction[0] / "features" / f"{number:06d}.npz")
        second = arrays(prediction[0] / "features" / f"{number:06d}-compared.npz")
        np.testing.assert_allclose(first["saliency"], with_sound[number - 1], atol=1e-6)
        np.testing.assert_allclose(second["saliency"], silent[number - 1], atol=1e-6)
        assert first["coding_error"].shape == (3, 2) and first["coding_activity"].shape == (3, 4, 4, 8, 1)
        assert first["taps_1"].shape == (8, 8, 16) and first["taps_4"].shape == (4, 4, 8)
        assert {array.dtype for array in first.values()} == {np.dtype(np.float32)}


def test_maps_after_each_iteration_equal_those_of_a_network_with_that_many_iterations(prediction):
    stored = arrays(prediction[0] / "features" / "000016.npz")
    np.testing.assert_allclose(stored["iterations"][2], stored["saliency"], atol=1e-6)
    gated = gated_probe()
    clip = np.random.default_rng(0).integers(0, 256, (8, 32, 64, 3), np.uint8)
    sound = np.random.default_rng(1).standard_normal(1_000).astype(np.float32)
    maps = gated.feature_engine(["iterations"])(clip, sound)["iterations"]
    for count in range(3):
        network = gated.network.clone(fusion=coding_fusion(count))
        outputs = jax.jit(network.run)(gated.variables, Clip(clip[None], sound[None]))
        expected = jax.nn.sigmoid(outputs.logits["saliency"])
        np.testing.assert_allclose(maps[count], expected[0], atol=1e-6)
    assert np.abs(np.diff(maps, axis=0)).max((1, 2)).min() > 1e-4  # each iteration changes the map
    longer = gated.feature_engine(["iterations"], iterations=4)
    assert longer.counts == (0, 1, 2, 3, 4)
    np.testing.assert_allclose(longer(clip, sound)["iterations"][:3], maps, atol=1e-6)
    deaf = gated.network.clone(audio_encoder=None)
    engine = FeatureEngine(deaf, gated.variables, gated)
    assert "iterations" not in engine.names
    with pytest.raises(AvsalError, match="--iterations is about the feature iterations"):
        FeatureEngine(deaf, gated.variables, gated, iterations=4)


def gated_probe():
    """Returns a probe with two iterations of predictive coding and then four gates."""
    probe = fusing_probe(coding_fusion(2), Waveform(1_000))
    network = probe.network.clone(regulator=RegulatorGates(gates=4))
    preset = Preset("gated probe", {}, probe.spec)
    return Model(StoredModel(preset, network, init_variables(network, 0), {"system": "gated probe"}))


def test_retention_for_two_sounds_is_shown_side_by_side(video, tmp_path):
    """Figure 6 of AVRSP's paper: the clip's own sound, and that of a file."""
    other = tmp_path / "other.wav"
    soundfile.write(other, 0.5 * np.sin(np.arange(22_050) * 1.3), 22_050)
    model = fusing_probe(RAVF(blocks=2, heads=2, width=1 / 64), Waveform(8_000), channels=3)
    settings = FeatureSettings(("retention_audio", "retention_visual"), 1, compare_audio=str(other))
    out = tmp_path / "out"
    summary = predict_file(model, video, out, Settings(save=("features",), features=settings))["features"]
    assert summary["sounds"] == ["own sound", "sound of other.wav"] and summary["frames"] == [11]
    sounds = {"000011.npz": "auto", "000011-compared.npz": str(other)}
    files = {name: arrays(out / "features" / name) for name in sounds}
    for name, sound in sounds.items():
        expected = model.predict_video(video, audio=sound)[10]
        np.testing.assert_allclose(files[name]["saliency"], expected, atol=1e-6)
        assert files[name]["retention_audio"].shape == (2, 2, 4, 4, 8, 1)
    first, second = (file["retention_audio"] for file in files.values())
    change = 100 * np.linalg.norm(second - first) / np.linalg.norm(first)
    assert (
        change > 1
        and np.abs(files["000011.npz"]["saliency"] - files["000011-compared.npz"]["saliency"]).max() > 0.01
    )
    page = (out / "features.html").read_text()
    assert f"Between the two sounds it changes by {change:.3g} % of its norm" in page
    with Image.open(out / "features/000011/retention_audio.png") as picture:
        pixels = np.asarray(picture)
    alone = FeatureSettings(settings.names, 1)
    predict_file(model, video, tmp_path / "alone", Settings(save=("features",), features=alone))
    with Image.open(tmp_path / "alone/features/000011/retention_audio.png") as picture:
        assert picture.width * picture.height < 0.75 * pixels.shape[0] * pixels.shape[1]  # half of the rows


def test_many_iterations_are_thinned():
    assert _thinned(3) == (0, 1, 2, 3) and _thinned(0) == (0,)
    assert _thinned(100) == (0, 14, 29, 43, 57, 71, 86, 100)


def test_a_rerun_does_nothing_and_another_choice_replaces_all(coding, video, tmp_path):
    choice = FeatureSettings(("fused", "audio"), (0.41, 99.0))
    settings, news = Settings(save=("features",), frame_step=2, features=choice), []
    summary = predict_file(coding, video, tmp_path, settings, news.append)
    assert "note: the video ends at 0.72 s; its last frame is used for 99 s" in news
    assert summary["features"]["frames"] == [11, 19] and summary["frames"] == 20  # of every second frame
    assert (summary["maps"], summary["height"], summary["width"]) == (0, 36, 70)
    assert set(arrays(tmp_path / "features" / "000011.npz")) == {"saliency", "fused", "audio"}
    # Audio features have no picture.
    assert file_names(tmp_path / "features" / "000011") == ["fused.png", "saliency.png"]
    assert "already_done" in predict_file(coding, video, tmp_path, settings)
    other = Settings(save=("features",), features=FeatureSettings(("taps",), 1))
    assert "already_done" not in predict_file(coding, video, tmp_path, other)
    assert file_names(tmp_path / "features") == ["000011", "000011.npz"]
    assert file_names(tmp_path / "features" / "000011") == ["saliency.png", "taps.png"]
    predict_file(coding, video, tmp_path, Settings(save=("npz",)))
    assert file_names(tmp_path) == ["maps.npz", "summary.json"]


def test_an_interrupted_run_leaves_nothing(coding, video, tmp_path, monkeypatch):
    def fail(*args, **arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(FeaturePages, "add", fail)
    with pytest.raises(KeyboardInterrupt):
        predict_file(coding, video, tmp_path / "out", Settings(save=("features",)))
    assert not (tmp_path / "out").exists()


def test_the_command(tiny_dir, tmp_path, capsys):
    source = write_video(tmp_path / "a.mp4", moving_spot(9))
    out = tmp_path / "out"
    flags = ["--save", "features", "--feature-frames", "0.1s,0.2s", "--features", "taps"]
    assert main(["predict", str(source), "--model", str(tiny_dir), "--output", str(out), *flags]) == 0
    assert f"features of 2 frames in {out / 'features.html'}" in capsys.readouterr().out
    settings = json.loads((out / "summary.json").read_text())["settings"]["features"]
    expected = {"names": ["taps"], "frames": [0.1, 0.2], "compare_audio": None, "iterations": None}
    assert settings == expected
    with Image.open(out / "features" / "000006" / "taps.png") as picture:
        assert picture.mode == "RGB"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--features", "taps"], "add features to --save"),
        (
            ["--save", "features", "--features", "tap"],
            "unknown feature 'tap' (did you mean 'taps'?); this network records taps",
        ),
        (
            ["--save", "features", "--compare-audio", "off"],
            "this model is visual-only: --compare-audio has no effect",
        ),
    ],
)
def test_mistakes_are_one_line(flags, message, tiny_dir, tmp_path, capsys):
    source = write_video(tmp_path / "a.mp4", moving_spot(9))
    command = ["predict", str(source), "--model", str(tiny_dir), "--output", str(tmp_path / "out"), *flags]
    assert main(command) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("avsal: ")]
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["0", "65", "1.5", "1s,2", "-1s", "s", "nans"])
def test_times_and_numbers_of_frames_are_checked(value, capsys):
    with pytest.raises(SystemExit):
        main(["predict", "a.mp4", "--output", "out", "--save", "features", f"--feature-frames={value}"])
    assert f"{value!r} is neither a number from 1 to 64 nor times as 1.5s,4s" in capsys.readouterr().err


def test_a_part_has_no_pictures():
    with pytest.raises(AvsalError, match="a part without the head 'saliency' predicts no maps"):
        FeatureEngine(Network(), {}, None)


def test_a_video_that_shrinks_while_it_is_read_is_an_error(coding, video):
    source, settings = Video(video), Settings(save=("features",))
    recorder = features.FeatureRecorder(
        coding, source, settings=settings, outputs=[], sounds=Sounds(), say=print, times=[0.0] * 20
    )
    recorder.add(0, frame=next(iter(source)), time=0.0, fitted=None, spec=coding.spec)
    with pytest.raises(AvsalError, match="fewer frames than the 20 it had a moment ago"):
        recorder.finish(print)


def test_the_page_names_every_feature_and_its_commands_are_known(tests_dir):
    text = (tests_dir.parent / "docs/features.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(VIEWS)
    parser = argparse.ArgumentParser()
    predict.add_parser(parser.add_subparsers())
    lines = re.findall(r"^avsal (predict .*)", text, re.MULTILINE)
    parsed = [parser.parse_args(shlex.split(line)) for line in lines]
    assert len(parsed) == 3
    assert parsed[1].feature_frames == (1.5, 4.0) and parsed[2].compare_audio == "other.wav"
    assert set(parsed[1].features) | set(parsed[2].features) <= set(VIEWS)
