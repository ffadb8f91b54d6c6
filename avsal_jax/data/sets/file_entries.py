"""A video of numbered files: which file belongs to which frame, and what disagrees among the files."""

from __future__ import annotations

import dataclasses
import pathlib

from avsal_jax.data.sets.entries import FileEntry
from avsal_jax.data.sets.video_lists import ListedVideo
from avsal_jax.data.truth.truth_files import NumberedFiles, numbered_files
from avsal_jax.errors import AvsalError
from avsal_jax.media.images import IMAGE_SUFFIXES
from avsal_jax.media.numbering import Numbers, first_frame, place

_MAX_FRAMES = 1_000_000  # of a video, nine hours at 30 a second


def file_entry(
    row: ListedVideo,
    dataset: str,
    images: pathlib.Path,
    maps: pathlib.Path,
    fixation_maps: list[tuple],
    sound: pathlib.Path | None = None,
    may_lack_truth: bool = False,
    shots: bool = False,
    variable: str = "eyeMap",
) -> FileEntry:
    """Aligns the files of a video and notes what disagrees.

    A video whose files cannot be aligned has `frames` 0, and a note that says why.

    Args:
      row: the video, with its rate.
      dataset: its set.
      images, maps: folders of the frames and of the density maps.
      fixation_maps: arguments of `numbered_files` (folder, suffixes, prefix), which are tried in turn.
      sound: the sound file, which may be missing; None for a set without sound.
      may_lack_truth: without any file of the truth, none is published.
      shots: numbers of frames continue from shot to shot of a video, so the first is the one on disk.
      variable: of fixation maps that are .mat files.
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
