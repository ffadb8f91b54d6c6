"""`avsal predict` on real files: its results, and one clear line for every bad input."""

import json
import os
import signal
import subprocess
import time

import av
import numpy as np
import pytest
from PIL import Image

from avsal_jax.cli.main import main
from avsal_jax.inference import predict
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.media.fitting import resize_frame
from avsal_jax.media.video import Video
from avsal_jax.pictures import resize_map
from avsal_jax.testing import COMMAND
from avsal_jax.testing.models import probe_model
from avsal_jax.testing.videos import moving_spot, spot_centre, write_audio_only, write_video


def read_maps(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "maps").iterdir())])


@pytest.mark.slow
def test_a_real_clip_with_sound(tiny_dir, clip_path, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["predict", str(clip_path), "--model", str(tiny_dir), "--output", str(out)]) == 0
    news = capsys.readouterr()
    assert "132 maps in" in news.out and "compiling" in news.err and "map/s" in news.err
    assert sorted(p.name for p in out.iterdir()) == ["maps", "overlay.mp4", "report.html", "summary.json"]
    names = sorted(p.name for p in (out / "maps").iterdir())
    assert names == [f"{i:06d}.png" for i in range(1, 133)]
    maps = read_maps(out)
    assert maps.shape == (132, 720, 1280) and maps.dtype == np.uint8
    assert (maps.min((1, 2)) == 0).all() and (maps.max((1, 2)) == 255).all()
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["frames"], summary["rate"], summary["width"]) == (132, 25.0, 1280)
    assert summary["compile_seconds"] > 0 and summary["seconds"] > 0
    with av.open(str(out / "overlay.mp4")) as overlay, av.open(str(clip_path)) as source:
        assert overlay.streams.video[0].average_rate == source.streams.video[0].average_rate
        source_packets, overlay_packets = (
            [(p.pts * p.time_base, bytes(p)) for p in c.demux(audio=0) if p.pts is not None]
            for c in (source, overlay)
        )
        assert overlay_packets == source_packets  # the sound is the original, packet by packet, at its times
    with av.open(str(out / "overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == 132


def test_the_maps_are_those_of_the_model(tmp_path):
    model = probe_model()
    source = write_video(tmp_path / "spot.mp4", moving_spot(20, 72, 130))
    summary = predict_file(model, source, tmp_path / "out")
    maps = read_maps(tmp_path / "out")
    assert summary["frames"] == len(maps) == 20 and maps.shape[1:] == (72, 130)
    for index, grey in enumerate(maps):
        row, column = np.unravel_index(grey.argmax(), grey.shape)
        y, x = spot_centre(index, 20, 72, 130)
        assert abs(row - y) < 5 and abs(column - x) < 5
    exact = model.predict_video(source)
    scaled = resize_map(exact[7], 72, 130)
    expected = 255 * (scaled - scaled.min()) / (scaled.max() - scaled.min())
    assert np.abs(maps[7] - expected).max() <= 0.501
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
        frames = [f.to_ndarray(format="rgb24") for f in overlay.decode(video=0)]
    assert len(frames) == 20
    y, x = (round(v) for v in spot_centre(10, 20, 72, 130))
    red, _, blue = frames[10][y, x].astype(int)
    assert red > blue + 50  # the spot is hot


def test_a_model_that_was_compiled_before_reports_no_compiling(tmp_path):
    model, lines = probe_model(), []
    for name in ("first", "second"):
        source = write_video(tmp_path / f"{name}.mp4", moving_spot(9, 72, 130))
        summary = predict_file(model, source, tmp_path / name, Settings(save=("maps",)), say=lines.append)
        assert (summary["compile_seconds"] > 0) == (name == "first")
        assert lines.count("compiling the model ...") == 1


def test_odd_sizes_and_one_frame(tmp_path):
    source = write_video(tmp_path / "odd.mkv", moving_spot(1, 51, 67), codec="ffv1")
    summary = predict_file(probe_model(), source, tmp_path / "out")
    assert (summary["frames"], summary["height"], summary["width"]) == (1, 51, 67)
    assert read_maps(tmp_path / "out").shape == (1, 51, 67)


def test_frames_reach_the_network_as_pillow_resizes_them(clip_path):
    image = next(iter(Video(clip_path))).image
    assert image.shape == (720, 1280, 3)
    expected = Image.fromarray(image).resize((384, 224), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize_frame(image, 224, 384), np.asarray(expected))


def make_bad(tmp_path, clip_path, case):
    path = tmp_path / f"{case}.mp4"
    if case == "not a video":
        path.write_text("just text, and a good deal of it\n" * 100)
    elif case == "empty":
        path.touch()
    elif case == "truncated":
        path.write_bytes(clip_path.read_bytes()[:500_000])
    elif case == "audio only":
        write_audio_only(path)
    elif case == "an empty folder":
        path.mkdir()
    return path


BAD = {
    "not a video": "is not a video that can be read",
    "empty": "is empty",
    "truncated": "or is cut off",
    "audio only": "has no video stream",
    "missing": "there is no file",
    "an empty folder": "is empty",
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, clip_path, tiny_dir, capsys, case):
    path = make_bad(tmp_path, clip_path, case)
    out = tmp_path / "out"
    assert main(["predict", str(path), "--model", str(tiny_dir), "--output", str(out)]) == 2
    error = capsys.readouterr().err
    assert BAD[case] in error and str(path) in error and error.count("\n") == 1
    assert not out.exists()


def test_a_failure_in_the_middle_leaves_nothing_half_written(tmp_path, monkeypatch):
    source = write_video(tmp_path / "whole.mp4", moving_spot(30))

    class BreaksOff(Video):
        def __iter__(self):
            for frame in super().__iter__():
                if frame.index == 25:
                    assert list(out.glob(".avsal-partial-*/maps/*.png"))  # some maps are there already
                    raise OSError(28, "No space left on device")
                yield frame

    monkeypatch.setattr(predict, "open_source", lambda path, *options: BreaksOff(path))
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="cannot write to .*: No space left on device"):
        predict.predict_file(probe_model(), source, out)
    assert not out.exists()


@pytest.mark.parametrize("place", ["under a file", "a file"])
def test_unwritable_output(tmp_path, tiny_dir, clip_path, capsys, place):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "out" if place == "under a file" else tmp_path / "file"
    assert main(["predict", str(clip_path), "--model", str(tiny_dir), "--output", str(out)]) == 2
    error = capsys.readouterr().err
    assert "cannot write to" in error and "Traceback" not in error
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unknown_model_is_an_error_before_any_work(tmp_path, clip_path, capsys):
    out = tmp_path / "out"
    assert main(["predict", str(clip_path), "--model", str(tmp_path / "no"), "--output", str(out)]) == 2
    assert "there is no model directory" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_interrupted_by_ctrl_c_it_leaves_nothing_half_written(tmp_path, tiny_dir, clip_path):
    out = tmp_path / "out"
    command = [*COMMAND, "predict", str(clip_path)]
    process = subprocess.Popen(
        [*command, "--model", str(tiny_dir), "--output", str(out)], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob(".avsal-partial-*/maps/0000*.png")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "no partial output is left" in error and "Traceback" not in error
    assert not out.exists()


def test_a_rerun_replaces_the_results_and_clears_what_a_kill_left(tmp_path):
    out = tmp_path / "out"
    source = write_video(tmp_path / "a.mp4", moving_spot(12))
    predict_file(probe_model(), source, out, Settings(save=("maps",)))
    (out / ".avsal-partial-dead").mkdir()
    os.utime(out / ".avsal-partial-dead", (0, 0))
    (out / "mine.txt").write_text("keep")
    shorter = write_video(tmp_path / "b.mp4", moving_spot(9))
    predict_file(probe_model(), shorter, out, Settings(save=("maps",)))
    assert sorted(os.listdir(out)) == ["maps", "mine.txt", "summary.json"]
    assert len(os.listdir(out / "maps")) == 9
