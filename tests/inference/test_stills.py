"""Photographs through `avsal predict` and `predict_image`: values, files, one program, reruns, errors."""

import json
import os
import re
import signal
import subprocess
import time

import jax
import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError, Waveform
from avsal_jax.cli.main import main
from avsal_jax.inference import still_results
from avsal_jax.inference.inputs import HEARS_SILENCE, list_inputs
from avsal_jax.inference.predict import predict_file
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.settings import Settings
from avsal_jax.inference.still_results import StillResults
from avsal_jax.inference.writers import overlay, report
from avsal_jax.media.photographs import PhotographSet
from avsal_jax.pictures import resize_map
from avsal_jax.testing import COMMAND
from avsal_jax.testing.models import hearing_probe, probe_model, tiny_stored
from avsal_jax.testing.videos import moving_spot, write_video
from tests.inference.folders import file_names
from tests.media.test_photographs import COLOURS, DISPLAY_P3, REFUSED, matrix_profile, write_refused

SIZES = [(72, 128), (128, 72), (50, 50), (1, 40), (200, 31)]


def spot(index, height=72, width=128):
    return moving_spot(8, height, width)[index % 8]


@pytest.fixture
def folder(tmp_path):
    """Four photographs of several sizes; two share a stem."""
    path = tmp_path / "in"
    path.mkdir()
    names = ("a.png", "a.jpg", "b.png", "c.png")
    for index, (name, size) in enumerate(zip(names, SIZES, strict=False)):
        Image.fromarray(spot(index, *size)).save(path / name, quality=95)
    return path


def predict(model, paths, output, **settings):
    news = []
    pictures = PhotographSet.of(sorted(paths))
    return predict_file(model, pictures, output, Settings(**settings), news.append), news


def test_a_photograph_is_a_video_of_one_frame(probe):
    for size in SIZES:
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        np.testing.assert_array_equal(probe.predict_image(image), probe.predict_frames(image[None], 25)[0])


@pytest.mark.parametrize("fields", [{}, {"label_frame": "middle"}, {"fit": "pad"}])
def test_the_network_sees_the_picture_in_every_frame(fields):
    model = probe_model(**fields)
    if fields:
        np.testing.assert_array_equal(
            model.predict_image(spot(3)), model.predict_frames(spot(3)[None], 25)[0]
        )
    saliency = model.predict_image(spot(3))
    assert saliency.dtype == np.float32 and saliency.shape == ((54, 96) if "fit" in fields else (64, 96))


def test_photographs_of_all_sizes_run_through_one_program(probe, tmp_path):
    probe.predict_image(spot(0))
    compiled = []
    events = lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(events)
    try:
        jax.jit(lambda x: x + 1)(np.float32(0))
        assert compiled  # which counts programs
        compiled.clear()
        paths = []
        for index in range(20):
            image = np.random.default_rng(index).integers(0, 256, (20 + index, 90 - 3 * index, 3), np.uint8)
            probe.predict_image(image)
            paths.append(tmp_path / f"{index}.png")
            Image.fromarray(image).save(paths[-1])
        predict(probe, paths, tmp_path / "out")
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(events)


def test_batches_give_what_single_pictures_give(tmp_path, folder):
    model = Model(tiny_stored())
    predict(model, folder.iterdir(), tmp_path / "out", save=("npz",), batch=3)
    with np.load(tmp_path / "out" / "maps.npz", allow_pickle=False) as archive:
        assert sorted(archive) == ["a.jpg", "a.png", "b", "c"]
        for name, file in {"a.jpg": "a.jpg", "a.png": "a.png", "b": "b.png", "c": "c.png"}.items():
            assert archive[name].dtype == np.float16
            # float16 in [0, 1] has steps of 2^-11; batches may sum in another order
            np.testing.assert_allclose(archive[name], model.predict_image(folder / file), atol=2e-3)


def test_a_network_that_takes_audio_is_given_silence(tmp_path):
    model = hearing_probe(Waveform(35_280))
    assert model.predict_image(spot(0)).mean() < 0.501
    Image.fromarray(spot(0)).save(tmp_path / "a.png")
    summary = predict_file(model, tmp_path / "a.png", tmp_path / "out", Settings())
    assert f"photographs have no sound: {HEARS_SILENCE}" in summary["notes"]


def test_arrays_that_are_no_pictures_are_refused(probe):
    for image in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8), [[1]]):
        with pytest.raises(AvsalError, match=r"a picture is RGB uint8 \[height, width, 3\] or the path"):
            probe.predict_image(image)


def test_files_are_converted_to_srgb_with_a_warning(probe, tmp_path):
    image = np.repeat(np.repeat(COLOURS, 20, 0), 10, 1)
    Image.fromarray(image).save(tmp_path / "a.png", icc_profile=matrix_profile(DISPLAY_P3, 2.2))
    with pytest.warns(UserWarning, match=r"a.png: its colours are Wide: converted to sRGB"):
        converted = probe.predict_image(tmp_path / "a.png")
    assert np.abs(converted - probe.predict_image(image)).max() > 0.01
    with pytest.warns(UserWarning, match="converted to sRGB"):
        video = probe.predict_video(tmp_path / "a.png")
    np.testing.assert_array_equal(video[0], converted)


def test_one_photograph(probe, tiny_dir, tmp_path, capsys):
    source, out = tmp_path / "photo.jpg", tmp_path / "out"
    Image.fromarray(spot(2)).save(source, quality=95)
    arguments = ["predict", str(source), "--model", str(tiny_dir), "--output", str(out)]
    assert main([*arguments, "--save", "maps,overlay,npz,report"]) == 0
    assert "1 map in" in capsys.readouterr().out
    assert file_names(out) == ["maps", "maps.npz", "overlay.jpg", "report.html", "summary.json"]
    assert file_names(out / "maps") == ["000001.png"]
    with Image.open(out / "overlay.jpg") as image:
        assert image.size == (128, 72)
    with np.load(out / "maps.npz", allow_pickle=False) as archive:
        assert archive["maps"].shape == (1, 64, 96)
    page = (out / "report.html").read_text()
    assert page.count("<img ") == 3 and "<svg" not in page and "overlay.mp4" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["frames"], summary["height"], summary["width"]) == (1, 72, 128)
    assert main([*arguments, "--save", "maps,overlay,npz,report"]) == 0
    assert "predicted already" in capsys.readouterr().err
    write_video(tmp_path / "clip.mp4", moving_spot(3))  # another input takes the folder over
    assert main(["predict", str(tmp_path / "clip.mp4"), *arguments[2:], "--save", "maps"]) == 0
    assert file_names(out) == ["maps", "summary.json"] and len(file_names(out / "maps")) == 3
    assert main([*arguments, "--save", "features"]) == 0
    assert file_names(out) == ["features", "features.html", "summary.json"]


def test_many_photographs_share_a_folder(probe, folder, tmp_path):
    out = tmp_path / "out"
    summary, news = predict(probe, folder.iterdir(), out, save=("maps", "overlay", "report"))
    assert file_names(out) == ["maps", "overlays", "report.html", "summary.json"]
    assert file_names(out / "maps") == ["a.jpg.png", "a.png.png", "b.png", "c.png"]
    assert file_names(out / "overlays") == ["a.jpg.jpg", "a.png.jpg", "b.jpg", "c.jpg"]
    assert summary == json.loads((out / "summary.json").read_text())
    assert [(e["source"], e["height"], e["width"]) for e in summary["pictures"]] == [
        ("a.jpg", 128, 72), ("a.png", 72, 128), ("b.png", 50, 50), ("c.png", 1, 40),
    ]  # fmt: skip
    for name, (height, width) in {"a.png": SIZES[0], "b": SIZES[2], "c": SIZES[3]}.items():
        file = "a.png" if name == "a.png" else f"{name}.png"
        scaled = resize_map(probe.predict_image(folder / file), height, width)
        expected = 255 * (scaled - scaled.min()) / (scaled.max() - scaled.min())
        with Image.open(out / "maps" / f"{name}.png") as image:
            assert np.abs(np.asarray(image) - expected).max() <= 0.501
    page = (out / "report.html").read_text()
    assert page.count("<img ") == 12 and all(name in page for name in ("a.jpg", "a.png", "b.png", "c.png"))
    assert not any(line.startswith("note") for line in news)


def test_photographs_that_were_compiled_before_report_no_compiling(folder, tmp_path):
    model = probe_model()
    (first, lines), (second, later) = (predict(model, folder.iterdir(), tmp_path / n) for n in "ab")
    assert first["compile_seconds"] > 0 and second["compile_seconds"] == 0
    assert "compiling the model for 64x96 ..." in lines
    assert not any("compiling" in line for line in later)


def test_overlays_that_jpeg_cannot_hold_are_png(probe, tmp_path, monkeypatch):
    monkeypatch.setattr(overlay, "_LARGEST_JPEG", 100)
    Image.fromarray(spot(2)).save(tmp_path / "a.png")
    out, settings = tmp_path / "out", Settings(save=("overlay",))
    predict_file(probe, tmp_path / "a.png", out, settings)
    assert file_names(out) == ["overlay.png", "summary.json"]
    assert "already_done" in predict_file(probe, tmp_path / "a.png", out, settings)
    predict(probe, [tmp_path / "a.png"], out, save=("overlay",))
    assert file_names(out) == ["overlays", "summary.json"] and file_names(out / "overlays") == ["a.png"]


def test_the_report_shows_the_first_and_says_of_how_many(probe, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_PHOTOGRAPHS", 2)
    predict(probe, folder.iterdir(), tmp_path / "out", save=("report",))
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img ") == 6 and "The first 2 of 4 photographs are shown." in page
    assert file_names(tmp_path / "out") == ["report.html", "summary.json"]


def test_a_bad_picture_is_listed_and_spares_the_others(folder, tiny_dir, tmp_path, capsys):
    bad = write_refused(folder, "truncated.jpg")
    out = tmp_path / "out"
    arguments = ["predict", "--stills", str(folder), "--model", str(tiny_dir), "--output", str(out)]
    assert main([*arguments, "--save", "maps,report,npz"]) == 1
    last = capsys.readouterr().err.rstrip().splitlines()[-2:]
    assert last[0] == "1 of 5 inputs failed:" and "truncated.jpg" in last[1] and "is truncated" in last[1]
    assert file_names(out / "maps") == ["a.jpg.png", "a.png.png", "b.png", "c.png"]
    assert "truncated.jpg" in (out / "report.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in (out / "maps").iterdir()}
    Image.fromarray(spot(5)).save(bad)  # repaired: the others are as they were
    assert main([*arguments, "--save", "maps,report,npz"]) == 0
    assert "4 of 5 photographs are predicted already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(file_names(out / "maps")) == 5 and (out / "report.html").read_text().count("<img ") == 15
    with np.load(out / "maps.npz", allow_pickle=False) as archive:
        assert len(archive.files) == 5
    bad.unlink()
    assert main([*arguments, "--save", "maps,report,npz"]) == 0
    assert len(file_names(out / "maps")) == 4  # a picture that is gone is gone
    assert main([*arguments, "--save", "maps,report,npz"]) == 0
    assert "4 photographs: predicted already" in capsys.readouterr().err


def test_an_interrupted_run_continues(probe, folder, tmp_path, monkeypatch):
    add, out, settings = StillResults.add, tmp_path / "out", {"save": ("maps", "overlay", "npz", "report")}

    def interrupted(self, *arguments):
        if len(self.entries) == 2:
            raise KeyboardInterrupt
        add(self, *arguments)

    monkeypatch.setattr(StillResults, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(probe, folder.iterdir(), out, **settings)
    monkeypatch.undo()
    assert [name.startswith(".avsal-stills-") for name in file_names(out)] == [True]
    (log,) = out.glob(f"*/{still_results.LOG}")
    log.write_text(log.read_text() + '{"name": "b", "fil')  # a line that was cut off
    summary, news = predict(probe, folder.iterdir(), out, **settings)
    assert "2 of 4 photographs are predicted already" in news
    assert file_names(out) == ["maps", "maps.npz", "overlays", "report.html", "summary.json"]
    assert len(summary["pictures"]) == len(file_names(out / "maps")) == 4
    assert (out / "report.html").read_text().count("<img ") == 12
    with np.load(out / "maps.npz", allow_pickle=False) as archive:
        for name, file in {"a.jpg": "a.jpg", "c": "c.png"}.items():
            np.testing.assert_allclose(archive[name], probe.predict_image(folder / file), atol=1e-3)


@pytest.mark.slow
def test_a_killed_run_continues(tmp_path, tiny_dir):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    image = Image.fromarray(spot(3, 900, 1600))
    for index in range(20):
        image.save(folder / f"{index}.png")
    command = [*COMMAND, "predict", "--stills", str(folder), "--model", str(tiny_dir), "--output", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob(".avsal-stills-*/overlays/*"))) < 5:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    finally:
        process.kill()
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(r"\d+ of 20 photographs are predicted already", result.stderr)
    assert file_names(out) == ["maps", "overlays", "report.html", "summary.json"]
    assert len(file_names(out / "maps")) == len(file_names(out / "overlays")) == 20


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_picture_that_cannot_be_read_is_one_line(tmp_path, tiny_dir, probe, capsys, name):
    path, out = write_refused(tmp_path, name), tmp_path / "out"
    assert main(["predict", str(path), "--model", str(tiny_dir), "--output", str(out)]) == 2
    error = capsys.readouterr().err
    assert REFUSED[name][1] in error and str(path) in error and error.count("\n") == 1
    assert not out.exists()
    with pytest.raises(AvsalError, match=re.escape(name)):
        probe.predict_image(path)


FLAGS = {
    "--fps 30": "--fps is for videos",
    "--frame-step 2": "--frame-step is for videos",
    "--stream 0": "--stream is for videos",
    "--audio {clip}": "--audio FILE is for videos",
    "--save features": "--save features shows one photograph at a time",
}


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_of_videos_are_refused(folder, tmp_path, tiny_dir, capsys, flags):
    clip = write_video(tmp_path / "clip.mp4", moving_spot(2), sound=np.zeros(22_050))
    values = flags.format(clip=clip).split()
    for inputs in (["--stills", str(folder)], [str(folder / "b.png")]):
        if flags == "--save features" and len(inputs) == 1:
            continue
        arguments = ["predict", *inputs, "--model", str(tiny_dir), "--output", str(tmp_path / "out"), *values]
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert FLAGS[flags] in error and error.count("\n") == 1


def test_which_inputs_are_photographs(folder, tmp_path):
    clip, out, notes = write_video(tmp_path / "clip.mp4", moving_spot(2)), tmp_path / "out", []
    a, b = folder / "a.png", folder / "b.png"
    missing = folder / "missing.jpg"
    pair, all_four = PhotographSet.of([a, b]), PhotographSet.of([folder / n for n in file_names(folder)])
    assert list_inputs([a], out) == {a: out}
    assert list_inputs([a, b], out) == {pair: out}
    assert list_inputs([a, clip, b], out) == {clip: out / "clip", pair: out / "stills"}
    assert list_inputs([a, clip], out) == {a: out / "a", clip: out / "clip"}
    assert list_inputs([a, missing], out) == {PhotographSet.of([a, missing]): out}
    assert list_inputs([folder, clip], out) == {folder: out / "in", clip: out / "clip"}  # one video each
    assert list_inputs([folder], out, stills=True) == {all_four: out}
    assert list_inputs([a], out, stills=True) == {PhotographSet.of([a]): out}
    (folder / "notes.txt").write_text("words")
    (folder / "inner").mkdir()
    assert list_inputs([folder], out, notes.append, stills=True) == {all_four: out}
    assert notes == [f"{folder}: skipped inner, notes.txt"]
    with pytest.raises(AvsalError, match="clip.mp4 is a video, and --stills is for pictures"):
        list_inputs([folder, clip], out, stills=True)
    with pytest.raises(AvsalError, match="holds no pictures: .*skipped inner"):
        (folder / "inner" / "inner").mkdir()
        list_inputs([folder / "inner"], out, stills=True)


def test_animations_are_videos_unless_stills_are_asked_for(tmp_path, probe):
    first, *rest = [Image.fromarray(image) for image in moving_spot(3)]
    path = tmp_path / "a.webp"
    first.save(path, save_all=True, append_images=rest, duration=40, lossless=True)
    assert list_inputs([path], tmp_path / "out") == {path: tmp_path / "out"}
    assert predict_file(probe, path, tmp_path / "video", Settings(save=("maps",)))["maps"] == 3
    summary, news = predict(probe, [path], tmp_path / "out", save=("maps",))
    assert summary["maps"] == 1 and summary["notes"] == [f"{path}: it holds 3 frames: the first is read"]
    assert f"note: {summary['notes'][0]}" in news
    with pytest.warns(UserWarning, match="3 frames: the first is read"):
        np.testing.assert_array_equal(probe.predict_image(path), probe.predict_image(moving_spot(3)[0]))


def test_folders_that_look_like_photographs_suggest_the_flag(folder, tmp_path, tiny_dir, capsys):
    def run():
        code = main(["predict", str(folder), "--model", str(tiny_dir), "--output", str(tmp_path / "out")])
        return code, capsys.readouterr().err.strip()

    code, error = run()
    assert code == 2 and error.endswith("remove or rename one; for photographs, add --stills")
    (folder / "a.jpg").unlink()
    code, error = run()
    assert code == 2 and error.endswith("one video has one size; for photographs, add --stills")
    for path in folder.iterdir():
        Image.fromarray(spot(1)).save(path)
    code, error = run()
    assert code == 0 and "the names hold no numbers; the images are the frames of one video" in error


@pytest.mark.parametrize("damage", ["{}", "[]", '{"job": 3}', "pictures", "files"])
def test_a_damaged_summary_is_no_reason_to_fail(probe, folder, tmp_path, damage):
    out = tmp_path / "out"
    summary, _ = predict(probe, folder.iterdir(), out, save=("maps",))
    if damage in ("pictures", "files"):
        summary["pictures"] = [{"name": 3}] if damage == "pictures" else [
            {**entry, "files": ["../in/a.png"]} for entry in summary["pictures"]
        ]  # fmt: skip
        (out / "summary.json").write_text(json.dumps(summary))
        assert predict(probe, folder.iterdir(), out, save=("maps",))[0]["maps"] == 4
        return
    (out / "summary.json").write_text(damage)
    with pytest.raises(AvsalError, match="was not written by avsal"):
        predict(probe, folder.iterdir(), out, save=("maps",))


def test_a_run_in_which_all_fail_keeps_earlier_results(probe, folder, tmp_path):
    out = tmp_path / "out"
    predict(probe, folder.iterdir(), out, save=("maps",))
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    for path in folder.iterdir():
        os.truncate(path, 60)
    with pytest.raises(AvsalError, match="none of 4 photographs could be predicted; the first: .*a.jpg"):
        predict(probe, folder.iterdir(), out, save=("maps",))
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before


def test_compiling_is_not_part_of_the_seconds_of_photographs(tmp_path):
    """Programs of S3D are compiled when they are used first: tracing alone takes longer than a tiny map."""
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / "a.png")
    model = Model(tiny_stored(frames=8, visual_encoder="s3d"))
    summary = predict_file(model, tmp_path / "a.png", tmp_path / "out", Settings(save=("npz",)))
    assert summary["compile_seconds"] > summary["seconds"]
