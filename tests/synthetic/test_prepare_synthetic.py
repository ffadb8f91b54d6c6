"""The generated set through `avsal prepare`: made, prepared, streamed, taken up again."""

import numpy as np

from avsal_jax import InputSpec, LogMel
from avsal_jax.cli.main import main
from avsal_jax.data.prepared.selection import PreparedSources


def test_one_command_makes_and_prepares_the_set(tmp_path, capsys):
    arguments = ["prepare", "--dataset", "synthetic", "--output", str(tmp_path), "--set", "preset=tiny"]
    assert main([*arguments, "--size", "32x64", "--workers", "1"]) == 0
    assert "10 videos, 240 frames" in capsys.readouterr().out
    assert (tmp_path / "synthetic-source/contact_sheet.png").stat().st_size > 10_000
    train, validation, rule = PreparedSources(tmp_path).split([("synthetic", None)])
    assert (len(train), len(validation), rule) == (7, 1, "synthetic: val list")
    from avsal_jax.data.prepared.pipeline import clip_batches

    spec = InputSpec(8, 32, 64, audio=LogMel())
    batch = next(clip_batches(train, spec, 7, steps=1).as_numpy_iterator())
    assert batch["mask"].all() and batch["density"].max() > 0.5 and batch["fixations"].any(axis=(1, 2)).all()
    assert len({patch.tobytes() for patch in batch["audio"]}) == 7 and np.ptp(batch["audio"]) > 2
    assert main([*arguments, "--size", "32x64"]) == 0
    assert "0 prepared now" in capsys.readouterr().out


def test_mistakes(tmp_path, capsys):
    base = ["prepare", "--dataset", "synthetic", "--output", str(tmp_path)]
    assert main([*base, "--set", "grade=loud"]) == 2
    assert "position, identity, synchrony" in capsys.readouterr().err
    assert main([*base, "--set", "sixe=3"]) == 2
    assert "sixe" in capsys.readouterr().err
