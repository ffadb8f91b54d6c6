"""How often a file is opened and its sound is decoded, and that features ride on the pass of the maps."""

import collections
import dataclasses
import pathlib
import types

import av
import numpy as np
import pytest
from PIL import Image

from avsal_jax import Waveform
from avsal_jax.evaluation.map_sources import ModelMaps
from avsal_jax.inference.features import FeatureSettings
from avsal_jax.inference.predict import check_source, predict_file
from avsal_jax.inference.settings import Settings
from avsal_jax.inference.stream import Images, stream
from avsal_jax.media.audio import read_sound
from avsal_jax.media.sound_frames import SoundFrames
from avsal_jax.media.video import Video
from avsal_jax.models.fusion.ravf import RAVF
from avsal_jax.testing.models import fusing_probe, hearing_probe, probe_model
from avsal_jax.testing.videos import moving_spot, write_video

WAVE = (np.linspace(0, 0.9, 18_000) * np.sin(np.arange(18_000) / 5)).astype(np.float32)


@pytest.fixture(scope="module")
def hearing():
    return hearing_probe(Waveform(8_000))


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "loud.mp4", moving_spot(20, 36, 70), sound=WAVE)


@pytest.fixture
def counts(monkeypatch):
    """Files that are opened to be read, and iterations over decoded sound, by the file's name."""
    opened, decoded = collections.Counter(), collections.Counter()
    open_file, iterate = av.open, SoundFrames.__iter__

    def counting_open(file, *arguments, **options):
        if isinstance(file, str) and "w" not in arguments:
            opened[pathlib.Path(file).name] += 1
        return open_file(file, *arguments, **options)

    def counting_iterate(frames):
        decoded[frames._path.name] += 1
        return iterate(frames)

    monkeypatch.setattr(av, "open", counting_open)
    monkeypatch.setattr(SoundFrames, "__iter__", counting_iterate)
    return opened, decoded


@pytest.mark.parametrize("save", [None, ("maps", "npz", "overlay", "report")])
def test_predict_opens_a_file_three_times_and_decodes_its_sound_once(hearing, video, tmp_path, counts, save):
    options = {} if save is None else {"save": save}
    settings = Settings(**options)
    source = check_source(video, settings)  # as the command does
    summary = predict_file(hearing, source, tmp_path / "out", settings, is_checked=True)
    assert summary["maps"] == 20
    assert counts == ({"loud.mp4": 3}, {"loud.mp4": 1})


def test_features_open_no_file_more(tmp_path, video, counts):
    model = fusing_probe(RAVF(heads=2), Waveform(8_000))
    settings = Settings(save=("maps", "overlay", "report", "features"), features=FeatureSettings(frames=2))
    summary = predict_file(model, video, tmp_path / "out", settings)
    assert summary["features"]["frames"] == [6, 16]
    assert counts == ({"loud.mp4": 3}, {"loud.mp4": 1})


def test_sound_of_another_file_is_decoded_once(hearing, video, tmp_path, counts):
    write_video(tmp_path / "other.mp4", moving_spot(9, 36, 70), sound=WAVE)
    predict_file(hearing, video, tmp_path / "out", Settings(audio=str(tmp_path / "other.mp4")))
    opened, decoded = counts
    assert opened["loud.mp4"] == 1 and opened["other.mp4"] == 3  # checked, decoded, copied
    assert decoded["other.mp4"] == 1


def test_python_opens_a_file_for_its_pictures_and_for_its_sound(hearing, video, counts):
    assert len(hearing.predict_video(video)) == 20
    assert counts == ({"loud.mp4": 2}, {"loud.mp4": 1})


def test_folders_of_images_are_not_opened_as_videos(tmp_path, counts):
    (tmp_path / "in").mkdir()
    for index, image in enumerate(moving_spot(9, 36, 70)):
        Image.fromarray(image).save(tmp_path / "in" / f"{index}.png")
    predict_file(probe_model(), tmp_path / "in", tmp_path / "out")
    assert counts == ({}, {})


def test_the_first_iteration_goes_on_with_the_file_that_is_open(video, counts):
    source = Video(video)
    first_pass, second_pass = ([(frame.pts, frame.image) for frame in source] for _ in range(2))
    assert counts[0] == {"loud.mp4": 2}
    for (pts, image), (pts_again, image_again) in zip(first_pass, second_pass, strict=True):
        assert pts == pts_again
        np.testing.assert_array_equal(image, image_again)


@pytest.mark.parametrize("count", [None, 3, 19, 21, 40])
def test_features_are_of_the_true_frames_where_the_container_states_others(video, tmp_path, count):
    model = fusing_probe(RAVF(heads=2), Waveform(8_000))
    settings = Settings(save=("npz", "features"), features=FeatureSettings(frames=3, compare_audio="off"))
    expected = predict_file(model, video, tmp_path / "right", settings)
    source = Video(video)
    source.info = dataclasses.replace(source.info, frames=count)
    summary = predict_file(model, source, tmp_path / "wrong", settings)
    assert summary["features"] == expected["features"]
    for path in (tmp_path / "right" / "features").glob("*.npz"):
        with np.load(path) as reference, np.load(tmp_path / "wrong" / "features" / path.name) as other:
            for name in reference.files:
                np.testing.assert_array_equal(reference[name], other[name])
    names = [sorted(p.name for p in (tmp_path / run / "features").iterdir()) for run in ("right", "wrong")]
    assert names[0] == names[1]


def test_a_stream_of_arrays_yields_frames_in_between_without_maps():
    frames = list(stream(probe_model(), Images(moving_spot(9, 36, 70), 25), step=4, has_images=True))
    assert [frame.index for frame in frames if frame.saliency is not None] == [0, 4, 8]
    assert [frame.time for frame in frames] == [index / 25 for index in range(9)]
    assert all(frame.image.shape == (36, 70, 3) and frame.size == (36, 70) for frame in frames)


def test_evaluation_decodes_the_sound_of_a_video_once(hearing, video, counts):
    entry = types.SimpleNamespace(
        name="loud", sound=video, fps=25.0, is_still=False, iter_frames=lambda: iter(moving_spot(9, 36, 70))
    )
    protocol = types.SimpleNamespace(grid=None, store=lambda saliency, entry: saliency)
    maps = list(ModelMaps(hearing, "probe").maps(entry, protocol))
    assert counts == ({"loud.mp4": 1}, {"loud.mp4": 1})
    wave = read_sound(video)
    np.testing.assert_array_equal(
        np.stack(maps),
        hearing.predict_frames(np.stack(list(moving_spot(9, 36, 70))), 25, wave.wave, wave.rate),
    )
