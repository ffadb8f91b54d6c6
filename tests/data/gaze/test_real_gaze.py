"""The real sets as the project's own readers and protocol see them, where they are on this machine.

`gaze_counts.json` (`needs.gaze_golden`) was made without this project.
"""

import functools
import hashlib
import pathlib
import subprocess

import numpy as np
import pytest

from avsal_jax.data.gaze.stimuli import GazeOptions
from avsal_jax.data.sets.datasets import open_entire
from avsal_jax.evaluation.baselines import centre_maps
from avsal_jax.evaluation.human import LeaveOneOut
from avsal_jax.evaluation.protocols import find_protocol
from avsal_jax.evaluation.scoring import OtherFixations, frame_values, scored_frames
from avsal_jax.evaluation.units import Settings, Unit
from tests import needs

# Name of the set in this project -> folder, and in the golden file.
FOLDERS = {
    "osie": "osie",
    "eyecrowd": "eyecrowd",
    "sun_scenes": "scenes",
    "gaze:hands": "hands",
    "hevc_gaze": "hevc",
}
SETTINGS = Settings(find_protocol("gaze"), ("nss",))
NSS_TOLERANCE = 0.02
CHECKOUT = pathlib.Path(__file__).parents[3]


@functools.cache
def opened(name: str, drop_first: bool = False):
    options = GazeOptions(drop_first=drop_first)
    return open_entire(name, needs.gaze_root() / FOLDERS[name], options)


def golden_of(name: str) -> dict:
    return needs.gaze_golden()[FOLDERS[name]]


def tables(name: str, **options) -> dict:
    return {entry.name: entry.stimulus.fixations for entry in opened(name, **options)[0]}


@pytest.mark.parametrize("name", ["osie", "eyecrowd", "sun_scenes"])
def test_photographs(name):
    golden, by_name = golden_of(name), tables(name)
    assert len(by_name) == golden["images"]
    assert sorted({len(table.observers) for table in by_name.values()}) == golden["observers"]
    assert sum(map(len, by_name.values())) == golden["fixations"]
    assert sum(int(table.is_inside.sum()) for table in by_name.values()) == golden["inside"]
    assert all(entry.frames == 1 for entry in opened(name)[0])
    if name == "sun_scenes":
        file, rows = golden["first"]
        table = by_name[pathlib.PurePath(file).stem]
        columns = [table.y, table.x, table.start, table.duration]
        np.testing.assert_allclose(np.stack(columns, 1)[: len(rows)], rows)
    else:
        file, observer, places, durations = golden["first"]
        table = by_name[pathlib.PurePath(file).stem].of_observers([observer])
        np.testing.assert_allclose(np.stack([table.x, table.y], 1)[: len(places)], places)
        np.testing.assert_allclose(1000 * table.duration[: len(durations)], durations)
        assert np.isnan(table.start).all()


def test_hands():
    golden, by_name = golden_of("gaze:hands"), tables("gaze:hands")
    assert len(by_name) == golden["images"]
    assert {len(table.observers) for table in by_name.values()} == {*golden["observers_a_picture"]}
    assert len({name for table in by_name.values() for name in table.observers}) == golden["observers"]
    assert sum(map(len, by_name.values())) == golden["fixations"]
    file, observer, *_ = golden["first"][0]
    table = by_name[pathlib.PurePath(file).stem]
    table = table.of_observers([table.observers.index(observer)])
    rows = np.stack([table.x, table.y, 1000 * table.start, 1000 * table.duration], 1)
    expected = np.array([row[2:] for row in golden["first"]], float)
    np.testing.assert_allclose(rows[: len(expected)], expected)
    later = tables("gaze:hands", drop_first=True)
    assert sum(map(len, later.values())) == golden["fixations_after_0_ms"]


def test_clips():
    golden, by_name = golden_of("hevc_gaze"), tables("hevc_gaze")
    entries = {entry.name: entry for entry in opened("hevc_gaze")[0]}
    assert {name for name, entry in entries.items() if not entry.frames} == {*golden["absent_in_this_copy"]}
    assert sum(map(len, by_name.values())) == golden["fixations"]
    for clip in golden["videos"]:
        entry, table = entries[clip["name"]], by_name[clip["name"]]
        assert (entry.frames, entry.fps) == (clip["frames"], pytest.approx(clip["rate"]))
        assert table.size == entry.frame_size == (clip["height"], clip["width"])
        assert len(table) == clip["fixations"]
        assert len(np.unique(table.observer)) == clip["observers"] <= len(table.observers)
        says = f"it has {clip['frames']} frames, the table says {clip['mat_frames']:g}"
        assert (says in entry.notes) == (clip["frames"] != clip["mat_frames"])
    for name in golden["absent_in_this_copy"]:
        assert entries[name].notes == ("there is no clip of it in videos/; its 0 rows are left out",)


def nss_of(unit: Unit, stored: np.ndarray | None) -> tuple[float, int]:
    """Returns the NSS of a stimulus, its fixations pooled, and how many frames are scored."""
    frames = scored_frames(unit.entry, SETTINGS.protocol)
    elsewhere = OtherFixations(unit, [unit], SETTINGS)
    scores = [
        frame_values(
            unit,
            frame,
            truth=elsewhere.take_truth(frame),
            stored=stored,
            elsewhere=elsewhere,
            settings=SETTINGS,
        )
        for frame in frames
    ]
    values, weights = [score["nss"] for score, _ in scores], [weight for _, weight in scores]
    return float(np.average(values, weights=weights)), len(frames)


def nss_by_stimulus(name: str, source) -> dict[str, tuple[float, int]]:
    entries, _ = opened(name, drop_first=name == "gaze:hands")
    result = {}
    for entry in entries:
        if entry.frames:
            stored = (
                None if isinstance(source, LeaveOneOut) else next(iter(source.maps(entry, SETTINGS.protocol)))
            )
            result[entry.name] = nss_of(Unit(entry, source), stored)
    return result


SOURCES = {"leave_one_out_nss": LeaveOneOut, "centre_nss": centre_maps}


@pytest.mark.slow
@pytest.mark.parametrize("figure", SOURCES)
@pytest.mark.parametrize("name", FOLDERS)
def test_nss_of_people_and_of_the_centre(name, figure):
    golden = golden_of(name)
    values = nss_by_stimulus(name, SOURCES[figure]())
    mean = np.mean([value for value, _ in values.values()])
    assert mean == pytest.approx(golden[figure], abs=NSS_TOLERANCE)
    for clip in golden.get("videos", ()):
        value, frames = values[clip["name"]]
        assert value == pytest.approx(clip[figure], abs=NSS_TOLERANCE), clip["name"]
        assert frames == clip["scored_frames"], clip["name"]


@pytest.mark.parametrize(
    ("figure", "stimuli"), [("leave_one_out_nss", ("RaceHorsesD", "Traffic")), ("centre_nss", ("Traffic",))]
)
def test_nss_of_a_few_clips(figure, stimuli):
    """The fast part of `test_nss_of_people_and_of_the_centre`."""
    clips = {clip["name"]: clip for clip in golden_of("hevc_gaze")["videos"]}
    source = SOURCES[figure]()
    for entry in opened("hevc_gaze")[0]:
        if entry.name in stimuli:
            stored = next(iter(source.maps(entry, SETTINGS.protocol)))
            value, _ = nss_of(Unit(entry, source), stored)
            assert value == pytest.approx(clips[entry.name][figure], abs=NSS_TOLERANCE)


def test_no_file_of_the_real_sets_is_in_the_checkout():
    root = needs.gaze_root()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("needs a git checkout: clone the repository")
    paths = [CHECKOUT / name for name in tracked.stdout.decode().split("\0") if name]
    sizes = {path.stat().st_size for path in gaze_files(root)}
    paths = [path for path in paths if path.is_file()]
    copies = [path for path in paths if path.stat().st_size in sizes and path.stat().st_size]
    real = {digest(path.read_bytes()) for path in gaze_files(root)} if copies else set()
    assert [path for path in copies if digest(path.read_bytes()) in real] == []
    names = {path.name for path in gaze_files(root) if path.suffix in (".mat", ".avi", ".jpg")}
    assert [path for path in paths if path.name in names] == []


def gaze_files(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of the sets, but for their licences, which a release may quote."""
    return [
        path
        for folder in needs.GAZE_FOLDERS
        for path in (root / folder).rglob("*")
        if path.is_file() and not path.name.startswith("LICENSE")
    ]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
