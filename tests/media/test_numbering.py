"""Which file is which frame's, where images, densities and fixation maps are numbered each in their own way.

Frame k (from 0) is written with a density of level 10 + k and one fixation at (k, k): a file that is taken
for another frame's gives another level and place.
"""

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.data.truth.truth_files import numbered_files
from avsal_jax.media.numbering import Numbers, place

SIZE = (20, 30)


def write(root, images, maps, fixations, video="v"):
    """Writes val/<video>; each kind is frame index -> number in the file's name."""
    for kind, numbers in (("images", images), ("maps", maps), ("fixation", fixations)):
        folder = root / "val" / video / kind
        folder.mkdir(parents=True, exist_ok=True)
        for k, number in numbers.items():
            array = np.full(SIZE, 10 + k, np.uint8)
            if kind == "fixation":
                array = np.zeros(SIZE, np.uint8)
                array[k, k] = 255
            Image.fromarray(array).save(folder / f"{number:04d}.png")
    return root


def number_frames(first, frames, start=0):
    """Frames start to frames - 1, the first of all numbered `first`."""
    return {k: first + k for k in range(start, frames)}


def opened(root, name="dhf1k:mine", split="val"):
    (entry,) = open_dataset(name, root, split)
    return entry


def agrees(entry):
    """Whether every frame has its own image, density and fixation."""
    for k in range(entry.frames):
        if entry.images.has(k):
            assert (entry.frame(k) == 10 + k).all()
        if entry.has_truth(k):
            assert (np.round(entry.truth(k).density * 255) == 10 + k).all()
            assert entry.truth(k).fixations.points.tolist() == [[k, k]]


@pytest.mark.parametrize("fixations", [0, 1])
@pytest.mark.parametrize("maps", [0, 1])
@pytest.mark.parametrize("images", [0, 1])
def test_kinds_of_equal_number_may_each_count_from_0_or_1(tmp_path, images, maps, fixations):
    kinds = [number_frames(first, 12) for first in (images, maps, fixations)]
    entry = opened(write(tmp_path, *kinds))
    agrees(entry)
    assert entry.frames == 12 and entry.without_truth == 0 and all(map(entry.has_truth, range(12)))
    messages = [note for note in entry.notes if "is taken for frame" in note]
    assert len(messages) == (maps != images) + (fixations != images)
    if maps != images:
        span = {0: "0 to 11", 1: "1 to 12"}
        assert messages[0] == (
            f"the density maps are numbered {span[maps]}, the frames {span[images]}: number {maps} is taken "
            f"for frame {images}"
        )


# (number of the first of 12 frames, number of the first file, surplus of files over frames)
# -> number of the file that belongs to the first frame; None if the numbers are refused
TABLE = {
    # frames 0 to 11
    (0, 0, 0): 0,
    (0, 0, 1): 0,
    (0, 0, -1): 0,
    (0, 0, -6): None,
    (0, 1, 0): 1,
    (0, 1, 1): 1,
    (0, 1, -1): None,  # the first is missing, or the last
    (0, 1, -6): None,
    (0, 1, 6): None,
    # frames 1 to 12
    (1, 1, 0): 1,
    (1, 1, 1): 1,
    (1, 1, -1): 1,
    (1, 1, -6): None,  # every second frame?
    (1, 1, 12): None,  # twice as many
    (1, 0, 0): 0,
    (1, 0, 1): 0,
    (1, 0, -1): 0,
    (1, 0, -6): None,
    (1, 2, -1): 1,  # the first is missing
    (1, 2, 0): None,
    (1, 7, -6): 1,  # the second half
    (1, 9, -6): 1,  # STAViS leaves out eight and runs over the end by up to two
    (1, 10, -6): None,
    (1, 37, 0): 37,  # a shot with the numbers of the film
    (1, 37, 1): None,
    (1, 5, 0): None,
    # frames 37 to 48
    (37, 37, 0): 37,
    (37, 1, 0): 1,
    (37, 1, 1): 1,
    (37, 1, -6): None,
    (37, 0, 0): 0,
    (37, 1, 36): None,  # of the whole film
    (37, 40, -3): 37,
    (37, 20, 0): 20,
    (37, 20, 1): None,
    (37, 30, 0): None,
}


@pytest.mark.parametrize(("case", "expected"), TABLE.items())
def test_the_table_of_numberings(case, expected):
    first, files_first, surplus = case
    frames = Numbers(first, first + 11, 12)
    files = Numbers(files_first, files_first + 11 + surplus, 12 + surplus)
    if expected is not None:
        origin, message = place("maps", files, frames)
        assert origin == expected and bool(message) == (expected != first)
        return
    with pytest.raises(AvsalError) as error:
        place("maps", files, frames)
    for part in ("the maps are numbered", str(files), str(frames), "give both the same numbers"):
        assert part in str(error.value)


def test_shots_may_continue_the_numbers_of_the_film(tmp_path):
    for video, maps in (("a_2", number_frames(37, 12)), ("b_2", number_frames(1, 12))):
        write(tmp_path, number_frames(37, 12), maps, maps, video)
    (tmp_path / "val").rename(tmp_path / "test")
    for entry in open_dataset("hollywood2", tmp_path):
        agrees(entry)
        assert entry.frames == 12 and bool(entry.notes) == (entry.name == "b_2")


def test_numbers_that_do_not_fit_exclude_only_their_video(tmp_path):
    write(tmp_path, number_frames(0, 12), number_frames(1, 11), number_frames(1, 11), "bad")
    write(tmp_path, number_frames(1, 6), number_frames(1, 12), number_frames(1, 12), "thin")
    write(tmp_path, number_frames(1, 4), number_frames(1, 4), number_frames(1, 4), "good")
    bad, good, thin = open_dataset("dhf1k:mine", tmp_path, "val")
    assert (bad.frames, good.frames, thin.frames) == (0, 4, 0)
    assert bad.notes == (
        "the density maps are numbered 1 to 11, the frames 0 to 11: which belongs to which is not certain; "
        "give both the same numbers",
    )
    assert "numbered 1 to 12, the frames 1 to 6" in thin.notes[0]
    agrees(good)


def test_truth_with_holes(tmp_path):
    """At the beginning, in the middle, of one kind alone, and every third frame only."""
    frames = number_frames(1, 12)
    maps = {k: n for k, n in frames.items() if k not in (0, 5, 11)}
    fixations = {k: n for k, n in frames.items() if k not in (0, 7)}
    entry = opened(write(tmp_path / "holes", frames, maps, fixations))
    agrees(entry)
    # the last frame has no density, so that it is not used at all
    assert entry.frames == 11 and entry.without_truth == 4
    assert [k for k in range(11) if not entry.has_truth(k)] == [0, 5, 7]
    assert entry.notes[-1] == "12 images, 9 density maps, 10 fixation maps: 8 are used"
    third = {k: n for k, n in frames.items() if k % 3 == 2}
    entry = opened(write(tmp_path / "third", frames, third, third))
    agrees(entry)
    assert [k for k in range(entry.frames) if entry.has_truth(k)] == [2, 5, 8, 11]


def test_images_with_holes_keep_their_truth(tmp_path):
    images = {k: n for k, n in number_frames(1, 12).items() if k not in (0, 4)}
    entry = opened(write(tmp_path, images, number_frames(1, 12), number_frames(1, 12)))
    agrees(entry)
    assert entry.frames == 12 and entry.without_truth == 0
    assert entry.notes[-1] == (
        "2 of 12 images are missing (first 0001.png): no network can be run, only saved maps can be scored"
    )
    with pytest.raises(AvsalError, match=r"there is no file .*0005\.png"):
        entry.frame(4)
    late = opened(write(tmp_path / "late", *[number_frames(1, 12, 2)] * 3))
    assert late.frames == 10 and late.notes == () and (late.frame(0) == 12).all()


def test_numbers_that_run_away_are_refused(tmp_path):
    far = {0: 1, 1: 999_999_999}
    with pytest.raises(AvsalError, match="the numbers of the files reach to 999999999"):
        opened(write(tmp_path, far, far, far))


@pytest.mark.parametrize(
    "form",
    ["{:04d}.png", "img_{:05d}.png", "{:04d}_sal.png", "frame_{:04d}_pred.png", "{:04d}_map2.png", "{}.png",
     "v1_{:04d}_of_12.png"],
)  # fmt: skip
def test_the_number_of_the_frame_is_found_in_names(tmp_path, form):
    for number in range(1, 13):
        (tmp_path / form.format(number)).touch()
    (tmp_path / "cover_7.png").touch()
    files = numbered_files(tmp_path, {".png"})
    assert (files.first, files.last, files.count, files.other_names) == (1, 12, 12, 1)
    assert [files.name(k) for k in (1, 12)] == [form.format(1), form.format(12)]
