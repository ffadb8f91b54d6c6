"""A stimulus as a video of a set: which fixations belong to a frame, maps, identity."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.data.gaze.fixation_table import FixationTable
from avsal_jax.data.gaze.gaze_entries import gaze_entry
from avsal_jax.data.gaze.stimuli import Blur, GazeOptions, Stimulus
from avsal_jax.testing.fake_gaze import fake_stimulus
from avsal_jax.testing.videos import moving_spot, write_video
from tests.media.test_frame_reader import TIMES_MS, cut_off, write_variable

OPTIONS = GazeOptions()


def stimulus_of(path, truth, is_video: bool) -> Stimulus:
    observers = [f"observer {number}" for number in range(truth.observers)]
    table = FixationTable.of_rows(observers, truth.size, truth.rows)
    return Stimulus(truth.name, path, is_video=is_video, fixations=table)


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    truth = fake_stimulus("photograph", (48, 64), seed=3)
    path = tmp_path_factory.mktemp("photograph") / "photograph.png"
    Image.fromarray(moving_spot(1, *truth.size)[0]).save(path)
    return truth, stimulus_of(path, truth, is_video=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip whose frames are at TIMES_MS."""
    truth = fake_stimulus("clip", (48, 64), observers=6, seconds=1.6)
    path = write_variable(tmp_path_factory.mktemp("clip") / "clip.mp4")
    return truth, stimulus_of(path, truth, is_video=True)


def expected_cells(rows, size, grid):
    cells = [
        (int(y / size[0] * grid[0]), int(x / size[1] * grid[1]))
        for _, x, y, _, _ in rows
        if 0 <= x < size[1] and 0 <= y < size[0]
    ]
    return np.array(cells, int).reshape(-1, 2)


def test_fixations_of_a_frame_last_at_its_presentation(clip):
    truth, stimulus = clip
    entry = gaze_entry("hevc_gaze", stimulus, OPTIONS)
    assert entry.frames == len(TIMES_MS)
    for index, milliseconds in enumerate(TIMES_MS):
        assert entry.frame_time(index) == pytest.approx(milliseconds / 1000, abs=1e-3)
        time = entry.frame_time(index)
        rows = [row for row in truth.rows if row[3] <= time < row[3] + row[4]]
        table = entry.table(index)
        np.testing.assert_allclose(
            np.stack([table.observer, table.x, table.y], 1),
            np.array([row[:3] for row in rows]).reshape(-1, 3),
        )
        np.testing.assert_array_equal(
            entry.truth(index).grid_points((72, 96)), expected_cells(rows, truth.size, (72, 96))
        )
        assert len(set(table.observer)) == len(table)  # each looks at one place at a time


def test_the_ends_of_a_fixation():
    rows = [(0, 1, 1, 1.0, 0.5)]
    table = FixationTable.of_rows(["a"], (10, 10), rows)
    assert [len(table.during(time)) for time in (0.999, 1.0, 1.499, 1.5)] == [0, 1, 1, 0]
    unknown = FixationTable.of_rows(["a"], (10, 10), [(0, 1, 1, np.nan, 0.5)])
    assert len(unknown.during(0.0)) == 0


def test_a_photograph_has_all_fixations_inside(photograph):
    truth, stimulus = photograph
    entry = gaze_entry("osie", stimulus, OPTIONS)
    assert entry.frames == 1 and entry.is_still and entry.frame_time(0) == 0
    assert len(entry.table(0)) == len(truth.rows)
    np.testing.assert_array_equal(
        entry.truth(0).grid_points((72, 96)), expected_cells(truth.rows, truth.size, (72, 96))
    )
    assert entry.notes == (f"1 of {len(truth.rows)} fixations lie outside it: they are left out",)
    np.testing.assert_array_equal(entry.frame(0), np.asarray(Image.open(stimulus.path)))
    np.testing.assert_array_equal(next(entry.iter_frames()), entry.frame(0))


@pytest.mark.parametrize(
    ("options", "sigma"),
    [
        (GazeOptions(), 0.05 * 48),
        (GazeOptions(sigma=Blur(10, "%")), 0.1 * 48),
        (GazeOptions(sigma=Blur(7, "px")), 7),
        (GazeOptions(sigma=Blur(0.5, "deg"), pixels_per_degree=12), 6),
    ],
)
def test_density(photograph, options, sigma):
    truth, stimulus = photograph
    entry = gaze_entry("osie", stimulus, options)
    assert entry.truth(0).size == truth.size
    counts = np.zeros(truth.size)
    for row, column in expected_cells(truth.rows, truth.size, truth.size):
        counts[row, column] += 1
    blurred = scipy.ndimage.gaussian_filter(counts, sigma)
    assert blurred.sum() == pytest.approx(len(truth.rows) - 1, rel=1e-9)
    np.testing.assert_allclose(entry.truth(0).density, blurred / blurred.max(), atol=1e-12)
    assert entry.truth(0).density.max() == 1
    points = {tuple(point) for point in entry.truth(0).fixations.points.tolist()}
    assert points == set(map(tuple, np.argwhere(counts).tolist()))


def test_degrees_need_pixels_per_degree():
    with pytest.raises(AvsalError, match="a blur of 1deg needs --pixels-per-degree"):
        GazeOptions(sigma=Blur(1, "deg"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((48, 64), (48, 64)), ((1080, 1920), (360, 640)), ((720, 480), (360, 240)), ((800, 1), (360, 1))],
)
def test_truth_has_at_most_360_rows(photograph, size, expected):
    table = dataclasses.replace(photograph[1].fixations, size=size)
    entry = gaze_entry("osie", dataclasses.replace(photograph[1], fixations=table), OPTIONS)
    assert entry.truth_size == expected


def test_any_subset_of_observers(photograph):
    truth, stimulus = photograph
    for observers in ([0], [1, 3], [0, 1, 2, 3], []):
        part = stimulus.fixations.of_observers(observers)
        rows = truth.rows[np.isin(truth.rows[:, 0], observers)]
        assert part.observers == stimulus.fixations.observers
        np.testing.assert_array_equal(part.cells((9, 12)), expected_cells(rows, truth.size, (9, 12)))
        assert part.counts((9, 12)).sum() == len(part.cells((9, 12)))
        assert part.density((9, 12), 1.5).sum() == pytest.approx(len(part.cells((9, 12))))


def test_identity_changes_with_whatever_results_depend_on(photograph, tmp_path):
    _, stimulus = photograph
    table = stimulus.fixations
    entry = gaze_entry("osie", stimulus, OPTIONS)
    assert entry.identity() == gaze_entry("osie", stimulus, OPTIONS).identity()
    variants = [
        dataclasses.replace(entry, options=GazeOptions(sigma=Blur(6))),
        dataclasses.replace(entry, options=GazeOptions(pixels_per_degree=30)),
    ]
    for column in ("x", "y", "start", "duration", "observer"):
        values = getattr(table, column).copy()
        values[2] += 1
        changed = dataclasses.replace(table, **{column: values})
        variants.append(dataclasses.replace(entry, stimulus=dataclasses.replace(stimulus, fixations=changed)))
    changed = dataclasses.replace(table, observers=table.observers[::-1])
    variants.append(dataclasses.replace(entry, stimulus=dataclasses.replace(stimulus, fixations=changed)))
    other = tmp_path / "photograph.png"
    other.write_bytes(stimulus.path.read_bytes())
    variants.append(dataclasses.replace(entry, stimulus=dataclasses.replace(stimulus, path=other)))
    identities = [str(variant.identity()) for variant in variants]
    assert len({str(entry.identity()), *identities}) == 1 + len(variants)


def test_a_missing_file_is_one_note(photograph):
    stimulus = dataclasses.replace(photograph[1], path=None, notes=("there is no picture x.jpg",))
    entry = gaze_entry("osie", stimulus, OPTIONS)
    assert entry.frames == 0 and not entry.has_files
    assert entry.notes == ("there is no picture x.jpg",)


def test_a_stimulus_without_gaze_has_no_frame(photograph):
    nowhere = photograph[1].fixations.rows(~photograph[1].fixations.is_inside)
    entry = gaze_entry("osie", dataclasses.replace(photograph[1], fixations=nowhere), OPTIONS)
    assert entry.frames == 0
    assert entry.notes[-1] == "no observer has a fixation on it"


def test_a_video_that_cannot_be_read_or_is_cut_off(clip, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x" * 1000)
    entry = gaze_entry("hevc_gaze", dataclasses.replace(clip[1], path=path), OPTIONS)
    assert entry.frames == 0 and "clip.mp4" in entry.notes[-1]
    path = write_video(tmp_path / "clip.avi", moving_spot(20, 48, 64), codec="mpeg4")
    cut_off(path)
    entry = gaze_entry("hevc_gaze", dataclasses.replace(clip[1], path=path), OPTIONS)
    assert 0 < entry.frames < 20
    assert f"cut off: {entry.frames} frames can be read" in entry.notes[-1]
    assert len(list(entry.iter_frames())) == entry.frames
    assert entry.frame_name(3) == "clip_000004.png"
