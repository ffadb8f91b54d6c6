"""docs/own-recordings.md, from a folder of invented recordings to figures on stimuli that were held back."""

import csv
import json
import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image, ImageDraw

from avsal_jax.cli.main import main

COUNT, SIZE = 24, (192, 256)


def draw(number: int) -> tuple[Image.Image, tuple[float, float]]:
    """A grey picture with a ring and a square of the same size; people look at the square's (x, y)."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(110, 140, (*SIZE, 3)).astype(np.uint8))
    pen, centres = ImageDraw.Draw(image), []
    left = bool(rng.integers(2))
    for side in (left, not left):
        x, y = (60 if side else 196) + rng.integers(-25, 25), rng.integers(40, SIZE[0] - 40)
        centres.append((float(x), float(y)))
    (x, y), (u, v) = centres
    pen.rectangle((x - 14, y - 14, x + 14, y + 14), outline=(230, 60, 40), width=6)
    pen.ellipse((u - 14, v - 14, u + 14, v + 14), outline=(40, 60, 230), width=6)
    return image, (x, y)


def write_recording(root: pathlib.Path) -> None:
    (root / "stimuli").mkdir(parents=True)
    (root / "lists").mkdir()
    names = [f"shapes{number:02d}.png" for number in range(COUNT)]
    with (root / "fixations.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["stimulus", "observer", "x", "y", "start_ms", "duration_ms"])
        for number, name in enumerate(names):
            image, (x, y) = draw(number)
            image.save(root / "stimuli" / name)
            for observer in "abcdef":
                dx, dy = np.random.default_rng([number, ord(observer)]).normal(0, 5, 2)
                table.writerow([name, observer, round(x + dx, 1), round(y + dy, 1), 300, 400])
    stems = [name.removesuffix(".png") for name in names]
    (root / "lists" / "train.txt").write_text("\n".join(stems[:16]))
    (root / "lists" / "test.txt").write_text("\n".join(stems[16:]))


def commands(tests_dir, part: str) -> list[list[str]]:
    """The commands of the page's section whose heading begins with `part`."""
    text = (tests_dir.parent / "docs" / "own-recordings.md").read_text()
    section = re.search(rf"## {part}.*?(?=\n## |\Z)", text, re.DOTALL)[0]
    return [shlex.split(line)[1:] for line in section.splitlines() if line.startswith("avsal ")]


@pytest.mark.slow
def test_the_page_from_a_folder_to_figures(tests_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "recording")
    draw(0)[0].save("photo.jpg")
    photographs = [
        line
        for line in commands(tests_dir, "3.")
        if "224x384" not in line and "own_clips" not in " ".join(line)
    ]
    assert len(photographs) == 2
    steps = ["--config.steps=60", "--config.evaluation.every=60"]
    for line in [*commands(tests_dir, "1."), *photographs, *commands(tests_dir, "4.")]:
        assert main([*line, *(steps if line[0] == "train" else [])]) == 0, line
    scores = {}
    for name in ("test_before", "test_after", "results_people"):
        scores[name] = json.loads(pathlib.Path(name, "summary.json").read_text())["metrics"]["nss"]["mean"]
    # Rings, which no observer looks at, share the map at first: 3.6 here; afterwards 9.6.
    assert scores["test_after"] > scores["test_before"] + 2
    assert scores["results_people"] > scores["test_before"] + 2
    assert pathlib.Path("comparison_test", "report.html").is_file()
    assert pathlib.Path("saliency", "overlay.jpg").is_file()
