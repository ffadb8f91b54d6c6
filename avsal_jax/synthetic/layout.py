"""The files of a synthetic set: written in the packaging of STAViS, and what only such a set has, read back.

`scene.json` beside a video's truth says what was drawn; `synthetic.json` in the root holds the settings.
"""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
import wave

import numpy as np
import scipy.io
from PIL import Image

from avsal_jax.errors import AvsalError
from avsal_jax.files import write_json
from avsal_jax.synthetic.generated_set import FOLDER
from avsal_jax.synthetic.observers import Gaze
from avsal_jax.synthetic.scene import Scene
from avsal_jax.synthetic.settings import SyntheticSettings
from avsal_jax.synthetic.sound import sound_name

FORMAT = "avsal_jax synthetic 1"  # another number for other bytes out of the same settings
SETTINGS_FILE = "synthetic.json"
_SCREEN = (960, 1280)  # height, width; the movie is in the middle, as DIEM's were
_MAX_BYTES = 100_000_000
_MAT_HEADER = b"MATLAB 5.0 MAT-file, avsal_jax synthetic".ljust(116)  # scipy's has the time of writing


def video_folders(root: pathlib.Path, name: str) -> dict[str, pathlib.Path]:
    """Returns where the files of a video lie, by kind; the last one is put there last. Silence has none."""
    kinds_of_files = ("video_frames", "video_audio", "event_data", "annotations")
    folders = {kind: root / kind / FOLDER / name for kind in kinds_of_files}
    return {**folders, "event_data": root / "event_data" / name}


def write_frames(folder: pathlib.Path, frames: np.ndarray) -> None:
    """Writes img_00001.jpg, ...: quality 95, colour at full resolution."""
    folder.mkdir(parents=True)
    for number, image in enumerate(frames, 1):
        Image.fromarray(image).save(folder / f"img_{number:05d}.jpg", quality=95, subsampling=0)


def write_sound(folder: pathlib.Path, name: str, samples: np.ndarray, rate: int) -> None:
    """Writes NAME.wav: 16 bits, mono."""
    folder.mkdir(parents=True)
    with wave.open(str(folder / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def write_truth(folder: pathlib.Path, densities: np.ndarray, fixations: np.ndarray) -> None:
    """Writes maps/eyeMap_00001.jpg and fixMap_00001.mat, ..., of uint8 [N, H, W] each."""
    (folder / "maps").mkdir(parents=True)
    for number, (density, fixated) in enumerate(zip(densities, fixations, strict=True), 1):
        Image.fromarray(density).save(folder / "maps" / f"eyeMap_{number:05d}.jpg", quality=95)
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"eyeMap": fixated}, do_compression=True)
        content = _MAT_HEADER + buffer.getvalue()[len(_MAT_HEADER) :]
        (folder / f"fixMap_{number:05d}.mat").write_bytes(content)


def write_events(folder: pathlib.Path, gaze: Gaze, height: int, width: int) -> None:
    """Writes an event file per observer as DIEM has them: frame; x, y, pupil, event of either eye."""
    folder.mkdir(parents=True)
    down, right = (_SCREEN[0] - height) / 2, (_SCREEN[1] - width) / 2
    for observer, (places, events) in enumerate(zip(gaze.places, gaze.events, strict=True), 1):
        lines = []
        for number, ((y, x), event) in enumerate(zip(places.tolist(), events.tolist(), strict=True), 1):
            eye = f"{x + right:.2f}\t{y + down:.2f}\t512.0\t{event}"
            lines.append(f"{number}\t{eye}\t{eye}\n")
        (folder / f"observer{observer:03d}.txt").write_text("".join(lines), encoding="ascii")


def write_scene(folder: pathlib.Path, settings: SyntheticSettings, scene: Scene) -> None:
    """Writes scene.json: what was drawn, and what sounds."""
    content = {
        "format": FORMAT,
        "grade": settings.grade,
        "domain": settings.domain,
        "sounding": scene.sounding,
        "kind": scene.kind,
        "off_screen": scene.off_screen,
        "timbre": sound_name(settings, scene),
        "appearances": scene.appearances,
        "radii": scene.radii.round(3).tolist(),
        "centres": scene.centres.round(3).tolist(),
        "pulses": [one.round(4).tolist() for one in scene.pulses],
        "sound_pulses": scene.sound_pulses.round(4).tolist(),
    }
    if scene.moving:
        content["moving"] = scene.moving
    (folder / "scene.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_scene(root, name: str) -> Scene:
    """Reads scene.json of a video; places are rounded to a thousandth of a pixel.

    Raises:
      AvsalError: it is missing or damaged.
    """
    path = video_folders(pathlib.Path(root), name)["annotations"] / "scene.json"
    content = _read_json(path)
    try:
        scene = Scene(
            np.array(content["centres"], np.float64),
            np.array(content["radii"], np.float64),
            tuple(map(int, content["appearances"])),
            tuple(np.array(one, np.float64) for one in content["pulses"]),
            *(None if content[key] is None else int(content[key]) for key in ("sounding", "kind")),
            None if content["off_screen"] is None else str(content["off_screen"]),
            np.array(content["sound_pulses"], np.float64),
            tuple(map(int, content.get("moving", ()))),
        )
        count = len(scene.radii)
        known = all(0 <= one < count for one in scene.watched)
        fits = known and scene.centres.shape == (count, scene.centres.shape[1], 2) and scene.radii.ndim == 1
    except (KeyError, TypeError, ValueError, IndexError):
        fits = False
    if not fits:
        raise AvsalError(f"{path} is damaged; remove the folder of the video and write the set again")
    return scene


def write_settings(root: pathlib.Path, settings: SyntheticSettings) -> None:
    """Writes synthetic.json, complete or not at all."""
    content = {"format": FORMAT, "settings": dataclasses.asdict(settings)}
    write_json(root / SETTINGS_FILE, content)


def read_settings(root) -> SyntheticSettings | None:
    """Returns the settings of a set, or None where the root has none.

    Raises:
      AvsalError: the file is damaged, or another version of this program wrote the set.
    """
    path = pathlib.Path(root) / SETTINGS_FILE
    if not path.exists():
        return None
    content = _read_json(path)
    if content.get("format") != FORMAT:
        raise AvsalError(
            f"{path} has format {content.get('format')!r}, not {FORMAT!r}; choose another folder"
        )
    try:
        return SyntheticSettings(**content["settings"])
    except (KeyError, TypeError, AvsalError) as error:
        raise AvsalError(f"{path} is damaged ({error}); remove the set, or choose another folder") from error


def _read_json(path: pathlib.Path) -> dict:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise AvsalError(f"{path} is too large to be of a synthetic set")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AvsalError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise AvsalError(f"{path} is damaged: it holds no object")
    return content
