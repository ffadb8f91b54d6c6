"""Small data sets with real files in every packaging, and the values that were written.

Sizes, rates and lengths differ per video. Two videos are irregular: one has frames with black truth (zero
density, no fixations), and the list of the other states more frames than it has files.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import scipy.io
import scipy.io.wavfile
from PIL import Image

SAMPLE_RATE = 22_050


@dataclasses.dataclass(frozen=True)
class FakeVideo:
    """The content of a generated video and of its truth.

    Attributes:
      name: of the video.
      fps: frames per second, as in the lists.
      frames: uint8 [N, H, W, 3].
      densities: uint8 [N, H, W].
      fixations: int32 [K, 2] per frame, (row, column), row by row.
      listed_frames: the number of frames that its list states.
      black: the frames whose truth is black.
      sound: float32 [samples] in [-1, 1] at SAMPLE_RATE.
    """

    name: str
    fps: float
    frames: np.ndarray
    densities: np.ndarray
    fixations: tuple[np.ndarray, ...]
    listed_frames: int
    black: tuple[int, ...]
    sound: np.ndarray


def fake_video(
    name: str,
    count: int = 6,
    size: tuple[int, int] = (36, 52),
    fps: float = 24.99975,
    listed_frames: int | None = None,
    black: tuple[int, ...] = (),
    seed: int = 0,
) -> FakeVideo:
    """Makes a video with sound: a bright spot moves over grey, and fixations are near it."""
    rng = np.random.RandomState(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    densities = np.zeros((count, height, width), np.uint8)
    fixations = []
    for index in range(count):
        y, x = rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
        spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (0.02 * height * width))
        frames[index] = (60 + 150 * spot[..., None] * (1.0, 0.8, 0.4)).astype(np.uint8)
        points = rng.uniform((0, 0), size, (7, 2)) * 0.3 + 0.7 * np.array([y, x])
        if index in black:
            points = points[:0]
        else:
            densities[index] = np.round(255 * spot / spot.max())
        fixations.append(np.unique(points.astype(np.int32), axis=0))
    sound = 0.4 * np.sin(np.arange(int(count / fps * SAMPLE_RATE)) * rng.uniform(0.02, 0.1))
    return FakeVideo(
        name,
        fps=fps,
        frames=frames,
        densities=densities,
        fixations=tuple(fixations),
        listed_frames=count if listed_frames is None else listed_frames,
        black=tuple(black),
        sound=sound.astype(np.float32),
    )


def fake_videos(names=("first_52x36", "second_64x40", "third_40x48")) -> tuple[FakeVideo, ...]:
    """Makes three videos: a good one, one with black truth, one with fewer frames than its list states."""
    return (
        fake_video(names[0], count=6, size=(36, 52), fps=24.99975, seed=1),
        fake_video(names[1], count=7, size=(40, 64), fps=29.9997, black=(0, 4), seed=2),
        fake_video(names[2], count=5, size=(48, 40), fps=24.99975, listed_frames=6, seed=3),
    )


def write_stavis(root, folder: str, videos, lists: dict[str, tuple[str, ...]] | None = None) -> pathlib.Path:
    """Writes videos in the packaging of STAViS.

    Args:
      root: the folder to write into; several sets may share one.
      folder: the set's, as `DIEM` or `Coutrot_db1`.
      videos: of FakeVideo.
      lists: `train_1` -> names of its videos, for fold_lists/<folder>_list_train_1_fps.txt.
    """
    root = pathlib.Path(root)
    for video in videos:
        truth = root / "annotations" / folder / video.name
        _write_images(root / "video_frames" / folder / video.name, "img_{:05d}.jpg", video.frames)
        _write_images(truth / "maps", "eyeMap_{:05d}.jpg", video.densities)
        write_mat_maps(truth, form="fixMap_{:05d}.mat", video=video, variable="eyeMap")
        scipy.io.savemat(truth / "eye_tracks.mat", {"eye_tracks": np.zeros((2, 3))})
        sound = root / "video_audio" / folder / video.name
        sound.mkdir(parents=True)
        scipy.io.wavfile.write(
            sound / f"{video.name}.wav", SAMPLE_RATE, np.round(32_767 * video.sound).astype(np.int16)
        )
    by_name = {video.name: video for video in videos}
    for part, names in (lists or {}).items():
        selected = [by_name[name] for name in names]
        text = "\n".join(f"{v.name} {v.listed_frames} {v.fps:.6f}" for v in selected)
        path = root / "fold_lists" / f"{folder}_list_{part}_fps.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)  # without a last newline, as some of the real ones
    return root


def write_dhf1k(root, videos, fixation: str = "png") -> pathlib.Path:
    """Writes videos, named NNNN, as DHF1K is released: annotation/, and frames/ made by the user.

    Args:
      root: the folder to write into.
      videos: of FakeVideo.
      fixation: `png`, `mat` (in fixation/maps), `mat with maps`, or `withheld` for no truth.
    """
    root = pathlib.Path(root)
    for video in videos:
        truth = root / "annotation" / video.name
        _write_images(root / "frames" / video.name, "{:04d}.png", video.frames)
        truth.mkdir(parents=True)
        if fixation == "withheld":
            continue
        _write_images(truth / "maps", "{:04d}.png", video.densities)
        if fixation == "png":
            _write_images(truth / "fixation", "{:04d}.png", fixation_maps(video))
        else:
            folder = truth / ("maps" if fixation == "mat with maps" else "fixation/maps")
            write_mat_maps(folder, form="{:04d}.mat", video=video, variable="I")
    return root


def write_rearranged(root, split: str, videos, form: str = "{:04d}.png", first: int = 1) -> pathlib.Path:
    """Writes videos as <split>/<video>/{images,maps,fixation}, as Hollywood-2 and UCF-Sports are.

    Args:
      root: the folder to write into.
      split: the name of the split's folder, as `train` or `testing`.
      videos: of FakeVideo.
      form: of the file names, of the number; as `actioncliptest00001_{:05d}.png`.
      first: number of the first frame; shots of Hollywood-2 continue the numbers of the previous shot.
    """
    root = pathlib.Path(root)
    for video in videos:
        folder = root / split / video.name
        _write_images(folder / "images", form=form, images=video.frames, first=first)
        _write_images(folder / "maps", form=form, images=video.densities, first=first)
        _write_images(folder / "fixation", form=form, images=fixation_maps(video), first=first)
    return root


def fixation_maps(video: FakeVideo) -> np.ndarray:
    """Returns uint8 [N, H, W], 255 where someone looked."""
    maps = np.zeros_like(video.densities)
    for index, points in enumerate(video.fixations):
        maps[index][tuple(points.T)] = 255
    return maps


def write_mat_maps(folder: pathlib.Path, form: str, video: FakeVideo, variable: str) -> None:
    """Writes a compressed .mat per frame with the binary fixation map."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(fixation_maps(video), 1):
        scipy.io.savemat(folder / form.format(number), {variable: image > 0}, do_compression=True)


def write_diem_events(folder, observers, width: int, height: int) -> pathlib.Path:
    """Writes DIEM event files of a movie of `width` x `height` in the middle of the 1280x960 screen.

    Args:
      folder: the `event_data` folder to make.
      observers: per observer, a list of (frame from 1, left (x, y, event), right (x, y, event)), where
        x and y are pixels of the movie.
      width, height: of the movie.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    right, down = (1280 - width) / 2, (960 - height) / 2
    for number, rows in enumerate(observers, 1):
        lines = []
        for frame, *eyes in rows:
            words = [str(frame)]
            for x, y, event in eyes:
                words += [f"{x + right:.2f}", f"{y + down:.2f}", "512.0", str(event)]
            lines.append("\t".join(words))
        (folder / f"diem{number}s1_movie.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_coutrot(path, clips, database: int = 1, condition: str = "OriginalSounds") -> pathlib.Path:
    """Writes a raw Coutrot database.

    Args:
      path: the .mat file to make.
      clips: `clip_1` -> (fps, width, height, data float [2, frames, observers] with NaN for nothing).
      database: 1 or 2.
      condition: the field that holds the clips.
    """
    path = pathlib.Path(path)
    fields = {
        name: {
            "info": {"fps": fps, "vidwidth": width, "vidheight": height, "nframe": data.shape[1]},
            "data": data,
        }
        for name, (fps, width, height, data) in clips.items()
    }
    structure = {f"Coutrot_Database{database}": {condition: fields}}
    scipy.io.savemat(path, structure, do_compression=True)
    return path


def _write_images(folder: pathlib.Path, form: str, images: np.ndarray, first: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, first):
        Image.fromarray(image).save(folder / form.format(number), quality=100, subsampling=0)
