"""An output of `avsal predict` from a plugin: of videos and photographs, reruns, and without the plugin."""

import csv

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.inference import Output, Settings, predict_file
from avsal_jax.inference.still_results import StillResults
from avsal_jax.media.photographs import PhotographSet
from avsal_jax.plugins import isolated
from avsal_jax.storage import write_model
from avsal_jax.testing.models import probe_model, tiny_stored
from avsal_jax.testing.parts import small_parts
from avsal_jax.testing.videos import moving_spot, spot_centre, write_video

NAME, FILE = "centre_of_mass", "centre_of_mass.csv"


@pytest.fixture(scope="module")
def probe():
    """A model whose map is the luminance of the frame."""
    return probe_model()


def rows(folder):
    with (folder / FILE).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def place(row):
    return float(row["x"]), float(row["y"])


def expected_place(saliency):
    """The centre of mass, by sums over all pixels."""
    height, width = saliency.shape
    y, x = np.mgrid[:height, :width]
    total = saliency.sum(dtype=np.float64)
    return ((x + 0.5) * saliency).sum() / total / width, ((y + 0.5) * saliency).sum() / total / height


def test_a_video(probe, plugin, tmp_path):
    plugin(NAME)
    source = write_video(tmp_path / "a.mp4", moving_spot(20, 72, 128), rate=25)
    settings = Settings(save=(NAME, "maps"))
    summary = predict_file(probe, source, tmp_path / "out", settings)
    assert summary["files"] == [FILE, "maps"]
    table = rows(tmp_path / "out")
    assert [row["name"] for row in table] == [f"{k:06d}" for k in range(1, 21)]
    assert [float(row["seconds"]) for row in table] == pytest.approx(np.arange(20) / 25)
    for row, saliency in zip(table, probe.predict_video(source), strict=True):
        assert place(row) == pytest.approx(expected_place(saliency), abs=1e-4)
    # The maps are nowhere 0, so their centre moves less than the spot, in its direction.
    spot = np.array([spot_centre(k, 20, 72, 128)[1] for k in range(20)])
    assert np.corrcoef(spot, [place(row)[0] for row in table])[0, 1] > 0.99
    assert "already_done" in predict_file(probe, source, tmp_path / "out", settings)
    (tmp_path / "out" / FILE).unlink()
    assert "already_done" not in predict_file(probe, source, tmp_path / "out", settings)


def test_photographs_in_order_also_where_an_interrupted_run_continues(probe, plugin, tmp_path, monkeypatch):
    plugin(NAME)
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for path, image in zip(paths, moving_spot(4, 72, 128), strict=True):
        Image.fromarray(image).save(path)
    photographs, settings = PhotographSet.of(paths), Settings(save=(NAME, "maps"))
    add = StillResults.add

    def interrupted(self, *arguments):
        if len(self.entries) == 2:
            raise KeyboardInterrupt
        add(self, *arguments)

    monkeypatch.setattr(StillResults, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_file(probe, photographs, tmp_path / "out", settings)
    monkeypatch.undo()
    news = []
    predict_file(probe, photographs, tmp_path / "out", settings, news.append)
    assert "2 of 4 photographs are predicted already" in news
    predict_file(probe, photographs, tmp_path / "at_once", settings)
    assert (tmp_path / "out" / FILE).read_text() == (tmp_path / "at_once" / FILE).read_text()
    table = rows(tmp_path / "out")
    assert [row["name"] for row in table] == ["a", "b", "c", "d"]
    for row, path in zip(table, paths, strict=True):
        assert place(row) == pytest.approx(expected_place(probe.predict_image(path)), abs=2e-4)


def test_the_command_and_what_happens_without_the_plugin(tmp_path, tests_dir, capsys):
    source = write_video(tmp_path / "a.mp4", moving_spot(3, 72, 128))
    out, file = tmp_path / "out", tests_dir / "extending/plugins/centre_of_mass.py"
    with small_parts():
        stored = tiny_stored()
        write_model(tmp_path / "model", stored.preset, variables=stored.variables)
        command = ["predict", str(source), "--model", str(tmp_path / "model"), "--output", str(out), "--save"]
        assert main([*command, NAME]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("avsal: unknown output 'centre_of_mass'; there are ") and "overlay" in line
        with isolated():
            assert main([*command, NAME, "--plugin", str(file)]) == 0
            assert len(rows(out)) == 3
        assert main([*command, "maps"]) == 0  # and the file of the plugin is not left behind
    assert sorted(path.name for path in out.iterdir()) == ["maps", "summary.json"]


def test_mistakes_of_an_output_are_found_when_it_is_defined():
    with pytest.raises(
        AvsalError, match="needs 'maps' \\(did you mean 'map'\\?\\); an output can need map, "
    ):
        type("Wrong", (Output,), {"files": ("a.csv",), "needs": frozenset({"maps"})})
    with pytest.raises(AvsalError, match="Wrong is an output without `files`"):
        type("Wrong", (Output,), {})
