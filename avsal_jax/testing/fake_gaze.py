"""Small invented sets of recorded gaze, in the layouts of the public repositories, and what lies in them.

Stimuli have names that the project's lists know, so that splits, folds and groups can be tested. Nothing is
copied from a real set.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import scipy.io
from PIL import Image

from avsal_jax.data.gaze.hevc_gaze import read_hevc_gaze
from avsal_jax.data.gaze.photograph_sets import read_eye_mat, read_sun_scenes
from avsal_jax.testing.videos import moving_spot, write_video

FIELDS = ("SubjectIndex", "VideoIndex", "Timestamp", "GazeDuration", "FixationPointX", "FixationPointY")
_HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan 01 00:00:00 2024 HDF5 schema 1.00 ."


@dataclasses.dataclass(frozen=True)
class FakeStimulus:
    """A picture or a clip, and where people looked.

    Attributes:
      name: without suffix.
      size: (height, width) in pixels, of the file.
      rows: float64 [N, 5] by observer and time: observer (from 0), x, y (pixels of the file), start and
        duration (seconds).
      observers: how many there are.
      frames, rate: of a clip.
      file: name of the file; empty for the usual one, None for a file that is missing.
      stated_size, stated_frames: what the table says of a clip; None for the truth.
    """

    name: str
    size: tuple[int, int]
    rows: np.ndarray
    observers: int
    frames: int = 1
    rate: int = 25
    file: str | None = ""
    stated_size: tuple[int, int] | None = None
    stated_frames: int | None = None


def fake_stimulus(
    name: str,
    size: tuple[int, int] = (48, 64),
    observers: int = 4,
    seconds: float = 2.0,
    seed: int = 0,
    **options,
) -> FakeStimulus:
    """Makes a stimulus on which most look near one place, one after the other at several, and one outside."""
    random, (height, width) = np.random.default_rng([seed, *name.encode()]), size
    centre = random.uniform(0.3, 0.7, 2) * (width, height)
    rows = []
    for observer in range(observers):
        time = 0.001 * random.integers(0, 120)
        while time < seconds:
            duration = 0.001 * random.integers(150, 500)
            spread = (0.1, 0.3)[random.integers(2)]
            x, y = np.clip(random.normal(centre, spread * height), 0, (width - 0.25, height - 0.25))
            rows.append((observer, round(x, 2), round(y, 2), round(time, 3), round(duration, 3)))
            time += duration + 0.001 * random.integers(15, 60)
    rows[-1] = (rows[-1][0], -3.0, 5.0, *rows[-1][3:])
    return FakeStimulus(name, size=size, rows=np.array(rows), observers=observers, **options)


def fake_photographs(names: Sequence[str], **options) -> tuple[FakeStimulus, ...]:
    """Makes photographs of different sizes, one of them upright."""
    sizes = ((48, 64), (60, 80), (64, 48))
    return tuple(fake_stimulus(name, sizes[i % 3], **options) for i, name in enumerate(names))


def fake_clips() -> tuple[FakeStimulus, ...]:
    """Makes clips: three good ones of which two show nearly the same, and four that are unusual.

    The file of `BasketballDrive` has a space in its name, `Kimono` is missing, `Johnny` is half as large as
    the table says, and `Tennis` has two frames less than it says.
    """

    def clip(name: str, size: tuple[int, int] = (48, 64), frames: int = 50, **options) -> FakeStimulus:
        return fake_stimulus(name, size, **{"observers": 8, "frames": frames, **options})

    return (
        clip("BasketballDrill"),
        clip("BasketballDrillText", seed=1),
        clip("Traffic", (54, 96), frames=60, rate=30, observers=5, seed=1),
        clip("BasketballDrive", file="Basketball Drive.avi"),
        clip("Kimono", file=None),
        clip("Johnny", stated_size=(96, 128)),
        clip("Tennis", frames=48, stated_frames=50),
    )


def write_eye_mat(root, photographs: Sequence[FakeStimulus]) -> pathlib.Path:
    """Writes OSIE or EyeCrowd: a cell per picture with `img` and `subjects`, MATLAB 5; no times."""
    root = pathlib.Path(root)
    _write_pictures(root, photographs)
    write_cells(root / "data" / "eye" / "fixations.mat", [eye_record(p) for p in photographs])
    return root


def eye_record(photograph: FakeStimulus) -> dict:
    """Returns the structure of a picture in OSIE's table."""
    subjects = np.empty((photograph.observers, 1), object)
    for observer in range(photograph.observers):
        rows = photograph.rows[photograph.rows[:, 0] == observer]
        subjects[observer, 0] = {
            "fix_x": rows[:, 1:2],
            "fix_y": rows[:, 2:3],
            "fix_duration": np.rint(1000 * rows[:, 4:5]),
        }
    return {"img": photograph.file or f"{photograph.name}.jpg", "subjects": subjects}


def write_cells(path: pathlib.Path, records: Sequence) -> None:
    """Writes `fixations`, a column of cells."""
    cells = np.empty((len(records), 1), object)
    for index, record in enumerate(records):
        cells[index, 0] = record
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"fixations": cells}, do_compression=True)


def write_sun_scenes(root, photographs: Sequence[FakeStimulus], absent=((0, 1),)) -> pathlib.Path:
    """Writes scenes of SUN2012: cells pictures x observers with the columns y, x, start, duration.

    Args:
      root: the folder to write into.
      photographs: in the order of their names.
      absent: (index of the picture, observer) of cells that are left empty.
    """
    root = pathlib.Path(root)
    _write_pictures(root, photographs)
    cells = np.empty((len(photographs), max(p.observers for p in photographs)), object)
    for picture, photograph in enumerate(photographs):
        for observer in range(cells.shape[1]):
            rows = photograph.rows[photograph.rows[:, 0] == observer]
            is_absent = (picture, observer) in absent
            cells[picture, observer] = np.zeros((0, 0)) if is_absent else rows[:, [2, 1, 3, 4]]
    (root / "data" / "tidy").mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(root / "data" / "tidy" / "fixations.mat", {"fixations": cells}, do_compression=True)
    return root


def _write_pictures(root: pathlib.Path, photographs: Sequence[FakeStimulus]) -> None:
    folder = root / "data" / "stimuli"
    folder.mkdir(parents=True, exist_ok=True)
    for photograph in photographs:
        if photograph.file is not None:
            image = moving_spot(1, *photograph.size)[0]
            Image.fromarray(image).save(folder / (photograph.file or f"{photograph.name}.jpg"))


def write_hevc_gaze(
    root, clips: Sequence[FakeStimulus], fields: Sequence[str] = FIELDS, more_rows=()
) -> pathlib.Path:
    """Writes clips as videos/NAME.avi and `video_database.mat`, HDF5 as MATLAB 7.3 writes it.

    Args:
      root: the folder to write into.
      clips: of FakeStimulus.
      fields: the columns of `fixdata` in order.
      more_rows: rows in the order of FIELDS, put behind the others as they are.
    """
    root = pathlib.Path(root)
    (root / "videos").mkdir(parents=True)
    for clip in clips:
        if clip.file is not None:
            path = root / "videos" / (clip.file or f"{clip.name}.avi")
            write_video(path, moving_spot(clip.frames, *clip.size), rate=clip.rate, codec="mpeg4")
    write_database(root / "video_database.mat", clips, fields=fields, more_rows=more_rows)
    return root


def write_database(path, clips: Sequence[FakeStimulus], fields=FIELDS, more_rows=()) -> None:
    """Writes the table of `write_hevc_gaze` alone; see there."""
    import h5py

    sizes = np.array([clip.stated_size or clip.size for clip in clips], float)
    rows = [row for number, clip in enumerate(clips, 1) for row in _database_rows(clip, number)]
    table = np.array([*rows, *more_rows], float)[:, [FIELDS.index(field) for field in fields]]
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("video_database")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        group.create_dataset("fixdata", data=table.T, compression="gzip")
        people = [f"person {number}" for number in range(1, max(clip.observers for clip in clips) + 1)]
        _write_texts(group, "fixdata_fields", fields)
        _write_texts(group, "subj_names_list", people)
        _write_texts(group, "video_names_list", [clip.name for clip in clips])
        info = group.create_group("videos_info")
        info["size"] = sizes[:, ::-1].T  # width, height
        info["frames"] = np.array([[clip.stated_frames or clip.frames for clip in clips]], float)
        info["framerate_fps"] = np.array([[clip.rate for clip in clips]], float)
    with pathlib.Path(path).open("r+b") as file:
        file.write(_HEADER.ljust(124) + b"\x00\x02IM")


def _database_rows(clip: FakeStimulus, number: int) -> list[tuple]:
    """Rows in the order of FIELDS: times in ms, positions in pixels of the size that the table states."""
    height, width = clip.stated_size or clip.size
    scale_x, scale_y = width / clip.size[1], height / clip.size[0]
    return [
        (observer + 1, number, np.rint(1000 * start), np.rint(1000 * duration), x * scale_x, y * scale_y)
        for observer, x, y, start, duration in clip.rows
    ]


def _write_texts(group, name: str, texts: Sequence[str]) -> None:
    """Writes a cell array of texts: references to their letters."""
    import h5py

    store = group.file.require_group("#refs#")
    references = []
    for text in texts:
        letters = store.create_dataset(
            f"{name}_{len(store)}", data=np.frombuffer(text.encode("utf-16-le"), "<u2")[:, None]
        )
        letters.attrs["MATLAB_class"] = np.bytes_("char")
        references.append(letters.ref)
    data = group.create_dataset(name, (1, len(texts)), dtype=h5py.ref_dtype)
    data[0, :] = references


def write_recordings(root, stimuli: Sequence[FakeStimulus]) -> pathlib.Path:
    """Writes `gaze:NAME`: photographs as PNG, clips as MP4, and fixations.csv."""
    root = pathlib.Path(root)
    (root / "stimuli").mkdir(parents=True)
    lines = ["stimulus,observer,x,y,start_ms,duration_ms"]
    for stimulus in stimuli:
        name = stimulus.file or f"{stimulus.name}.{'png' if stimulus.frames == 1 else 'mp4'}"
        images = moving_spot(stimulus.frames, *stimulus.size)
        if stimulus.file is None:
            pass
        elif stimulus.frames == 1:
            Image.fromarray(images[0]).save(root / "stimuli" / name)
        else:
            write_video(root / "stimuli" / name, images, rate=stimulus.rate)
        lines += [
            f"{name},person {int(observer) + 1},{x},{y},{round(1000 * start)},{round(1000 * duration)}"
            for observer, x, y, start, duration in stimulus.rows
        ]
    (root / "fixations.csv").write_text("\n".join(lines) + "\n")
    return root


# reader of a packaging of recorded gaze -> function that writes what it reads
WRITERS: dict[Callable, Callable] = {
    read_eye_mat: write_eye_mat,
    read_sun_scenes: write_sun_scenes,
    read_hevc_gaze: write_hevc_gaze,
}
