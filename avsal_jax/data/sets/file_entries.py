"""A video of numbered files: assigns files to frames, and notes inconsistencies among the files."""

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
    """Aligns the files of a video and notes inconsistencies.

    A video whose files cannot be aligned has `frames` 0, and a note with the reason.

    Args:
      row: the video, with its rate.
      dataset: its set.
      images, maps: folders of the frames and of the density maps.
      fixation_maps: arguments of `numbered_files` (folder, suffixes, prefix); the first match is used.
      sound: the sound file, which may be missing; None for a set without sound.
      may_lack_truth: whether a video without truth files counts as unpublished truth.
      shots: whether frame numbers continue from shot to shot of a video, so that the first number is that of
        the first file.
      variable: of fixation maps in .mat files.
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
        files, alignment_notes = _aligned(files, shots)
        frames, without_truth, count_notes = _count(files, kinds, row.frames)
        notes += alignment_notes + count_notes
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
        listed_frames=row.frames,
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
    """Returns the files with the number of frame 0 in each kind, and a note for each that differs.

    Raises:
      AvsalError: it is not certain which file belongs to which frame.
    """
    for kind, group in files.items():
        if group is not None and group.other_names > group.count:
            raise AvsalError(
                f"the names of the {kind} in {group.folder} differ in more than the number of the frame: "
                f"{group.count} are like {group.name(group.first)}, {group.other_names} are not; rename them"
            )
    images = files["images"]
    if images is None:
        return files, []
    truths = {kind: group.numbers for kind, group in files.items() if group is not None and kind != "images"}
    first = first_frame(images.numbers, truths, shots)
    frames = Numbers(first, images.last, images.count)
    aligned, notes = {**files, "images": dataclasses.replace(images, origin=first)}, []
    for kind, numbers in truths.items():
        origin, note = place(kind, numbers, frames)
        aligned[kind] = dataclasses.replace(files[kind], origin=origin)
        notes += [note] if note else []
    return aligned, notes


def _count(files: _Files, kinds: list[str], list_frames: int | None) -> tuple[int, int, list[str]]:
    """Returns (frames, number of images without truth, notes on differences).

    Raises:
      AvsalError: the numbers of the images exceed the limit.
    """
    counts = {} if list_frames is None else {"frames in the list": list_frames}
    lengths = dict(counts)
    for kind in kinds:
        group = files[kind]
        if group is not None or kind != "fixation maps":  # which are optional for training
            counts[kind] = group.count if group else 0
            lengths[kind] = group.length if group else 0
    frames = min(lengths.values())
    if frames > _MAX_FRAMES:
        raise AvsalError(
            f"the numbers of the files reach to {frames}; a video has at most {_MAX_FRAMES} frames"
        )
    truth = [files[kind] for kind in kinds if kind != "images" and files[kind] is not None]
    usable = sum(all(group.has(index) for group in truth) for index in range(frames))
    image_count = min(lengths.get("frames in the list", lengths["images"]), lengths["images"])
    notes = []
    if images := [index for index in range(frames) if not files["images"].has(index)]:
        first_missing = files["images"].of_frame(images[0])
        notes.append(
            f"{len(images)} of {frames} images are missing (first {first_missing.name}): no network can be "
            "run, only saved maps can be scored"
        )
    if usable < frames or (not images and len(set(counts.values())) > 1):
        notes.append(f"{', '.join(f'{n} {kind}' for kind, n in counts.items())}: {usable} are used")
    return frames, max(0, image_count - usable), notes


def _file_notes(kind: str, files: NumberedFiles | None, folder: pathlib.Path) -> list[str]:
    if files is None:
        return [f"no {kind} in {folder}"]
    notes = []
    missing = files.last - files.first + 1 - files.count
    if missing and kind != "images":  # which `_count` reports
        notes.append(f"{missing} of the {kind} from {files.first} to {files.last} are missing")
    return notes + files.notes
