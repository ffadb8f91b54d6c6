"""How often the files of a frame's truth are opened: once in `avsal prepare`, once in `avsal evaluate`."""

import collections
import pathlib
import sys

import pytest

from avsal_jax.cli.main import main
from avsal_jax.testing import fake_data

_RUNS: list[collections.Counter] = []  # path -> how often it was opened; one while a command runs


def _count(event: str, arguments: tuple) -> None:
    if event == "open" and _RUNS and isinstance(arguments[0], (str, pathlib.Path)):
        _RUNS[-1][str(arguments[0])] += 1


sys.addaudithook(_count)  # for good: Python removes none


def stavis(root):
    fake_data.write_stavis(root, "DIEM", fake_data.fake_videos(), {"test": ("first_52x36", "third_40x48")})


def dhf1k(fixation):
    return lambda root: fake_data.write_dhf1k(root, fake_data.fake_videos(("0601", "0602", "0603")), fixation)


def rearranged(root):
    fake_data.write_rearranged(root, "test", fake_data.fake_videos(), first=21)


# packaging -> data set, split, writer, what the paths of its fixation maps hold
SETS = {
    "stavis": ("diem", "test", stavis, "fixMap"),
    "dhf1k": ("dhf1k", "val", dhf1k("png"), "/fixation/"),
    "dhf1k mat": ("dhf1k", "val", dhf1k("mat"), "/fixation/maps/"),
    "hollywood2": ("hollywood2", "test", rearranged, "/fixation/"),
    "ucf": ("ucf", "test", rearranged, "/fixation/"),
}


def opened(arguments, fixation: str) -> tuple[set[int], set[int]]:
    """Returns how often the density maps, and the fixation maps, of a set are opened by a command."""
    _RUNS.append(collections.Counter())
    try:
        assert main(arguments) == 0
    finally:
        counts = _RUNS.pop()
    root = arguments[arguments.index("--root") + 1]
    of_root = {path: count for path, count in counts.items() if path.startswith(root)}
    fixations = {count for path, count in of_root.items() if fixation in path}
    densities = {count for path, count in of_root.items() if "/maps/" in path and fixation not in path}
    return densities, fixations


@pytest.mark.parametrize("packaging", SETS)
def test_prepare_and_evaluate_read_the_truth_of_a_frame_once(packaging, tmp_path):
    dataset, split, write, fixation = SETS[packaging]
    root = tmp_path / "root"
    write(root)
    location = ["--dataset", dataset, "--root", str(root), "--output"]
    prepare = ["prepare", *location, str(tmp_path / "prepared"), "--size", "32x64", "--workers", "1"]
    assert opened(prepare, fixation) == ({1}, {1})
    evaluate = ["evaluate", *location, str(tmp_path / "results"), "--split", split, "--model", "centre"]
    evaluate += ["--protocol", "vinet", "--metrics", "cc,nss,auc_shuffled"]
    assert opened(evaluate, fixation) == ({1}, {1})
