"""Where the files of a video lie: the packagings of STAViS, of DHF1K, and of Hollywood-2 and UCF-Sports.

A packaging has `entry(row, dataset)` -> VideoEntry for a line of a list, whatever its files are like
(`VideoEntry.notes` says what disagrees); those without lists have `videos()` too.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable

from avsal_jax.data.images import IMAGE_SUFFIXES, natural_order, visible_files
from avsal_jax.data.numbering import Numbers, first_frame, place
from avsal_jax.data.schema import FileEntry, VideoEntry
from avsal_jax.data.truth_files import NumberedFiles, numbered_files
from avsal_jax.data.video_lists import ListedVideo
from avsal_jax.errors import AvsalError

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "validation"),
    "test": ("test", "testing"),
}
_FIRST_WITHHELD = 701  # DHF1K: the truth of its test videos is not published
_MAX_FRAMES = 1_000_000  # of a video, nine hours at 30 a second
_MAT = frozenset({".mat"})


class Stavis:
    """video_frames/, video_audio/ and annotations/, each with <set folder>/<video> (STAViS @71fd51f).

    Args:
      root: the folder that holds them.
      folders: set -> its folder, as `coutrot1` -> `Coutrot_db1`.
    """

    def __init__(self, root: pathlib.Path, folders: dict[str, str]):
        self._root, self._folders = root, folders
        if not (root / "video_frames").is_dir():
            raise AvsalError(
                f"{root} is no root in the packaging of STAViS: it has no folder video_frames "
                "(nor, it may be, video_audio, annotations and fold_lists)"
            )

    def check(self, dataset: str) -> None:
        """Raises AvsalError where the root does not hold the set."""
        frames = self._root / "video_frames"
        if not (frames / self._folders[dataset]).is_dir():
            there = ", ".join(p.name for p in visible_files(frames)) or "nothing"
            raise AvsalError(
                f"{self._root} has no {dataset}: there is no folder video_frames/{self._folders[dataset]}; "
                f"video_frames holds {there}"
            )

    def entry(self, row: ListedVideo, dataset: str) -> VideoEntry:
        folder = self._folders[dataset]
        truth = self._root / "annotations" / folder / row.video
        sound = self._root / "video_audio" / folder / row.video / f"{row.video}.wav"
        return _entry(
            row,
            dataset,
            images=self._root / "video_frames" / folder / row.video,
            maps=truth / "maps",
            fixation_maps=[
                (truth, _MAT, "fixMap_"),
                (truth, IMAGE_SUFFIXES, "fixMap_"),
            ],  # beside eye_tracks.mat
            sound=sound,
            may_lack_truth=_is_own(dataset),
        )


class Rearranged:
    """<split>/<video>/{images,maps,fixation}: Hollywood-2, UCF-Sports, and DHF1K as training code has it.

    Args:
      root: the folder that holds the splits (or, for videos that a list names, the videos).
      split: whose videos they are; videos that a list names are sought there first.
      shots: numbers of frames go on from shot to shot of one video, so the first is what is there.
      numbered: the names of videos are numbers, and these make the split (DHF1K).
    """

    def __init__(self, root: pathlib.Path, split: str, shots: bool = False, numbered: bool = False):
        self._root, self._split, self._shots, self._numbered = root, split, shots, numbered

    def check(self, dataset: str) -> None:
        """Holds for any set: the packaging has no folder of the set's own."""

    def videos(self) -> tuple[ListedVideo, ...]:
        """Returns the videos of the split, in the order of their names."""
        splits = SPLIT_FOLDERS if self._numbered else [self._split]
        folders = [folder for split in splits for folder in self._folders(split)]
        if not folders:
            raise AvsalError(
                f"{self._root} has no folder {' or '.join(SPLIT_FOLDERS[self._split])}: videos are sought in "
                "<split>/<video>/images, their truth in <split>/<video>/maps and fixation"
            )
        names = {p.name: p for folder in folders for p in visible_files(folder) if p.is_dir()}
        if odd := [name for name in names if not name.isprintable()]:
            raise AvsalError(f"{self._root} has a video named {odd[0]!a}; rename it in printable letters")
        found = sorted(names.values(), key=natural_order)
        if self._numbered:
            found = [p for p in found if _in_split(p.name, self._split)]
        if not found:
            raise AvsalError(
                f"there is no video of the split {self._split} in {', '.join(map(str, folders))}"
            )
        return tuple(ListedVideo(path.name) for path in found)

    def entry(self, row: ListedVideo, dataset: str) -> VideoEntry:
        splits = [self._split, *(split for split in SPLIT_FOLDERS if split != self._split)]
        parents = [folder for split in splits for folder in self._folders(split)] + [self._root]
        spellings = _spellings(row.video) if self._numbered else [row.video]
        video = _first_folder(p / name for p in parents for name in spellings)
        fixation = video / "fixation"
        return _entry(
            row,
            dataset,
            images=video / "images",
            maps=video / "maps",
            fixation_maps=[(fixation, IMAGE_SUFFIXES, None), (fixation, _MAT, None)],
            may_lack_truth=_withheld(row.video) if self._numbered else _is_own(dataset),
            shots=self._shots,
            variable="I",
        )

    def _folders(self, split: str) -> list[pathlib.Path]:
        return [self._root / n for n in SPLIT_FOLDERS[split] if (self._root / n).is_dir()]


class ReleasedDhf1k:
    """DHF1K as released: annotation/NNNN/{maps,fixation}, and frames that the user took from the videos.

    Frames are sought in annotation/NNNN/images, frames/NNNN, video/NNNN and videodata/NNNN/images.
    Fixation maps are images in fixation/, or .mat (variable `I`) in fixation/maps/ (where the archive has
    them) or maps/ (where its README has them).
    """

    def __init__(self, root: pathlib.Path, split: str):
        self._root, self._split = root, split

    def check(self, dataset: str) -> None:
        """Holds for any set: the packaging has no folder of the set's own."""

    def videos(self) -> tuple[ListedVideo, ...]:
        """Returns the videos of the split, in the order of their numbers; named NNNN as in annotation/."""
        parents = [self._root / n for n in ("annotation", "frames", "video", "videodata")]
        found = {p.name for folder in parents if folder.is_dir() for p in folder.iterdir() if p.is_dir()}
        numbers = sorted({int(name) for name in found if _in_split(name, self._split)})
        if not numbers:
            raise AvsalError(
                f"there is no video of the split {self._split} in {self._root / 'annotation'} or frames"
            )
        return tuple(ListedVideo(f"{number:04d}") for number in numbers)

    def entry(self, row: ListedVideo, dataset: str) -> VideoEntry:
        names = _spellings(row.video)
        truth = _first_folder(self._root / "annotation" / name for name in names)
        images = [truth / "images"]
        images += [self._root / parent / name for parent in ("frames", "video") for name in names]
        images += [self._root / "videodata" / name / "images" for name in names]
        fixation = truth / "fixation"
        return _entry(
            row,
            dataset,
            images=next((p for p in images if p.is_dir()), self._root / "frames" / row.video),
            maps=truth / "maps",
            fixation_maps=[
                (fixation, IMAGE_SUFFIXES, None),
                (fixation / "maps", _MAT, None),
                (truth / "maps", _MAT, None),
            ],
            may_lack_truth=_withheld(row.video),
            variable="I",
        )


def open_dhf1k(root: pathlib.Path, split: str) -> ReleasedDhf1k | Rearranged:
    """Returns the packaging of a root of DHF1K: as released, or re-arranged."""
    released = (root / "annotation").is_dir()
    return ReleasedDhf1k(root, split) if released else Rearranged(root, split, numbered=True)


def _entry(
    row: ListedVideo,
    dataset: str,
    images: pathlib.Path,
    maps: pathlib.Path,
    fixation_maps: list[tuple],
    sound: pathlib.Path | None = None,
    may_lack_truth: bool = False,
    shots: bool = False,
    variable: str = "eyeMap",
) -> VideoEntry:
    """Aligns the files of a video and notes what disagrees; `fixation_maps` are tried in turn.

    A video whose files cannot be aligned has `frames` 0, and a note that says why.
    """
    files = {
        "images": numbered_files(images, IMAGE_SUFFIXES),
        "density maps": numbered_files(maps, IMAGE_SUFFIXES),
        "fixation maps": next((f for place in fixation_maps if (f := numbered_files(*place))), None),
    }
    folders = {"images": images, "density maps": maps, "fixation maps": fixation_maps[0][0]}
    published = not (may_lack_truth and files["density maps"] is None and files["fixation maps"] is None)
    kinds = list(files) if published else ["images"]
    notes = [*row.notes, *(note for kind in kinds for note in _file_notes(kind, files[kind], folders[kind]))]
    frames = without_truth = 0
    try:
        files, told = _aligned(files, shots)
        frames, without_truth, counted = _count(files, kinds, row.frames)
        notes += told + counted
    except AvsalError as error:
        notes.append(str(error))
    if sound is not None and not sound.is_file():
        notes.append(f"no sound: there is no file {sound}")
        sound = None
    return FileEntry(
        dataset=dataset,
        name=row.video,
        frames=frames,
        fps=row.fps,
        listed=row.frames,
        category=row.category,
        notes=tuple(notes),
        sound=sound,
        images=files["images"],
        maps=files["density maps"],
        fixation_maps=files["fixation maps"],
        published=published,
        without_truth=without_truth,
        variable=variable,
    )


_Files = dict[str, NumberedFiles | None]


def _aligned(files: _Files, shots: bool) -> tuple[_Files, list[str]]:
    """Returns the files with the number that frame 0 has in each kind, and a line for each that differs.

    Raises:
      AvsalError: it is not certain which file belongs to which frame.
    """
    for kind, found in files.items():
        if found is not None and found.others > found.count:
            raise AvsalError(
                f"the names of the {kind} in {found.folder} differ in more than the number of the frame: "
                f"{found.count} are like {found.name(found.first)}, {found.others} are not; rename them"
            )
    images = files["images"]
    if images is None:
        return files, []
    truths = {kind: found.numbers for kind, found in files.items() if found is not None and kind != "images"}
    first = first_frame(images.numbers, truths, shots)
    frames = Numbers(first, images.last, images.count)
    aligned, notes = {**files, "images": dataclasses.replace(images, origin=first)}, []
    for kind, numbers in truths.items():
        origin, told = place(kind, numbers, frames)
        aligned[kind] = dataclasses.replace(files[kind], origin=origin)
        notes += [told] if told else []
    return aligned, notes


def _count(files: _Files, kinds: list[str], listed: int | None) -> tuple[int, int, list[str]]:
    """Returns (frames, how many images have no truth, notes on what differs).

    Raises:
      AvsalError: the numbers of the images reach too far.
    """
    counts = {} if listed is None else {"frames in the list": listed}
    lengths = dict(counts)
    for kind in kinds:
        found = files[kind]
        if found is not None or kind != "fixation maps":  # which training can do without
            counts[kind] = found.count if found else 0
            lengths[kind] = found.length if found else 0
    frames = min(lengths.values())
    if frames > _MAX_FRAMES:
        raise AvsalError(
            f"the numbers of the files reach to {frames}; a video has at most {_MAX_FRAMES} frames"
        )
    truth = [files[kind] for kind in kinds if kind != "images" and files[kind] is not None]
    usable = sum(all(found.has(index) for found in truth) for index in range(frames))
    shown = min(lengths.get("frames in the list", lengths["images"]), lengths["images"])
    notes = []
    if images := [index for index in range(frames) if not files["images"].has(index)]:
        lost = files["images"].of_frame(images[0])
        notes.append(
            f"{len(images)} of {frames} images are missing (first {lost.name}): no network can be run, "
            "only saved maps can be scored"
        )
    if usable < frames or (not images and len(set(counts.values())) > 1):
        notes.append(f"{', '.join(f'{n} {kind}' for kind, n in counts.items())}: {usable} are used")
    return frames, max(0, shown - usable), notes


def _file_notes(kind: str, files: NumberedFiles | None, folder: pathlib.Path) -> list[str]:
    if files is None:
        return [f"no {kind} in {folder}"]
    notes = []
    missing = files.last - files.first + 1 - files.count
    if missing and kind != "images":  # of which `_count` says more
        notes.append(f"{missing} of the {kind} from {files.first} to {files.last} are missing")
    return notes + files.notes


def _first_folder(paths: Iterable[pathlib.Path]) -> pathlib.Path:
    """Returns the first path that is a folder, or else the first path."""
    paths = list(paths)
    return next((path for path in paths if path.is_dir()), paths[0])


def _spellings(video: str) -> list[str]:
    """DHF1K numbers its videos with three digits, and their annotation with four."""
    return [video, f"{int(video):04d}", f"{int(video):03d}"] if video.isdecimal() else [video]


def _in_split(video: str, split: str) -> bool:
    low, high = {"train": (1, 600), "val": (601, 700), "test": (701, 1000)}[split]
    return video.isdecimal() and low <= int(video) <= high


def _is_own(dataset: str) -> bool:
    """Whether it is a user's own set, as stavis:NAME; such a one may come without truth."""
    return ":" in dataset


def _withheld(video: str) -> bool:
    return video.isdecimal() and int(video) >= _FIRST_WITHHELD
