"""The built wheel, installed elsewhere, predicts with what it carries."""

import json
import zipfile

import pytest

from avsal_jax.testing.videos import moving_spot, write_video
from tests.wheels import avsal, built_wheel, installed, run_from


@pytest.mark.slow
def test_the_wheel_predicts_outside_the_checkout(tmp_path):
    wheel = built_wheel(tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    assert {"avsal_jax/configs/README.md", "avsal_jax/configs/vinet_dhf1k.py"} <= set(names)
    assert "avsal_jax/checkpoints/manifest.json" in names
    assert {
        f"avsal_jax/checkpoints/avsal-gaze/{name}" for name in ("model.json", "weights.safetensors")
    } <= set(names)
    assert {"avsal_jax/data/lists/gasp/LICENSE.md", "avsal_jax/data/lists/gasp/test_ave.csv"} <= set(names)
    assert "avsal_jax/published.csv" in names
    assert "avsal_jax/data/lists/gaze/osie.csv" in names
    assert not [name for name in names if name.startswith(("tests", "tools"))]
    assert not [name for name in names if "avsal-mini" in name]
    assert not [name for name in names if name.endswith((".mat", ".avi", ".mp4", ".jpg"))]
    site = installed(wheel, tmp_path / "site")
    source = write_video(tmp_path / "clip.mp4", moving_spot(4))
    location = run_from(site, tmp_path, "-c", "import avsal_jax; print(avsal_jax.__file__)")
    assert location.stdout.startswith(str(site))
    assert "4 maps in out" in avsal(site, tmp_path, "predict", str(source), "--output", "out").stdout
    assert "class ScaledChannels(Fusion):" in avsal(site, tmp_path, "list", "fusion", "--example").stdout
    assert "vinet_dhf1k: " in avsal(site, tmp_path, "train", "--list").stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 4 and "where people looked" in summary["note"]  # by the bundled model
