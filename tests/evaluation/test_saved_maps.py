"""`avsal evaluate --predictions`: saved maps of any form and numbering, truth with holes, partial tables.

The values are CC and NSS by NumPy from the arrays that were written.
"""

import json
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from avsal_jax.cli.main import main
from avsal_jax.evaluation import saved_maps
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.testing import fake_data

COUNT, SIZE = 12, (36, 52)
NAMES = ("v1", "v2")


@pytest.fixture(scope="module")
def videos():
    return [fake_data.fake_video(name, COUNT, SIZE, 30.0, seed=k) for k, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def method_maps(videos):
    """Maps of a method, [video, N, h, w]: each frame's density, mixed with an unrelated video and noise."""
    rng = np.random.default_rng(3)
    unrelated = [fake_data.fake_video("own", COUNT, SIZE, 30.0, seed=9 + k).densities for k in range(2)]
    true = np.stack([video.densities for video in videos])
    return np.uint8(0.6 * true + 0.3 * np.stack(unrelated) + rng.uniform(0, 20, true.shape))


@pytest.fixture
def root(tmp_path, videos):
    return fake_data.write_rearranged(tmp_path / "data", "val", videos)


def expected(videos, method_maps, passed_over=()):
    """Means over frames, then videos, of CC and NSS (N - 1)."""
    means = []
    for video, maps in zip(videos, method_maps, strict=True):
        rows = []
        for k in range(COUNT):
            if (video.name, k) not in passed_over:
                p, g = maps[k].astype(float), video.densities[k].astype(float)
                z = (p - p.mean()) / p.std(ddof=1)
                rows.append((np.corrcoef(p.ravel(), g.ravel())[0, 1], z[tuple(video.fixations[k].T)].mean()))
        means.append(np.mean(rows, 0))
    return np.mean(means, 0)


def write(folder, method_maps, form="{:04d}.png", first=1, save=None):
    """Writes FOLDER/<video>/<form>."""
    for name, maps in zip(NAMES, method_maps, strict=True):
        (folder / name).mkdir(parents=True)
        for number, grey in enumerate(maps, first):
            path = folder / name / form.format(number)
            if save is None:
                Image.fromarray(grey).save(path)
            else:
                save(path, grey)
    return folder


def scored(root, folder, out, **settings):
    """Returns ([CC, NSS], summary, lines)."""
    messages = []
    query = Request("dhf1k:mine", root, "val", predictions=folder, **{"metrics": ("cc", "nss"), **settings})
    summary = evaluate(query, out, messages.append)
    metrics = summary.get("metrics", {})
    return [metrics[name]["mean"] for name in metrics], summary, messages


SAVED = {  # form of the names, number of the first, how a map is saved
    "from 1": ("{:04d}.png", 1, None),
    "from 0": ("{:04d}.png", 0, None),
    "as the frames": ("img_{:05d}.png", 1, None),
    "with a word behind": ("{:04d}_sal.png", 1, None),
    "no zeros in front": ("pred{}.png", 1, None),
    "bmp": ("{:04d}.bmp", 1, None),
    "tif": ("{:04d}.tif", 1, None),
    "palette": ("{:04d}.png", 1, lambda path, a: Image.fromarray(a).convert("P").save(path)),
    "16 bit": ("{:04d}.png", 1, lambda path, a: Image.fromarray(a.astype(np.uint16) * 257).save(path)),
    "npy": ("{:04d}.npy", 1, lambda path, a: np.save(path, a / 70_000)),
    "mat": ("{:04d}.mat", 0, lambda path, a: scipy.io.savemat(path, {"salmap": a / 255})),
    "negative": ("{:04d}.npy", 1, lambda path, a: np.save(path, a / 255 - 0.5)),
}


@pytest.mark.parametrize("kind", SAVED)
def test_saved_maps_of_every_form_give_their_values(root, videos, method_maps, tmp_path, kind):
    folder = write(tmp_path / "maps", method_maps, *SAVED[kind])
    values, _, messages = scored(root, folder, tmp_path / "out")
    np.testing.assert_allclose(values, expected(videos, method_maps), rtol=1e-9)
    from_0 = "v1: the predictions are numbered 0 to 11, the frames 1 to 12: number 0 is taken for frame 1"
    lines = {
        "from 0": from_0,
        "mat": from_0,
        "negative": "v1: the maps hold negative numbers: each is stretched from its minimum to its maximum",
    }
    assert [line for line in messages if "v1" in line] == ([f"note: {lines[kind]}"] if kind in lines else [])


@pytest.mark.parametrize("place", ["{}/maps.npz", "{}.npz", "{}.npy", "{}/maps/0001.png"])
def test_maps_of_a_video_in_one_file(root, videos, method_maps, tmp_path, place):
    """As `avsal predict --save npz` leaves them (float16, at the network's size), and others."""
    folder = tmp_path / "maps"
    for name, maps in zip(NAMES, method_maps, strict=True):
        path = folder / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            np.savez_compressed(path, maps=(maps / 255).astype(np.float16))
        elif path.suffix == ".npy":
            np.save(path, maps)
        else:
            for k, grey in enumerate(maps, 1):
                Image.fromarray(grey).save(path.with_name(f"{k:06d}.png"))
    values, _, _ = scored(root, folder, tmp_path / "out")
    np.testing.assert_allclose(values, expected(videos, method_maps), rtol=1e-3)  # float16 has 11 bits


def test_the_maps_of_one_video_may_be_in_the_folder_itself(tmp_path, videos, method_maps):
    root = fake_data.write_rearranged(tmp_path / "data", "val", videos[:1])
    folder = write(tmp_path / "maps", method_maps)
    source = folder / "v1"
    values, _, messages = scored(root, source, tmp_path / "out")
    np.testing.assert_allclose(values, expected(videos[:1], method_maps[:1]), rtol=1e-9)
    assert messages == [f"note: v1: its predictions are read from {source}, since it is the only video"]


def one_more_from_0(folder):
    for name in NAMES:
        shutil.copy(folder / name / "0011.png", folder / name / "0012.png")


def test_one_prediction_more_than_frames_from_0(root, videos, method_maps, tmp_path):
    folder = write(tmp_path / "maps", method_maps, first=0)
    one_more_from_0(folder)
    values, _, _ = scored(root, folder, tmp_path / "out")
    np.testing.assert_allclose(values, expected(videos, method_maps), rtol=1e-9)


def half(folder):
    for number in range(7, 13):
        (folder / "v1" / f"{number:04d}.png").unlink()


def offset(folder):
    for number in range(12, 0, -1):
        (folder / "v1" / f"{number:04d}.png").rename(folder / "v1" / f"{number + 4:04d}.png")


def heat_map(folder):
    grey = np.asarray(Image.open(folder / "v1" / "0003.png"))
    Image.fromarray(np.dstack([grey, 0 * grey, 255 - grey])).save(folder / "v1" / "0003.png")


def not_finite(folder):
    for path in (folder / "v1").iterdir():
        np.save(path.with_suffix(".npy"), np.full(SIZE, np.nan if path.stem == "0007" else 0.5))
        path.unlink()


def too_few_in_one_file(folder):
    shutil.rmtree(folder / "v1")
    np.save(folder / "v1.npy", np.zeros((COUNT - 1, *SIZE)))


def a_video(folder):
    shutil.rmtree(folder / "v1")
    (folder / "v1").mkdir()
    (folder / "v1" / "saliency.mp4").write_bytes(b"...")


REFUSED = {
    half: "1 to 6, the frames 1 to 12: which belongs to which is not certain (6 may be the first, or every",
    offset: "the predictions are numbered 5 to 16, the frames 1 to 12: which belongs to which is not certain",
    heat_map: "0003.png is a coloured picture",
    not_finite: "0007.npy holds numbers that are not finite (NaN or infinity)",
    too_few_in_one_file: "v1.npy holds 11 maps, not one for each of the 12 frames",
    a_video: "v1 holds saliency.mp4; expected: a file for each frame, its number in the name, in FOLDER",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_what_cannot_be_read_fails_alone_with_its_reason(root, videos, method_maps, tmp_path, change):
    folder = write(tmp_path / "maps", method_maps)
    change(folder)
    values, summary, messages = scored(root, folder, tmp_path / "out")
    np.testing.assert_allclose(values, expected(videos[1:], method_maps[1:]), rtol=1e-9)
    (line,) = [line for line in messages if line.startswith("failed: ")]
    assert line.startswith("failed: v1: ") and REFUSED[change] in line
    table = (tmp_path / "out" / "table.md").read_text()
    assert "1 of 2 videos are not scored: v1 (" in table and REFUSED[change] in table
    assert summary["missing"] == ["v1"] and REFUSED[change] in summary["not_scored"]["v1"]


def test_frames_without_truth_are_passed_over_and_counted(root, videos, method_maps, tmp_path, capsys):
    holes = {("v1", 4): ("maps", "fixation"), ("v1", 0): ("maps",), ("v2", 7): ("fixation",)}
    for (name, k), kinds in holes.items():
        for kind in kinds:
            (root / "val" / name / kind / f"{k + 1:04d}.png").unlink()
    folder = write(tmp_path / "maps", method_maps)
    (folder / "v1" / "0005.png").unlink()  # which is not needed then
    values, summary, messages = scored(root, folder, tmp_path / "out")
    np.testing.assert_allclose(values, expected(videos, method_maps, holes), rtol=1e-9)
    assert summary["frames"] == 21 and summary["frames_without_truth"] == {"v1": 2, "v2": 1}
    assert "note: v1: 12 images, 10 density maps, 11 fixation maps: 10 are used" in messages
    lines = (tmp_path / "out" / "frames.csv").read_text().splitlines()[1:]
    frames = {(line.split(",")[0], int(line.split(",")[1]) - 1) for line in lines}
    assert frames == {(name, k) for name in NAMES for k in range(COUNT)} - set(holes)
    words = "3 frames have no truth and are not scored: v1 2, v2 1."
    for file in ("table.md", "report.html"):
        assert words in (tmp_path / "out" / file).read_text()
    arguments = [
        "evaluate",
        "--dataset",
        "dhf1k:mine",
        "--root",
        str(root),
        "--split",
        "val",
        "--metrics",
        "cc",
    ]
    for model in ("centre", "mean_map"):
        shutil.copytree(root / "val", root / "train", dirs_exist_ok=True)
        assert main([*arguments, "--model", model, "--output", str(tmp_path / model)]) == 0
    assert json.loads((tmp_path / "centre" / "summary.json").read_text())["frames"] == 21


@pytest.mark.parametrize("protocol", ["vinet", "dhf1k"])
def test_a_set_without_fixations_is_scored_by_its_densities(root, videos, method_maps, tmp_path, protocol):
    for name in NAMES:
        shutil.rmtree(root / "val" / name / "fixation")
    folder = write(tmp_path / "maps", method_maps)
    metrics = ("cc", "nss", "auc_judd", "auc_shuffled")
    values, _, messages = scored(root, folder, tmp_path / "out", metrics=metrics, protocol=protocol)
    np.testing.assert_allclose(values[0], expected(videos, method_maps)[0], rtol=1e-9)
    assert values[1:] == [None] * 3 and any("no fixation maps in" in line for line in messages)
    words = "v1, v2: it has no fixations: it counts only for the metrics of densities."
    assert words in (tmp_path / "out" / "table.md").read_text()


def test_a_video_without_any_truth_is_named_in_the_tables(root, videos, method_maps, tmp_path):
    for kind in ("maps", "fixation"):
        shutil.rmtree(root / "val" / "v1" / kind)
    folder = write(tmp_path / "maps", method_maps)
    values, _, _ = scored(root, folder, tmp_path / "out")
    np.testing.assert_allclose(values, expected(videos[1:], method_maps[1:]), rtol=1e-9)
    words = "1 of 2 videos are not scored: v1 (it cannot be scored: it has no published truth)."
    assert words in (tmp_path / "out" / "table.md").read_text()


def test_compressed_fixations_are_reported_once_with_their_number(root, videos, method_maps, tmp_path):
    for name in NAMES:
        for path in sorted((root / "val" / name / "fixation").iterdir()):
            with Image.open(path) as image:
                image.save(path.with_suffix(".jpg"), quality=75)
            path.unlink()
    folder = write(tmp_path / "maps", method_maps)
    values, summary, messages = scored(root, folder, tmp_path / "out")
    np.testing.assert_allclose(values, expected(videos, method_maps), rtol=1e-9)
    notes = [line for line in messages if "fixation maps are not binary" in line]
    assert len(notes) == 2 and notes[0].startswith("note: v1: 12 of 12 fixation maps are not binary")
    assert summary["notes"]["v1"][0] in (tmp_path / "out" / "table.md").read_text()


def test_an_unexpected_fault_affects_one_video_and_keeps_complete_parts(
    root, videos, method_maps, tmp_path, capsys, monkeypatch
):
    folder = write(tmp_path / "maps", method_maps)
    arguments = ["evaluate", "--dataset", "dhf1k:mine", "--root", str(root), "--split", "val", "--metrics"]
    arguments += ["cc", "--predictions", str(folder), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    before = (tmp_path / "out" / "parts" / "v2.json").read_bytes()
    # The size of the file changes, so the video is scored again.
    Image.fromarray(method_maps[0, 0]).save(folder / "v1" / "0001.png", compress_level=0)
    read = saved_maps.read_grey

    def fails(path, stretch):
        if path == folder / "v1" / "0005.png":
            raise ZeroDivisionError("of a simulated\nbug")
        return read(path, stretch)

    monkeypatch.setattr(saved_maps, "read_grey", fails)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "failed: v1: unexpected error: ZeroDivisionError: of a simulated bug (" in error
    assert "Traceback" not in error
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["videos"] == 1 and list(summary["not_scored"]) == ["v1"]
    assert (tmp_path / "out" / "parts" / "v2.json").read_bytes() == before


def test_a_part_that_is_damaged_is_scored_again(root, method_maps, tmp_path):
    folder = write(tmp_path / "maps", method_maps)
    values, _, _ = scored(root, folder, tmp_path / "out")
    path = tmp_path / "out" / "parts" / "v1.json"
    part = json.loads(path.read_text())
    for change in ({"rows": [[1, "x", 2]]}, {"rows": [[1]]}, {"rows": 3}, {"fps": None}, {"failed": 3}):
        path.write_text(json.dumps({**part, **change}))
        assert scored(root, folder, tmp_path / "out")[0] == values
        assert json.loads(path.read_text()) == part


def test_a_video_that_ends_before_the_protocol_begins_is_not_scored(tmp_path):
    """STAViS scores from frame 9 on."""
    videos = [
        fake_data.fake_video(name, count, SIZE, 30.0) for name, count in zip(NAMES, (8, 9), strict=True)
    ]
    root = fake_data.write_rearranged(tmp_path / "data", "val", videos)
    folder = write(tmp_path / "maps", [video.densities for video in videos])
    _, summary, _ = scored(root, folder, tmp_path / "out", protocol="stavis", metrics=("cc",))
    assert summary["videos"] == summary["frames"] == 1
    words = "it cannot be scored: the protocol stavis begins at frame 9, and its last frame with truth is 8"
    assert summary["not_scored"] == {"v1": words}
