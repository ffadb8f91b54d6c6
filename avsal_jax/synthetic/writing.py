"""Writes a synthetic set: videos in parallel, each complete or not there, the lists last."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterable

from avsal_jax.errors import AvsalError
from avsal_jax.files import write_text
from avsal_jax.synthetic import layout
from avsal_jax.synthetic.generated_set import FOLDER
from avsal_jax.synthetic.observers import densities, look
from avsal_jax.synthetic.picture import render
from avsal_jax.synthetic.scene import make_scene
from avsal_jax.synthetic.settings import SyntheticSettings
from avsal_jax.synthetic.sound import make_sound
from avsal_jax.synthetic.visual_picture import render_visual
from avsal_jax.synthetic.visual_scene import make_visual_scene

_PARTIAL = ".partial"  # in the root: videos that are being written


def write_synthetic(
    root,
    settings: SyntheticSettings,
    progress: Callable[[Iterable], Iterable] = iter,
    workers: int | None = None,
) -> pathlib.Path:
    """Writes a synthetic set in the packaging of STAViS; `open_dataset("synthetic", root)` opens it.

    A run that was stopped goes on where it ended. One process at a time may write to a root. Workers are
    spawned, so a script that calls this needs `if __name__ == "__main__":`.

    Args:
      root: the folder to write into; it may hold other sets.
      settings: of the set. Every video is a pure function of them and its number.
      progress: wraps what is iterated over once per missing video; it has a length.
      workers: processes; None for one per usable core. It changes no byte.

    Returns:
      The root.

    Raises:
      AvsalError: the root holds a synthetic set of other settings, or cannot be written.
    """
    root = pathlib.Path(root)
    names = video_names(settings)
    try:
        _claim(root, settings)
        shutil.rmtree(root / _PARTIAL, ignore_errors=True)
        missing = [
            k for k, name in enumerate(names) if not layout.video_folders(root, name)["annotations"].is_dir()
        ]
        _write_videos(
            root,
            settings=settings,
            numbers=missing,
            progress=progress,
            workers=min(workers or _cores(), max(len(missing), 1)),
        )
        shutil.rmtree(root / _PARTIAL, ignore_errors=True)
        _write_lists(root, settings, names)
    except OSError as error:
        raise AvsalError(f"cannot write the synthetic set to {root}: {error.strerror or error}") from error
    return root


def video_names(settings: SyntheticSettings) -> list[str]:
    """Returns the names of the videos: scene_00001, ..."""
    return [f"scene_{number:05d}" for number in range(1, settings.videos + 1)]


def split_sizes(videos: int) -> dict[str, int]:
    """Returns how many videos, in the order of their numbers, are in each split: 70, 10 and 20 %."""
    val, test = max(1, round(0.1 * videos)), max(1, round(0.2 * videos))
    return {"train": videos - val - test, "val": val, "test": test}


def _claim(root: pathlib.Path, settings: SyntheticSettings) -> None:
    """Makes the root one of these settings; AvsalError where it is one of others."""
    stored = layout.read_settings(root)
    if stored is None:
        if (root / "video_frames" / FOLDER).exists():
            raise AvsalError(
                f"{root / 'video_frames' / FOLDER} exists, but {root} has no {layout.SETTINGS_FILE}; "
                "choose another folder"
            )
        root.mkdir(parents=True, exist_ok=True)
        layout.write_settings(root, settings)
    elif stored != settings:
        values, existing = dataclasses.asdict(settings), dataclasses.asdict(stored)
        differ = [
            f"{key}={existing[key]} there, {key}={values[key]} here"
            for key in existing
            if existing[key] != values[key]
        ]
        raise AvsalError(
            f"{root} holds a synthetic set of other settings ({'; '.join(differ)}); choose another folder"
        )


def _write_videos(root, settings, numbers: list[int], progress, workers: int) -> None:
    if workers == 1:
        for number in progress(numbers):
            _write_video(root, settings, number)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    try:
        jobs = [pool.submit(_write_video, root, settings, number) for number in numbers]
        for job in progress(jobs):
            job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_video(root: pathlib.Path, settings: SyntheticSettings, number: int) -> None:
    """Writes all files of a video to a temporary folder, then puts its folders in their places."""
    name = video_names(settings)[number]
    silent = settings.grade == "visual"
    scene = (make_visual_scene if silent else make_scene)(settings, number)
    frames = (render_visual if silent else render)(settings, number, scene)
    gaze = look(settings, number=number, scene=scene, frames=frames)
    size = settings.height, settings.width
    partial = root / _PARTIAL / name
    layout.write_frames(partial / "video_frames", frames)
    if not silent:
        sound = make_sound(settings, number, scene)
        layout.write_sound(partial / "video_audio", name=name, samples=sound, rate=settings.sample_rate)
    layout.write_events(partial / "event_data", gaze, *size)
    layout.write_truth(partial / "annotations", *densities(gaze, *size))
    layout.write_scene(partial / "annotations", settings, scene)
    for kind, folder in layout.video_folders(root, name).items():
        if silent and kind == "video_audio":
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():  # of a run that was stopped between two renames
            shutil.rmtree(folder)
        os.replace(partial / kind, folder)


def _write_lists(root: pathlib.Path, settings: SyntheticSettings, names: list[str]) -> None:
    lists = root / "fold_lists"
    lists.mkdir(exist_ok=True)
    left = iter(names)
    for split, count in split_sizes(settings.videos).items():
        lines = [f"{next(left)} {settings.frames} {settings.fps:.6f}\n" for _ in range(count)]
        write_text(lists / f"{FOLDER}_list_{split}_fps.txt", "".join(lines))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed; it would wait for work for ever."""
    sentinel = multiprocessing.parent_process().sentinel

    def watch():
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
