"""What users name as inputs: folders of both kinds, addresses, one of several streams; and jobs that fail."""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.cli.running import predict_all
from avsal_jax.inference import predict
from avsal_jax.inference.inputs import list_inputs, open_source
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.media.image_videos import ImageFile, ImageFolder
from avsal_jax.media.video import Video
from avsal_jax.testing.videos import moving_spot, write_video
from tests.inference.folders import file_names
from tests.media.test_streams import write_two


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", moving_spot(4))


def write_folder(folder, names, clip):
    """Videos are copies of `clip`, images are black, others are junk; names without suffix are folders."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".mp4", ".mkv"):
            path.write_bytes(clip.read_bytes())
        elif path.suffix in (".jpg", ".png"):
            Image.new("RGB", (32, 24)).save(path)
        elif path.suffix:
            path.write_bytes(b"junk")
        else:
            path.mkdir()
    return folder


FOLDERS = {  # names in the folder -> the inputs; `.` is the folder as one video
    "images": (["1.png", "2.png", "Thumbs.db", "notes.txt"], ["."]),
    "videos with posters": (["a.mp4", "b.mkv", "poster.jpg", "Thumbs.db", "a.srt"], ["a.mp4", "b.mkv"]),
    "a film with its art": (["film.mp4", "poster.jpg", "fanart.jpg", "film-thumb.jpg"], ["film.mp4"]),
    "videos with numbered posters": (["s1.mp4", "s2.mp4", "s1.jpg", "s2.jpg"], ["s1.mp4", "s2.mp4"]),
    "no known suffix": (["a.one", "b.two"], ["a.one", "b.two"]),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_which_folders_are_one_video(tmp_path, clip, case):
    names, expected = FOLDERS[case]
    folder, notes = write_folder(tmp_path / "in", names, clip), []
    inputs = list_inputs([folder], tmp_path / "out", notes.append)
    assert list(inputs) == [folder / name for name in expected]
    skipped = set(names) - set(expected) if expected[0].endswith(".mp4") else set()
    assert bool(notes) == bool(skipped) and all(name in notes[0] for name in skipped)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["1.png", "2.png", "3.png", "source.mp4"],
            "holds 3 images next to 1 videos, such as source.mp4: name",
        ),
        (["first", "second"], r"holds no file, only folders \(first, second\): give these as inputs"),
    ],
)
def test_folders_that_may_be_either_are_asked_about(tmp_path, clip, names, words):
    with pytest.raises(AvsalError, match=words):
        list_inputs([write_folder(tmp_path / "in", names, clip)], tmp_path / "out")


ADDRESSES = {
    "https://host/clip.mp4": "https://host/clip.mp4 is an address, and files are read: download it first",
    "rtsp://camera:554/live": "rtsp://camera:554/live is an address",
    "s3://bucket/clip.mp4": "s3://bucket/clip.mp4 is an address",
    "file:///videos/no/clip.mp4": "give only the path, /videos/no/clip.mp4",
    "-": "standard input is not read: write the video to a file",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_with_advice(tmp_path, capsys, address):
    assert main(["predict", address, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert ADDRESSES[address] in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(AvsalError, match="is an address|standard input"):
        open_source(address)


def test_a_file_whose_name_looks_like_an_address_is_read(tmp_path, clip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    for name in ("-", "http:/clip.mp4"):
        pathlib.Path(name).write_bytes(clip.read_bytes())
        assert len(list(open_source(name))) == 4


def test_the_opener_knows_videos_pictures_and_folders(tmp_path, clip):
    folder = write_folder(tmp_path / "in", ["1.png", "2.png"], clip)
    kinds = [type(open_source(path)) for path in (clip, folder / "1.png", folder)]
    assert kinds == [Video, ImageFile, ImageFolder]
    for path in (folder, folder / "1.png"):
        with pytest.raises(AvsalError, match="no streams to choose from; --stream is for video files"):
            open_source(path, stream=0)


def test_another_stream_is_another_job(tmp_path, probe):
    source, out, messages = write_two(tmp_path / "two.mkv"), tmp_path / "out", []
    settings = Settings(save=("npz", "overlay"))
    first = predict_file(probe, source, out, settings, messages.append)
    assert (first["maps"], first["width"]) == (6, 128)
    assert any("2 video streams" in line for line in messages) and "2 video streams" in first["notes"][0]
    assert "already_done" in predict_file(probe, source, out, settings)
    other = predict_file(probe, source, out, Settings(save=("npz", "overlay"), video_stream=0))
    assert (other["maps"], other["width"], "already_done" in other) == (4, 64, False)
    assert next(iter(Video(out / "overlay.mp4"))).image.shape == (48, 64, 3)
    assert len(probe.predict_video(source, stream=0)) == 4


def test_the_flag_lists_the_streams_that_there_are(tmp_path, capsys):
    path = write_two(tmp_path / "two.mkv")
    assert main(["predict", str(path), "--stream", "7", "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--stream takes one of 0 (h264 64x48), 1 (h264 128x72)" in error and error.count("\n") == 1


def test_overlays_of_animated_pictures_have_their_times(tmp_path, probe):
    first, *rest = [Image.fromarray(image) for image in moving_spot(5)]
    source, times = tmp_path / "a.webp", [0, 0.04, 0.24, 0.28, 0.38]
    first.save(source, save_all=True, append_images=rest, duration=[40, 200, 40, 100, 40], lossless=True)
    summary = predict_file(probe, source, tmp_path / "out", Settings(save=("overlay", "maps")))
    assert summary["maps"] == 5
    overlay = Video(tmp_path / "out" / "overlay.mp4")
    overlay_times = [float(frame.pts * overlay.info.time_base) for frame in overlay]
    np.testing.assert_allclose(overlay_times, times, atol=0.001)


FAILURES = {
    "a fault": (RuntimeError("odd\nthing"), "unexpected error: RuntimeError: odd thing ("),
    "memory": (MemoryError(), "there is not enough memory"),
    "a decoder": (ValueError("bad block"), "unexpected error: ValueError: bad block ("),
    "the system": (OSError(5, "Input/output error"), "Input/output error"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_whatever_happens_to_one_input_spares_the_others(tmp_path, probe, clip, capsys, monkeypatch, case):
    error, words = FAILURES[case]

    class Fails(Video):
        def __iter__(self):
            for frame in super().__iter__():
                if self.path.name == "b.mp4" and frame.index == 2:
                    raise error
                yield frame

    monkeypatch.setattr(predict, "open_source", lambda path, *options: Fails(path))
    write_folder(tmp_path / "in", ["a.mp4", "b.mp4", "c.mp4"], clip)
    inputs = list_inputs([tmp_path / "in"], tmp_path / "out")
    assert predict_all(probe, inputs, Settings(save=("maps",))) == 1
    last = capsys.readouterr().err.rstrip().splitlines()[-2:]
    assert last[0] == "1 of 3 inputs failed:" and "b.mp4" in last[1] and words in last[1]
    assert file_names(tmp_path / "out") == ["a", "c"]
    alone = {tmp_path / "in" / "b.mp4": tmp_path / "alone"}
    with pytest.raises((AvsalError, type(error))):
        predict_all(probe, alone, Settings(save=("maps",)))
    assert not (tmp_path / "alone").exists()


@pytest.mark.parametrize("stage", ["while predicting", "while moving"])
def test_a_rerun_that_fails_keeps_what_was_whole(tmp_path, probe, clip, monkeypatch, stage):
    out, settings = tmp_path / "out", Settings(save=("maps", "npz"))
    predict_file(probe, clip, out, settings)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    if stage == "while predicting":

        class Fails(Video):
            def __iter__(self):
                yield next(super().__iter__())
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(predict, "open_source", lambda path, *options: Fails(path))
    else:
        replace = os.replace

        def fails(source, target):
            last = target == out / "summary.json"
            if last and json.loads(source.read_text())["settings"]["frame_step"] == 2:
                raise OSError(28, "No space left on device")
            replace(source, target)

        monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(AvsalError, match="Input/output error|No space left"):
        predict_file(probe, clip, out, Settings(save=("maps", "npz"), frame_step=2))
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before
    monkeypatch.undo()
    assert "already_done" in predict_file(probe, clip, out, settings)
