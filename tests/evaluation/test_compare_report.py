"""What `avsal compare` leaves: csv, md, json, and the page with its pictures and curves."""

import base64
import csv
import html.parser
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageColor

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.evaluation.compare import compare
from avsal_jax.evaluation.compare_report import page
from avsal_jax.evaluation.results import read_result
from avsal_jax.pages import Grid, Pictures, Section, render_page
from avsal_jax.pictures import mark_fixations
from avsal_jax.plots import COLOURS, Curves, Intervals
from tests.evaluation.folders import write_example, write_result


class Reader(html.parser.HTMLParser):
    """Checks that tags nest; collects text, pictures and what the page would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.pictures, self.plots, self.elsewhere = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            kind, encoded = attrs["src"].split(";base64,")
            images = {"data:image/jpeg": self.pictures, "data:image/png": self.plots}[kind]
            images.append((attrs["alt"], np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))))
        self.elsewhere += [v for k, v in attrs.items() if k in ("src", "href") and not v.startswith("data:")]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def pixels(image, colour):
    """Which pixels of an RGBA array have a colour, as `#c33`."""
    return (np.abs(image[..., :3].astype(int) - ImageColor.getrgb(colour)).max(-1) < 8) & (
        image[..., 3] > 200
    )


def read_page(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == [] and reader.elsewhere == []
    return reader, re.sub(r"\s+", " ", "".join(reader.texts))


@pytest.fixture
def folders(tmp_path):
    """Two methods on DIEM with frames and examples. The second lacks an example and has a gap in a curve."""
    first = write_result(
        tmp_path / "ours",
        {"cc": {"x": 0.5, "y": 0.25, "z": 0.25}, "kl": {"x": 1.0, "y": 2.0, "z": 3.0}},
        frames={"cc": {"x": [0.5, 0.5], "y": [0.25, 0.25], "z": [0.25]}},
    )
    second = write_result(
        tmp_path / "theirs",
        {"cc": {"x": 0.75, "y": 0.5, "z": 0.375}, "kl": {"x": 0.5, "y": 1.0, "z": 1.5}},
        method="<b>|theirs",
        frames={"cc": {"x": [0.75, None, 0.75], "y": [0.5, 0.5], "z": [0.375]}},
    )
    for folder, level in ((first, 100), (second, 200)):
        write_example(folder, "x", 1, level)
        write_example(folder, "y", 12, level)
    write_example(first, "z", 1, 100)
    return first, second


def run(tmp_path, *texts):
    out = tmp_path / "out"
    assert main(["compare", *map(str, texts), "--output", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "comparison.csv", "comparison.json", "comparison.md", "report.html",
    ]  # fmt: skip
    return out


def test_tables(tmp_path, folders, capsys):
    out = run(tmp_path, *folders, "published:AViNet(B)")
    printed = capsys.readouterr().out
    with (out / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 + 6 + 1
    assert lines[0] == {
        "method": "ours", "dataset": "diem", "split": "test", "folds": "", "protocol": "stavis",
        "videos": "3",
        "cc": "0.333333333333", "sim": "", "nss": "", "kl": "2.0", "auc_judd": "", "auc_shuffled": "",
        "origin": str(folders[0]), "note": "",
    }  # fmt: skip
    text = (out / "comparison.md").read_text()
    assert text in printed
    assert "| ours | 0.3333 |  |  | 2.0000 |" in text
    assert "| <b>\\|theirs | 0.5417 |  |  | **1.0000** |" in text  # lower is better
    assert (
        "| AViNet(B), printed by avinet | **0.632** | **0.498** |" not in text
    )  # alone in SIM: nothing to beat
    assert "| AViNet(B), printed by avinet | **0.632** | 0.498 | 2.53 |" in text
    assert "## Mean of the six sets\n" in text
    assert "No six-set mean for ours: no result on coutrot1, coutrot2, avad, etmd, summe." in text
    assert "| diem, test | <b>\\|theirs | CC | +0.2083 [+0.1250, +0.2500] | 3 |" in text
    content = json.loads((out / "comparison.json").read_text())
    assert content["format"] == "avsal_jax comparison 1" and content["base"] == "ours"
    assert content["bootstrap"] == {"resamples": 10_000, "seed": 0, "level": 0.95}
    assert content["differences"][1]["metric"] == "kl" and content["differences"][1]["mean"] == -1.0
    assert content["missing"]["ours"] == ["coutrot1", "coutrot2", "avad", "etmd", "summe"]


def test_json_is_strict_where_there_is_no_number(tmp_path):
    folder = write_result(tmp_path / "a", {"cc": {"x": None, "y": None}})
    text = (run(tmp_path, folder) / "comparison.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["scores"][0]["metrics"] == {"cc": None}


def test_page(tmp_path, folders):
    reader, text = read_page((run(tmp_path, *folders, "published:AViNet(B)") / "report.html").read_text())
    assert "3 methods on diem, coutrot1" in text and "No six-set mean for ours" in text
    assert "Difference in CC from ours" in text and "+0.2083 [+0.1250, +0.2500], 3 videos" in text
    assert "2 of the 2 that all methods saved" in text
    captions = [caption for caption, _ in reader.pictures]
    assert captions == [
        "x, frame 1",
        "truth",
        "ours",
        "<b>|theirs",
        "y, frame 12",
        "truth",
        "ours",
        "<b>|theirs",
    ]
    levels = [int(np.median(image)) for _, image in reader.pictures]
    assert np.abs(np.subtract(levels, [60, 10, 100, 200] * 2)).max() <= 3
    marked = reader.pictures[0][1].astype(int)
    assert marked[120, 80, 0] > 200 and marked[120, 80, 2] < 120  # yellow, at the fixation
    assert np.abs(marked[120, 200] - 60).max() < 8
    assert "3 of 3 videos are shown" in text and "CC over time: x, diem" in text
    assert text.index("CC over time: x") < text.index("CC over time: z")  # x differs more


def test_curves_have_holes_and_a_legend(tmp_path, folders):
    page = (run(tmp_path, *folders) / "report.html").read_text()
    reader, _ = read_page(page)
    plots = [plot for caption, plot in reader.plots if caption == "CC: 0.5 to 0.75; frame 1 to frame 3"]
    red, blue = (pixels(plots[0], colour) for colour in COLOURS[:2])
    assert red[:, 200:600].any(0).all()  # frames 1 and 2 of the first method are joined
    assert blue.any() and not blue[:, 200:1200].any()  # frame 2 of the second has no value
    assert f'<span style="color: {COLOURS[1]}">&lt;b&gt;|theirs</span>' in page


def test_only_what_all_have_is_side_by_side(tmp_path, folders):
    shutil.rmtree(folders[1] / "examples")
    (folders[1] / "frames.csv").unlink()
    reader, text = read_page((run(tmp_path, *folders) / "report.html").read_text())
    assert not reader.pictures and "over time" not in text and "Difference in CC" in text


def test_results_made_before_are_replaced(tmp_path, folders):
    before = (run(tmp_path, folders[0]) / "comparison.csv").read_text()
    assert (run(tmp_path, *folders) / "comparison.csv").read_text().startswith(before)


@pytest.mark.parametrize("case", ["map", "huge", "fixations", "frames", "output"])
def test_damage_is_one_line(tmp_path, folders, capsys, case):
    out, stem = tmp_path / "out", folders[1] / "examples" / "x" / "000001"
    if case == "map":
        stem.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    elif case == "huge":
        Image.new("1", (10_001, 10_000)).save(stem.with_suffix(".png"))
    elif case == "fixations":
        (folders[0] / "examples" / "x" / "000001_fixations.json").write_text(
            '{"size": [1, 2, 3], "fixations": []}'
        )
    elif case == "frames":
        (folders[1] / "frames.csv").write_text("video,frame,cc\nx,1.5,0.5\n")
    else:
        out.write_text("a file")
    assert main(["compare", *map(str, folders), "--output", str(out)]) == 2
    error = capsys.readouterr().err
    messages = {
        "map": "x/000001.png is damaged",
        "huge": "x/000001.png is damaged: it has 10001x10000 pixels",
        "fixations": "x/000001_fixations.json is damaged",
        "frames": "frames.csv is damaged: line 2 has '1.5' for a frame",
        "output": f"cannot write to {out}: ",
    }
    assert messages[case] in error and error.count("\n") == 1
    assert case == "output" or not out.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("000001_fixations.json", {"size": [0, 5], "fixations": []}, r"its size is \[0.0, 5.0\]"),
        (
            "000001_fixations.json",
            {"size": [4, 5], "fixations": [1]},
            "fixations is not an array of finite numbers",
        ),
        (
            "000001_fixations.json",
            {"size": [4, 5], "fixations": [[1, 2], [3]]},
            "fixations is not an array of finite numbers",
        ),
        (
            "000001_fixations.json",
            {"size": [4, 5], "fixations": [["a", 2]]},
            "fixations is not an array of finite numbers",
        ),
        (
            "000001_fixations.json",
            {"size": [4, 5], "fixations": [[10**400, 2]]},
            "fixations is not an array of finite numbers",
        ),
        ("000001_fixations.json", {"size": [4, 5]}, "fixations is not an array of finite numbers"),
        ("000001_fixations.json", [], "size is not an array of finite numbers"),
        ("sound.json", {"frames": [1, 2], "peaks": [0.5]}, "its lists do not match"),
        ("sound.json", {"frames": [], "peaks": []}, "its lists do not match"),
        ("sound.json", {"frames": {"a": 1}, "peaks": [1]}, "frames is not an array of finite numbers"),
        ("sound.json", {"frames": [1], "peaks": [float("nan")]}, "peaks is not an array of finite numbers"),
    ],
    ids=str,
)
def test_records_next_to_a_picture_are_checked(folders, name, content, words):
    file = folders[0] / "examples" / "x" / name
    file.write_text(json.dumps(content))
    results = [read_result(folder) for folder in folders]
    with pytest.raises(AvsalError, match=f"x/{name} is damaged: {words}"):
        page(compare(results), results)


def test_kinds_of_sections():
    nan = float("nan")
    curves = [("one", np.arange(2000), np.arange(2000.0)), ("no", np.arange(3), np.full(3, nan))]
    sections = [
        Section("g", Grid(["a", "b"], [["1", "<2>"], ["3", "4"]], {(1, 1)})),
        Section("i", Intervals([("m", -1.0, 0.0, 3.0, "text"), ("n", nan, 1.0, nan, "one")])),
        Section("p", Pictures([("c", np.zeros((2, 2), np.uint8))], 5)),
        Section("c", Curves(curves, "v")),
    ]
    html = render_page("t", "l", sections)
    reader, text = read_page(html)
    assert "<td><b>4</b></td>" in html and "<td>&lt;2&gt;</td>" in html
    (_, full), (caption, without_ends), _ = reader.plots
    assert caption == "one"
    zero = pixels(full, "#808080")[2]  # above the interval
    assert 308 <= np.flatnonzero(zero).mean() <= 312  # a quarter of the way from -1, at 20, to 3, at 1180
    middle = pixels(full, COLOURS[0])[20]
    assert middle[25:300].all() and middle[320:1175].all() and not middle[:15].any()
    assert not pixels(without_ends, COLOURS[0])[20, 25:550].any()  # only its middle is drawn
    assert pixels(without_ends, COLOURS[0])[20, 595:605].any()
    assert "repeat(5," in html and "v: 0 to 2e+03; 0.0 s to 1999.0 s" in text


def test_a_long_curve_shows_its_extremes():
    values = np.zeros(300_000)
    values[123_456] = 1.0
    noise = np.random.default_rng(0).random(len(values))
    frames = np.arange(len(values))
    lines = [("", frames, values), ("", frames, noise)]
    plain = np.asarray(Image.open(io.BytesIO(Curves(lines[:1], "v").png())))
    assert np.ptp(np.nonzero(pixels(plain, COLOURS[0]))[0]) > 200  # from the bottom to the top
    assert Curves(lines, "v").png()


def test_a_curve_of_one_point_and_one_without_values():
    point = np.asarray(Image.open(io.BytesIO(Curves([("", [2.0], [0.5])], "v").png())))
    assert pixels(point, COLOURS[0]).any()
    curves = Curves([("", np.arange(3), np.full(3, np.inf))], "v", "frame")
    assert not pixels(np.asarray(Image.open(io.BytesIO(curves.png()))), COLOURS[0]).any()
    assert curves.caption == "v: 0 to 0; frame 0 to frame 2"


def test_fixations_are_where_they_were_recorded():
    frame = np.zeros((100, 200, 3), np.uint8)
    marked = mark_fixations(frame, np.array([[0.25, 0.75]]))
    rows, columns = np.nonzero(marked[..., 0])
    assert (rows.mean(), columns.mean()) == (pytest.approx(25, abs=0.6), pytest.approx(150, abs=0.6))
    assert frame.max() == 0  # the frame itself is left alone
