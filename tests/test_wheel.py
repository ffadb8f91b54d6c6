"""The built wheel, installed elsewhere, predicts with what it carries."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

from avsal_jax.testing.videos import moving_spot, write_video


@pytest.mark.slow
def test_the_wheel_predicts_outside_the_checkout(tests_dir, tmp_path):
    def run(*command, **options):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(tests_dir.parent),
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"avsal_jax/configs/README.md", "avsal_jax/configs/vinet_dhf1k.py"} <= set(names)
    assert "avsal_jax/checkpoints/manifest.json" in names
    assert {
        f"avsal_jax/checkpoints/avsal-gaze/{name}" for name in ("model.json", "weights.safetensors")
    } <= set(names)
    assert {"avsal_jax/data/lists/gasp/LICENSE.md", "avsal_jax/data/lists/gasp/test_ave.csv"} <= set(names)
    assert "avsal_jax/evaluation/published.csv" in names
    assert "avsal_jax/data/lists/gaze/osie.csv" in names
    assert not [name for name in names if name.startswith(("tests", "tools"))]
    assert not [name for name in names if "avsal-mini" in name]
    assert not [name for name in names if name.endswith((".mat", ".avi", ".mp4", ".jpg"))]
    site = tmp_path / "site"
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    )
    source = write_video(tmp_path / "clip.mp4", moving_spot(4))
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = "import avsal_jax; print(avsal_jax.__file__)"
    assert run(sys.executable, "-c", where, cwd=tmp_path, env=environment).startswith(str(site))
    command = [sys.executable, "-m", "avsal_jax.cli.main", "predict", str(source), "--output", "out"]
    assert "4 maps in out" in run(*command, cwd=tmp_path, env=environment)
    listed = run(sys.executable, "-m", "avsal_jax.cli.main", "train", "--list", cwd=tmp_path, env=environment)
    assert "vinet_dhf1k: " in listed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 4 and "where people looked" in summary["note"]  # by the bundled model
