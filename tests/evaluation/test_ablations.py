"""`avsal evaluate` with another sound or number of iterations than the model's own: the network gets it."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from avsal_jax import AvsalError, Waveform
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.evaluation import evaluate as evaluation
from avsal_jax.evaluation.map_sources import ModelMaps
from avsal_jax.evaluation.sound_assignment import SoundAssignment, swapped_sounds
from avsal_jax.inference.predictor import Model
from avsal_jax.models.fusion.casp_net import CASPNetFusion
from avsal_jax.models.systems import Preset
from avsal_jax.ops.predictive_coding import Coding
from avsal_jax.storage import StoredModel
from avsal_jax.testing import fake_data
from avsal_jax.testing.models import fusing_probe, hearing_probe, order_probe
from tests.evaluation.sets import request
from tests.inference.test_sound import Unchanged
from tests.tools import load_tool

LEVELS = {"quiet": 0.02, "middle": 0.04, "loud": 0.07}  # amplitude of each video's tone
AUDIO = Waveform(35_280, window="none")


def tone(level, seconds=1.0):
    return (level * np.sin(0.3 * np.arange(int(seconds * fake_data.SAMPLE_RATE)))).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    videos = [
        dataclasses.replace(fake_data.fake_video(name, 14, (36, 52), seed=i), sound=tone(level))
        for i, (name, level) in enumerate(LEVELS.items())
    ]
    return fake_data.write_stavis(tmp_path_factory.mktemp("data"), "DIEM", videos, {"test": tuple(LEVELS)})


@pytest.fixture(scope="module")
def entries(root):
    return open_dataset("diem", root)


@pytest.fixture(scope="module")
def probe():
    return hearing_probe(AUDIO, 8, 32, 64)


def heard_levels(probe, entries, sound):
    """The amplitude that the network heard in the middle of each video, by its map's one value."""
    levels = {}
    for entry in entries:
        saliency = list(ModelMaps(probe, "probe", sound=sound).maps(entry, Unchanged))[10]
        value = np.float64(saliency[0, 0])
        levels[entry.name] = 4 * np.log(value / (1 - value)) / 256 * np.sqrt(2)  # logit: rms in +-256, over 4
    return levels


def test_the_network_hears_what_was_asked_for(probe, entries, tmp_path):
    file = tmp_path / "other.wav"
    soundfile.write(file, tone(0.05), fake_data.SAMPLE_RATE)
    levels = heard_levels(probe, entries, SoundAssignment.of("auto", entries, 0))
    fill = levels["quiet"] / LEVELS["quiet"]  # the sound of 8 frames fills a part of the buffer
    assert levels == pytest.approx({name: fill * level for name, level in LEVELS.items()}, rel=0.01)
    assert 0.3 < fill < 1
    silent = heard_levels(probe, entries, SoundAssignment.of("off", entries, 0))
    assert silent == dict.fromkeys(LEVELS, 0.0)
    of_file = heard_levels(probe, entries, SoundAssignment.of(str(file), entries, 0))
    assert of_file == pytest.approx(dict.fromkeys(LEVELS, fill * 0.05), rel=0.01)
    partners = {name: LEVELS[other.name] for (_, name), other in swapped_sounds(entries, 3).items()}
    swapped = heard_levels(probe, entries, SoundAssignment.of("swap", entries, 3))
    assert swapped == pytest.approx({name: fill * level for name, level in partners.items()}, rel=0.01)


def test_swapped_sounds_are_those_of_other_videos_each_once(entries):
    partners = [swapped_sounds(entries, seed) for seed in range(8)]
    for sounds in partners:
        assert sorted(other.name for other in sounds.values()) == sorted(LEVELS)
        assert all(name != other.name for (_, name), other in sounds.items())
    assert swapped_sounds([*entries[::-1], entries[0]], 3) == partners[3]  # neither order nor folds matter
    assert len({tuple(sorted((n, o.name) for n, o in sounds.items())) for sounds in partners}) == 2
    with pytest.raises(AvsalError, match="--audio swap needs two videos with sound; this set has 1"):
        swapped_sounds(entries[:1], 0)


def test_results_of_another_sound_are_not_mixed_with_these(root, probe, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "load_model", lambda *args, **options: probe)

    def run(**options):
        settings = request(root, model="probe", protocol="vinet", metrics=("kl",), **options)
        summary = evaluation.evaluate(settings, tmp_path)
        part = json.loads((tmp_path / "parts" / "loud.json").read_text())
        return summary, part["job"]["source"], (tmp_path / "table.md").read_text()

    (summary, source, _), (off, off_source, table) = run(), run(audio="off")
    assert off_source == f"{source}, silence"
    assert "audio" not in summary and off["audio"] == "off" and "Evaluated with --audio off." in table
    swap, swap_source, table = run(audio="swap")
    assert swap["audio"] == "swap" and ".wav: " in swap_source and "Evaluated with --audio swap." in table
    assert run()[:2] == (summary, source)


def test_the_config_of_a_network_is_stated(root, probe, tmp_path, monkeypatch):
    monkeypatch.setitem(probe.card, "provenance", {"config": "vinet_dhf1k:table2_t16"})
    monkeypatch.setattr(evaluation, "load_model", lambda *args, **options: probe)
    summary = evaluation.evaluate(request(root, model="probe", metrics=("kl",)), tmp_path)
    assert summary["config"] == "vinet_dhf1k:table2_t16"
    assert "Trained by the config vinet_dhf1k:table2_t16." in (tmp_path / "table.md").read_text()


def coding_probe(iterations):
    fusion = CASPNetFusion(interaction="none", coding=Coding(layers=1, iterations=iterations))
    return fusing_probe(fusion, AUDIO)


def test_another_number_of_iterations_reaches_the_network(entries):
    """The maps are those of a network that was built with this number; 0 iterations leave the picture."""
    three = coding_probe(3)

    def changed(count):
        return Model(stored_of(three), coding_iterations=count)

    def last_map(model):
        return list(ModelMaps(model, "probe").maps(entries[2], Unchanged))[-1]

    maps = {count: last_map(changed(count)) for count in (0, 1, 3)}
    for count, saliency in maps.items():
        np.testing.assert_array_equal(saliency, last_map(coding_probe(count)), err_msg=str(count))
    assert np.abs(maps[0] - maps[1]).max() > 1e-4 < np.abs(maps[1] - maps[3]).max()
    assert len({changed(count).identity for count in (None, 0, 1)}) == 3


def stored_of(model):
    preset = Preset(model.system, {}, model.spec)
    return StoredModel(preset, network=model.network, variables=model.variables, card=model.card)


def test_the_tool_draws_metrics_over_iterations(root, tmp_path, monkeypatch):
    tool, calls = load_tool("coding_iterations"), []

    def evaluated(request, output, say):
        calls.append((request.coding_iterations, output.name))
        return {"metrics": {name: {"mean": 0.5 + request.coding_iterations / 10} for name in request.metrics}}

    monkeypatch.setitem(tool.main.__globals__, "evaluate", evaluated)
    command = ["--model", "m", "--dataset", "diem", "--root", str(root), "--output", str(tmp_path)]
    monkeypatch.setattr(
        "sys.argv", ["coding_iterations", *command, "--iterations", "3,0", "--metrics", "cc,nss"]
    )
    tool.main()
    assert calls == [(0, "n0"), (3, "n3")]
    rows = [
        "| iterations | cc | nss |",
        "|---|---|---|",
        "| 0 | 0.5000 | 0.5000 |",
        "| 3 | 0.8000 | 0.8000 |",
    ]
    assert (tmp_path / "iterations.md").read_text().splitlines() == rows
    with Image.open(tmp_path / "iterations.png") as picture:
        assert picture.size[0] > 500 and len(set(picture.convert("L").tobytes())) > 2


def test_what_has_no_effect_is_refused(root, probe, predictions, tmp_path, monkeypatch):
    for options in ({"model": "centre"}, {"predictions": predictions}):
        for name, value in (("audio", "off"), ("coding_iterations", 2)):
            flag = f"--{name.replace('_', '-')}"
            with pytest.raises(AvsalError, match=f"^{flag} applies only to a network: remove it"):
                evaluation.evaluate(request(root, **options, **{name: value}), tmp_path)
    monkeypatch.setattr(evaluation, "load_model", lambda *args, **options: order_probe())
    with pytest.raises(AvsalError, match="^deaf takes no audio: --audio off has no effect"):
        evaluation.evaluate(request(root, model="deaf", audio="off"), tmp_path)
    monkeypatch.setattr(evaluation, "load_model", lambda *args, **options: probe)
    with pytest.raises(AvsalError, match="missing.wav"):
        evaluation.evaluate(request(root, model="probe", audio=str(tmp_path / "missing.wav")), tmp_path)
    with pytest.raises(
        AvsalError, match="^this network has no predictive coding: leave --coding-iterations out"
    ):
        Model(stored_of(probe), coding_iterations=2)
    with pytest.raises(
        AvsalError, match="^--coding-iterations must be a whole number from 0 to 100; got 101"
    ):
        Model(stored_of(coding_probe(1)), coding_iterations=101)
