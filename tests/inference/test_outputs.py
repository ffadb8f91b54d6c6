"""What `avsal predict` leaves behind: npz, report, post-processing, several inputs, resuming, failures."""

import html
import json
import os
import re
import shutil
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from avsal_jax import AudioSpec
from avsal_jax.cli.main import main
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.inference.predictor import load_model
from avsal_jax.inference.sources import list_inputs, rate_warning
from avsal_jax.pictures import resize_map, to_grey
from avsal_jax.storage import write_model
from avsal_jax.testing.models import hearing_probe, probe_model, tiny_stored
from avsal_jax.testing.videos import moving_spot, write_audio_only, write_video


@pytest.fixture(scope="module")
def probe():
    return probe_model()


@pytest.fixture(scope="module")
def hearing():
    return hearing_probe(AudioSpec("waveform", 35_280))


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_npz_holds_the_maps_at_model_size(tmp_path, probe):
    source = write_video(tmp_path / "a.mp4", moving_spot(30))
    predict_file(probe, source, tmp_path / "out", Settings(save=("npz",)))
    assert listed(tmp_path / "out") == ["maps.npz", "summary.json"]
    with np.load(tmp_path / "out" / "maps.npz", allow_pickle=False) as archive:
        maps = archive["maps"]
    assert maps.dtype == np.float16
    np.testing.assert_allclose(maps, probe.predict_video(source), atol=1e-3)


def test_postprocessing_is_that_of_the_public_code(tmp_path, probe):
    """Resize, 11x11 Gaussian of sigma 2, stretch with 1e-5, half a level up; the blur here by direct sums."""
    source = write_video(tmp_path / "a.mp4", moving_spot(9))
    settings = Settings(save=("maps",), postprocess="vinet")
    predict_file(probe, source, tmp_path / "out", settings)
    got = np.asarray(Image.open(tmp_path / "out" / "maps" / "000004.png")).astype(float)
    big = resize_map(probe.predict_video(source)[3], 72, 128).astype(np.float64)
    weights = np.exp(-((np.arange(11) - 5) ** 2) / 8)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(big, 5, mode="reflect")
    blurred = sum(weights[i, j] * padded[i : i + 72, j : j + 128] for i in range(11) for j in range(11))
    expected = (blurred - blurred.min()) / (blurred.max() - blurred.min() + 1e-5) * 255 + 0.5
    assert np.abs(got - np.clip(np.round(expected), 0, 255)).max() <= 1
    assert np.abs(got - to_grey(resize_map(big, 72, 128))).max() > 1  # it differs from none


def test_frame_step_takes_every_kth_frame_and_holds_the_overlay(tmp_path, probe):
    frames = moving_spot(31)
    source = write_video(tmp_path / "fast.mp4", frames, rate=60)
    summary = predict_file(
        probe, source, tmp_path / "out", Settings(save=("maps", "overlay", "npz"), frame_step=4)
    )
    assert (summary["frames"], summary["maps"]) == (31, 8)
    assert listed(tmp_path / "out" / "maps") == [f"{i:06d}.png" for i in range(1, 32, 4)]
    thinned = write_video(tmp_path / "thin.mp4", frames[::4], rate=15)
    maps = np.load(tmp_path / "out" / "maps.npz")["maps"]
    np.testing.assert_allclose(maps, probe.predict_video(thinned), atol=0.02)
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as made:
        assert sum(1 for _ in made.decode(video=0)) == 31


def test_a_rate_far_from_training_warns_and_names_the_step():
    assert rate_warning(25, 1) is None and rate_warning(60, 2) is None
    assert "--frame-step 2 would show it 30" in rate_warning(60, 1)
    assert "10 frames a second" in rate_warning(10, 1) and "--frame-step" not in rate_warning(10, 1)


def test_several_inputs_one_of_them_bad(tmp_path, tiny_dir, capsys):
    for name in ("b.mp4", "a.mp4"):
        write_video(tmp_path / name, moving_spot(5))
    (tmp_path / "bad.mp4").write_text("no video at all")
    images = tmp_path / "images"
    images.mkdir()
    for index, image in enumerate(moving_spot(4)):
        Image.fromarray(image).save(images / f"{index}.jpg")
    out = tmp_path / "out"
    inputs = [str(tmp_path / name) for name in ("b.mp4", "bad.mp4", "images", "a.mp4")]
    arguments = ["predict", *inputs, "--model", str(tiny_dir), "--output", str(out), "--save", "maps"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "1 of 4 inputs failed:" in error and error.rstrip().endswith(
        "Invalid data found when processing input"
    )
    assert listed(out) == ["a", "b", "images"]
    assert len(listed(out / "images" / "maps")) == 4
    # A rerun does only what is missing.
    (tmp_path / "bad.mp4").unlink()
    write_video(tmp_path / "bad.mp4", moving_spot(3))
    before = (out / "a" / "summary.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert capsys.readouterr().err.count("is done already") == 3
    assert listed(out) == ["a", "b", "bad", "images"]
    assert (out / "a" / "summary.json").stat().st_mtime_ns == before


def test_results_of_other_settings_or_sources_are_made_anew(tmp_path, tiny_dir):
    model = load_model(tiny_dir)
    source, out = write_video(tmp_path / "a.mp4", moving_spot(5)), tmp_path / "out"

    def run(settings):
        return "resumed" in predict_file(model, source, out, settings)

    maps = Settings(save=("maps",))
    assert [run(maps), run(maps), run(Settings(save=("maps", "npz"))), run(maps)] == [
        False,
        True,
        False,
        False,
    ]
    shutil.rmtree(out / "maps")
    assert run(maps) is False  # a result that is gone
    write_video(source, moving_spot(6))
    assert run(maps) is False
    assert len(listed(out / "maps")) == 6


def test_what_avsal_did_not_write_is_left_alone(tmp_path, tiny_dir, capsys):
    source, out = write_video(tmp_path / "a.mp4", moving_spot(3)), tmp_path / "out"
    (out / "maps").mkdir(parents=True)
    (out / "maps" / "precious.png").write_text("truth")
    arguments = ["predict", str(source), "--model", str(tiny_dir), "--output"]
    assert main([*arguments, str(out)]) == 2
    error = capsys.readouterr().err
    assert "maps was not written by avsal; choose another output" in error and error.count("\n") == 1
    assert listed(out) == ["maps"] and listed(out / "maps") == ["precious.png"]
    assert main([*arguments, str(tiny_dir)]) == 2
    assert "is a model directory; choose another output" in capsys.readouterr().err
    assert listed(tiny_dir) == ["model.json", "weights.safetensors"]


def test_no_input_writes_outside_the_output(tmp_path, tiny_dir, monkeypatch):
    source = write_video(tmp_path / "clip.mp4", moving_spot(3))
    images = tmp_path / "images"
    (images / "inner").mkdir(parents=True)
    Image.fromarray(moving_spot(1)[0]).save(images / "1.png")
    monkeypatch.chdir(images / "inner")
    inputs = list_inputs([source, ".."], tmp_path / "out")
    assert list(inputs.values()) == [tmp_path / "out" / "clip", tmp_path / "out" / "images"]


def test_a_folder_holds_one_prediction(tmp_path, probe, tiny_dir):
    model, out = load_model(tiny_dir), tmp_path / "out"
    first = write_video(tmp_path / "a.mp4", moving_spot(4))
    second = write_video(tmp_path / "b.mp4", moving_spot(6))
    predict_file(model, first, out, Settings(save=("maps", "overlay", "report", "npz")))
    (out / "mine.txt").write_text("keep")
    predict_file(model, second, out, Settings(save=("npz",)))
    assert listed(out) == ["maps.npz", "mine.txt", "summary.json"]
    assert len(np.load(out / "maps.npz")["maps"]) == 6


def test_a_model_with_the_same_weights_and_another_input_is_another(tmp_path):
    source, shapes = write_video(tmp_path / "a.mp4", moving_spot(3)), []
    for height, width in ((64, 96), (96, 160)):
        stored = tiny_stored(height=height, width=width)
        path = write_model(tmp_path / f"m{height}", stored.preset, stored.variables)
        predict_file(load_model(path), source, tmp_path / "out", Settings(save=("npz",)))
        shapes.append(np.load(tmp_path / "out" / "maps.npz")["maps"].shape)
    assert shapes == [(3, 64, 96), (3, 96, 160)]


def test_edited_images_are_predicted_anew(tmp_path, tiny_dir):
    model, folder, out = load_model(tiny_dir), tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for index, image in enumerate(moving_spot(3)):
        Image.fromarray(image).save(folder / f"{index}.png")
    settings = Settings(save=("npz",))
    assert "resumed" not in predict_file(model, folder, out, settings)
    assert "resumed" in predict_file(model, folder, out, settings)
    Image.fromarray(255 - moving_spot(3)[1]).save(folder / "1.png")
    assert "resumed" not in predict_file(model, folder, out, settings)


def test_damaged_sound_does_not_lose_the_prediction(tmp_path, probe):
    t = np.arange(22_050 * 4)
    wave = 0.3 * np.sin(t * 0.05) + 0.1 * np.random.default_rng(0).standard_normal(len(t))
    source = write_video(tmp_path / "a.ts", moving_spot(100), sound=np.clip(wave, -1, 1))
    content = bytearray(source.read_bytes())
    rng = np.random.default_rng(1)
    for start in range(len(content) // 3, 2 * len(content) // 3, 188):  # payloads, not packet headers
        content[start - start % 188 + 40 : start - start % 188 + 180] = rng.bytes(140)
    source.write_bytes(content)
    said = []
    summary = predict_file(probe, source, tmp_path / "out", Settings(save=("overlay", "npz")), said.append)
    assert summary["maps"] > 20 and summary["damaged"] + summary["damaged_sound"] > 0
    assert any("damaged" in line for line in said)


def test_folders_stand_for_the_videos_in_them(tmp_path):
    folder = tmp_path / "videos"
    (folder / "inner").mkdir(parents=True)
    for name in ("one.mp4", "two.mkv", ".hidden"):
        (folder / name).touch()
    other = tmp_path / "one.avi"
    out = tmp_path / "out"
    inputs = list_inputs([folder, other], out)
    assert list(inputs.values()) == [out / "one", out / "two", out / "one-2"]
    assert list_inputs([other], out) == {other: out}


@pytest.mark.parametrize("case", ["inside", "same", "empty", "fps"])
def test_folders_that_cannot_be_used_are_one_line(tmp_path, tiny_dir, capsys, case):
    folder = tmp_path / "in"
    folder.mkdir()
    if case != "empty":
        write_video(folder / "a.mp4", moving_spot(3))
    out = {"inside": folder / "out", "same": folder}.get(case, tmp_path / "out")
    extra = ["--fps", "30"] if case == "fps" else []
    assert main(["predict", str(folder), "--model", str(tiny_dir), "--output", str(out), *extra]) == 2
    error = capsys.readouterr().err
    told = {"inside": "lies inside the input folder", "same": "lies inside", "empty": "is empty"}
    assert told.get(case, "--fps is for folders of images") in error and error.count("\n") == 1
    assert listed(folder) == ([] if case == "empty" else ["a.mp4"])


def test_a_folder_that_goes_bad_in_the_middle_is_one_line(tmp_path, tiny_dir, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for index, image in enumerate(moving_spot(30)):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    Image.fromarray(moving_spot(1, 60, 60)[0]).save(folder / "025.png")
    out = tmp_path / "out"
    assert main(["predict", str(folder), "--model", str(tiny_dir), "--output", str(out)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "025.png is 60x60, but the images before it are 128x72" in error
    assert not out.exists()


def test_damage_is_told_and_the_rest_is_predicted(tmp_path, probe):
    frames = np.random.default_rng(0).integers(0, 256, (40, 72, 128, 3), np.uint8)
    path = write_video(tmp_path / "noise.mkv", frames, options={"g": "5", "crf": "10"})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 9_000] = bytes(9_000)
    path.write_bytes(content)
    said = []
    summary = predict_file(probe, path, tmp_path / "out", Settings(save=("maps",)), said.append)
    assert summary["damaged"] > 0 and 20 <= summary["maps"] <= 40
    assert any(f"{summary['damaged']} damaged packets or frames; the rest was used" in line for line in said)


class TestSound:
    """`--audio`, with a network whose map says how loud its sound is."""

    @pytest.fixture
    def source(self, tmp_path):
        """Four seconds; the sound begins after two."""
        t = np.arange(4 * 22_050)
        wave = np.where(t >= 2 * 22_050, 0.5 * np.sin(t * 0.3), 0)
        return write_video(tmp_path / "beep.mp4", moving_spot(100), sound=wave)

    def loudness(self, model, source, **settings):
        return np.array([m.mean() for _, m in model.iter_video(source, **settings)])

    def test_each_map_hears_its_own_clip(self, hearing, source):
        loud = self.loudness(hearing, source)
        assert len(loud) == 100
        silent, sounding = loud[8:46], loud[62:]
        assert silent.max() < 0.501 and sounding.min() > 0.55
        first = np.flatnonzero(loud > 0.502)[0]
        assert 46 <= first <= 52  # the clip that ends at second 2 is the first to hear it

    def test_off_is_silence_and_a_file_replaces(self, hearing, source, tmp_path):
        assert self.loudness(hearing, source, audio="off").max() < 0.501
        other = write_audio_only(tmp_path / "tone.m4a", 4.0)
        assert self.loudness(hearing, source, audio=str(other))[10:80].min() > 0.55

    def test_frames_and_waves_in_memory(self, hearing):
        wave = 0.5 * np.sin(np.arange(44_100) * 0.2)
        frames = moving_spot(40)
        loud = hearing.predict_frames(frames, fps=25, audio=wave, rate=22_050).mean((1, 2))
        assert loud.min() > 0.55
        assert hearing.predict_frames(frames, fps=25).mean() < 0.501
        with pytest.raises(ValueError, match="mono waveform"):
            hearing.predict_frames(frames, fps=25, audio=np.zeros((2, 100)), rate=22_050)

    def test_what_is_said(self, hearing, probe, source, tmp_path):
        said = []
        settings = Settings(save=("npz",))
        predict_file(probe, source, tmp_path / "a", settings, said.append)
        assert "this model works on picture alone: it does not use the sound" in said
        mute = write_video(tmp_path / "mute.mp4", moving_spot(3))
        said.clear()
        predict_file(hearing, mute, tmp_path / "b", settings, said.append)
        assert "the model hears silence" in said
        said.clear()
        predict_file(probe, mute, tmp_path / "c", settings, said.append)
        assert not any("sound" in line for line in said)

    def test_a_file_without_sound_is_one_line(self, source, tiny_dir, tmp_path, capsys):
        mute = write_video(tmp_path / "mute.mp4", moving_spot(3))
        arguments = ["predict", str(source), "--model", str(tiny_dir), "--output", str(tmp_path / "out")]
        assert main([*arguments, "--audio", str(mute)]) == 2
        error = capsys.readouterr().err
        assert "mute.mp4 has no sound; --audio takes auto, off, or a file" in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists()
        assert main([*arguments, "--audio", str(tmp_path / "none.wav")]) == 2
        assert "there is no file" in capsys.readouterr().err

    def test_the_overlay_carries_the_file(self, probe, source, tmp_path):
        other = write_audio_only(tmp_path / "tone.m4a", 2.0)
        settings = Settings(save=("overlay",), audio=str(other))
        predict_file(probe, source, tmp_path / "out", settings)
        with av.open(str(tmp_path / "out" / "overlay.mp4")) as made:
            assert abs(float(made.streams.audio[0].duration * made.streams.audio[0].time_base) - 2) < 0.1


def run_limited(arguments, limit):
    """Runs avsal in a process that may write no file larger than `limit` bytes: the disk that fills up."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "from avsal_jax.cli.main import main\n"
        f"sys.exit(main({arguments!r}))\n"
    )
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )


@pytest.mark.parametrize("kind", ["npz", "overlay", "maps"])
def test_a_full_disk_is_one_line_and_loses_nothing_finished(tmp_path, tiny_dir, kind):
    frames = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), np.uint8)
    small = write_video(tmp_path / "small.mp4", moving_spot(2))
    large = write_video(tmp_path / "large.mp4", frames)
    limit = {"npz": 100_000, "overlay": 200_000, "maps": 10_000}[kind]
    arguments = ["predict", str(small), str(large), "--model", str(tiny_dir)]
    done = run_limited([*arguments, "--output", str(tmp_path / "out"), "--save", kind], limit)
    assert done.returncode == 1, done.stderr
    assert "cannot write to" in done.stderr and "Traceback" not in done.stderr
    assert listed(tmp_path / "out") == ["small"]
    assert "summary.json" in listed(tmp_path / "out" / "small")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_is_really_full(tmp_path, tiny_dir):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this root may not mount")
    try:
        frames = np.random.default_rng(0).integers(0, 256, (60, 240, 320, 3), np.uint8)
        source = write_video(tmp_path / "large.mp4", frames)
        command = [
            sys.executable,
            "-m",
            "avsal_jax.cli.main",
            "predict",
            str(source),
            "--model",
            str(tiny_dir),
        ]
        done = subprocess.run(
            [*command, "--output", str(disk / "out")],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
        assert listed(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_compile_cache_is_the_users_alone(tmp_path, tiny_dir):
    source = write_video(tmp_path / "a.mp4", moving_spot(3))
    command = [sys.executable, "-m", "avsal_jax.cli.main", "predict", str(source), "--model", str(tiny_dir)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    folder = tmp_path / "cache" / "avsal_jax" / "compiled"

    def run(out):
        done = subprocess.run(
            [*command, "--save", "npz", "--output", str(tmp_path / out)],
            capture_output=True, text=True, timeout=300, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / out / "summary.json").read_text())["compile_seconds"]

    first = run("one")
    assert folder.stat().st_mode & 0o777 == 0o700 and listed(folder)
    assert run("two") < 0.7 * first
    shutil.rmtree(folder)
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    run("three")
    assert listed(folder) == []  # a folder that others may write is not trusted


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_video(tmp_path, tiny_dir):
    def peak(seconds):
        t = np.arange(22_050 * seconds)
        frames = np.tile(moving_spot(150, 96, 160), (seconds // 10, 1, 1, 1))
        source = write_video(tmp_path / f"{seconds}.mp4", frames, rate=15, sound=0.3 * np.sin(t * 0.1))
        del frames
        command = [
            sys.executable,
            "-m",
            "avsal_jax.cli.main",
            "predict",
            str(source),
            "--model",
            str(tiny_dir),
        ]
        code = (
            "import resource, subprocess, sys\n"
            "subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        )
        every = ["--save", "maps,overlay,npz,report", "--output", str(tmp_path / f"out{seconds}")]
        done = subprocess.run(
            [sys.executable, "-c", code, *command, *every],
            capture_output=True, text=True, timeout=580, check=True,
        )  # fmt: skip
        summary = json.loads((tmp_path / f"out{seconds}" / "summary.json").read_text())
        assert summary["maps"] == 15 * seconds
        return int(done.stdout.split()[-1])

    short, long = peak(10), peak(300)
    assert long < 1.1 * short, f"{short} KiB for 10 s, {long} KiB for 5 min"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def in_a_browser(page, width, tmp_path):
    """Opens a page in a frame of a phone's width; returns what it shows and what the console says."""
    inner = html.escape(page.read_text(), quote=True)
    script = """
      const d = document.querySelector('iframe').contentDocument, images = [...d.images];
      document.title = JSON.stringify({
        images: images.length, shown: images.filter(i => i.complete && i.naturalWidth > 0).length,
        overflow: d.documentElement.scrollWidth - d.documentElement.clientWidth,
        widest: Math.max(...images.map(i => i.getBoundingClientRect().width)),
        curves: d.querySelectorAll('svg path').length, heading: d.querySelector('h1').textContent});
    """
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(
        f"<!doctype html><link rel=icon href='data:,'><iframe width={width} height=800 "
        f'onload="{html.escape(script, quote=True)}" srcdoc="{inner}"></iframe>'
    )
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         wrapper.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(title.group(1))), console


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_report_in_a_real_browser(tmp_path, probe):
    frames = moving_spot(60, 180, 320)
    source = write_video(tmp_path / "a <b> & c.mp4", frames, sound=0.3 * np.sin(np.arange(22_050 * 2) * 0.1))
    predict_file(probe, source, tmp_path / "out", Settings(save=("report",)))
    shown, console = in_a_browser(tmp_path / "out" / "report.html", 390, tmp_path)
    assert console == []
    assert shown["heading"] == "Saliency of a <b> & c.mp4"
    assert shown["images"] == shown["shown"] and 9 <= shown["images"] <= 25
    assert shown["curves"] == 2  # strength, and the sound
    assert shown["overflow"] <= 0 and 300 < shown["widest"] <= 390


def test_the_report_needs_nothing_but_itself(tmp_path, probe):
    source = write_video(tmp_path / "a.mp4", moving_spot(1))
    predict_file(probe, source, tmp_path / "out", Settings(save=("report",)))
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        not re.search(r"""(src|href)=["'](?!data:)""", page) and "http" not in page and "<script" not in page
    )
    assert "frame 1, 0.00 s" in page and "mean of the map" in page
