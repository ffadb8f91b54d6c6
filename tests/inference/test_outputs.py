"""What `avsal predict` leaves behind: npz, post-processing, steps, sound, memory, cache, report."""

import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import av
import jax
import numpy as np
import pytest
from PIL import Image

from avsal_jax import Waveform
from avsal_jax.cli.main import main
from avsal_jax.inference.inputs import rate_warning
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.pictures import resize_map, to_grey
from avsal_jax.runtime.compile_cache import use_compile_cache
from avsal_jax.testing import COMMAND
from avsal_jax.testing.models import hearing_probe
from avsal_jax.testing.videos import moving_spot, write_audio_only, write_video
from tests import needs
from tests.inference.folders import file_names


@pytest.fixture(scope="module")
def hearing():
    return hearing_probe(Waveform(35_280))


def test_npz_holds_the_maps_at_model_size(tmp_path, probe):
    source = write_video(tmp_path / "a.mp4", moving_spot(30))
    predict_file(probe, source, tmp_path / "out", Settings(save=("npz",)))
    assert file_names(tmp_path / "out") == ["maps.npz", "summary.json"]
    with np.load(tmp_path / "out" / "maps.npz", allow_pickle=False) as archive:
        maps = archive["maps"]
    assert maps.dtype == np.float16
    np.testing.assert_allclose(maps, probe.predict_video(source), atol=1e-3)


def test_postprocessing_is_that_of_the_public_code(tmp_path, probe):
    """Resize, 11x11 Gaussian of sigma 2, stretch with 1e-5, half a level up; the blur here by direct sums."""
    source = write_video(tmp_path / "a.mp4", moving_spot(9))
    settings = Settings(save=("maps",), postprocess="vinet")
    predict_file(probe, source, tmp_path / "out", settings)
    grey = np.asarray(Image.open(tmp_path / "out" / "maps" / "000004.png")).astype(float)
    big = resize_map(probe.predict_video(source)[3], 72, 128).astype(np.float64)
    weights = np.exp(-((np.arange(11) - 5) ** 2) / 8)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(big, 5, mode="reflect")
    blurred = sum(weights[i, j] * padded[i : i + 72, j : j + 128] for i in range(11) for j in range(11))
    expected = (blurred - blurred.min()) / (blurred.max() - blurred.min() + 1e-5) * 255 + 0.5
    assert np.abs(grey - np.clip(np.round(expected), 0, 255)).max() <= 1
    assert np.abs(grey - to_grey(resize_map(big, 72, 128))).max() > 1  # it differs from none


def test_frame_step_takes_every_kth_frame_and_holds_the_overlay(tmp_path, probe):
    frames = moving_spot(31)
    source = write_video(tmp_path / "fast.mp4", frames, rate=60)
    summary = predict_file(
        probe, source, tmp_path / "out", Settings(save=("maps", "overlay", "npz"), frame_step=4)
    )
    assert (summary["frames"], summary["maps"]) == (31, 8)
    assert file_names(tmp_path / "out" / "maps") == [f"{i:06d}.png" for i in range(1, 32, 4)]
    thinned = write_video(tmp_path / "thin.mp4", frames[::4], rate=15)
    maps = np.load(tmp_path / "out" / "maps.npz")["maps"]
    np.testing.assert_allclose(maps, probe.predict_video(thinned), atol=0.02)
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == 31


def test_a_rate_far_from_training_warns_and_names_the_step():
    assert rate_warning(25, 1) is None and rate_warning(60, 2) is None
    assert "--frame-step 2 reduces the rate to 30" in rate_warning(60, 1)
    assert "10 frames per second" in rate_warning(10, 1) and "--frame-step" not in rate_warning(10, 1)


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

    def test_notes_about_sound(self, hearing, probe, source, tmp_path):
        messages = []
        settings = Settings(save=("npz",))
        predict_file(probe, source, tmp_path / "a", settings, messages.append)
        assert "note: this model is visual-only: it does not use the sound" in messages
        mute = write_video(tmp_path / "mute.mp4", moving_spot(3))
        messages.clear()
        predict_file(hearing, mute, tmp_path / "b", settings, messages.append)
        assert "note: the audio input of the model is silence" in messages
        messages.clear()
        predict_file(probe, mute, tmp_path / "c", settings, messages.append)
        assert not any("sound" in line for line in messages)

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
        with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
            (sound,) = overlay.streams.audio
            assert abs(float(sound.duration * sound.time_base) - 2) < 0.1


def test_the_compile_cache_is_the_users_alone(tmp_path, tiny_dir):
    source = write_video(tmp_path / "a.mp4", moving_spot(3))
    command = [*COMMAND, "predict", str(source), "--model", str(tiny_dir)]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    folder = tmp_path / "cache" / "avsal_jax" / "compiled"

    def run(out):
        process = subprocess.run(
            [*command, "--save", "npz", "--output", str(tmp_path / out)],
            capture_output=True, text=True, timeout=300, check=False, env=environment,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        return {file.name: file.stat().st_mtime_ns for file in folder.glob("*-cache")}

    programs = run("one")
    assert folder.stat().st_mode & 0o777 == 0o700 and programs
    assert run("two") == programs  # nothing is compiled again
    shutil.rmtree(folder)
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    run("three")
    assert file_names(folder) == []  # a folder that others may write is not trusted


def test_a_compile_cache_that_was_chosen_is_kept():
    """Commands in the tests' own process write to the tests' cache, not to the developer's."""
    folder = jax.config.jax_compilation_cache_dir
    assert folder and use_compile_cache() == pathlib.Path(folder)
    assert jax.config.jax_compilation_cache_dir == folder


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_video(tmp_path, tiny_dir):
    def peak(seconds):
        t = np.arange(22_050 * seconds)
        frames = np.tile(moving_spot(150, 96, 160), (seconds // 10, 1, 1, 1))
        source = write_video(tmp_path / f"{seconds}.mp4", frames, rate=15, sound=0.3 * np.sin(t * 0.1))
        del frames
        command = [*COMMAND, "predict", str(source), "--model", str(tiny_dir)]
        code = (
            "import resource, subprocess, sys\n"
            "subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        )
        every = ["--save", "maps,overlay,npz,report", "--output", str(tmp_path / f"out{seconds}")]
        process = subprocess.run(
            [sys.executable, "-c", code, *command, *every],
            capture_output=True, text=True, timeout=580, check=True,
        )  # fmt: skip
        summary = json.loads((tmp_path / f"out{seconds}" / "summary.json").read_text())
        assert summary["maps"] == 15 * seconds
        return int(process.stdout.split()[-1])

    short, long = peak(10), peak(300)
    assert long < 1.1 * short, f"{short} KiB for 10 s, {long} KiB for 5 min"


def in_a_browser(page, width, tmp_path):
    """Opens a page in a frame of a phone's width; returns what it shows and what the console says."""
    inner = html.escape(page.read_text(), quote=True)
    script = """
      const d = document.querySelector('iframe').contentDocument, images = [...d.images];
      document.title = JSON.stringify({
        images: images.length, shown: images.filter(i => i.complete && i.naturalWidth > 0).length,
        overflow: d.documentElement.scrollWidth - d.documentElement.clientWidth,
        widest: Math.max(...images.map(i => i.getBoundingClientRect().width)),
        curves: d.querySelectorAll('img.plot').length, heading: d.querySelector('h1').textContent});
    """
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(
        f"<!doctype html><link rel=icon href='data:,'><iframe width={width} height=800 "
        f'onload="{html.escape(script, quote=True)}" srcdoc="{inner}"></iframe>'
    )
    process = subprocess.run(
        [needs.CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         wrapper.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", process.stdout, re.DOTALL)
    console = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(title.group(1))), console


@needs.chromium
def test_the_report_in_a_real_browser(tmp_path, probe):
    frames = moving_spot(60, 180, 320)
    source = write_video(tmp_path / "a <b> & c.mp4", frames, sound=0.3 * np.sin(np.arange(22_050 * 2) * 0.1))
    predict_file(probe, source, tmp_path / "out", Settings(save=("report",)))
    page, console = in_a_browser(tmp_path / "out" / "report.html", 390, tmp_path)
    assert console == []
    assert page["heading"] == "Saliency of a <b> & c.mp4"
    assert page["images"] == page["shown"] and 9 <= page["images"] <= 25
    assert page["curves"] == 2  # strength, and the sound
    assert page["overflow"] <= 0 and 300 < page["widest"] <= 390


def test_the_report_needs_nothing_but_itself(tmp_path, probe):
    source = write_video(tmp_path / "a.mp4", moving_spot(1))
    predict_file(probe, source, tmp_path / "out", Settings(save=("report",)))
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        not re.search(r"""(src|href)=["'](?!data:)""", page) and "http" not in page and "<script" not in page
    )
    assert "frame 1, 0.00 s" in page and "mean of the map" in page
