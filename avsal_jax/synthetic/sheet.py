"""A picture of a synthetic set: frames of several videos, with what is looked at and what sounds."""

from __future__ import annotations

import io
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.errors import AvsalError
from avsal_jax.files import write_bytes
from avsal_jax.synthetic import layout
from avsal_jax.synthetic.generated_set import NAME
from avsal_jax.synthetic.scene import Scene
from avsal_jax.synthetic.settings import SyntheticSettings
from avsal_jax.synthetic.sound import sound_name

_WIDTH, _LABEL, _GAP = 160, 16, 4  # pixels: of a frame, of a line of text, between frames
_HEAT = np.array([255, 40, 0], np.float64)


def contact_sheet(root, path, videos: int = 6, frames: int = 8) -> pathlib.Path:
    """Writes a PNG: per video a row of frames, and one with the density in red, what is followed ringed.

    Args:
      root: of a synthetic set.
      path: the file to write.
      videos: how many, evenly spread over the three splits.
      frames: of each video, evenly spread.

    Raises:
      AvsalError: the root holds no complete synthetic set, or the file cannot be written.
    """
    root, path = pathlib.Path(root), pathlib.Path(path)
    settings = layout.read_settings(root)
    if settings is None:
        raise AvsalError(f"{root} holds no synthetic set: it has no {layout.SETTINGS_FILE}")
    entries = [e for split in ("train", "val", "test") for e in open_dataset(NAME, root, split)]
    strips = [
        _strip(root, settings=settings, entry=entries[k], count=frames) for k in _spread(len(entries), videos)
    ]
    png = io.BytesIO()
    Image.fromarray(np.concatenate(strips)).save(png, format="PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, png.getvalue())
    except OSError as error:
        raise AvsalError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _strip(root: pathlib.Path, settings: SyntheticSettings, entry: VideoEntry, count: int) -> np.ndarray:
    """Returns uint8 [h, w, 3]: a line of text and two rows of frames of a video."""
    scene = layout.read_scene(root, entry.name)
    picked = _spread(entry.frames, count)
    height = round(_WIDTH * settings.height / settings.width)
    strip = Image.new("RGB", (count * (_WIDTH + _GAP), _LABEL + 2 * (height + _GAP) + _GAP), "white")
    sound = sound_name(settings, scene)
    if sound is None:
        text = f"{entry.name}   {settings.grade}: silent, the ringed objects move by themselves"
    else:
        who = "nothing on the screen sounds" if scene.sounding is None else "the ringed object sounds"
        text = f"{entry.name}   {settings.grade}, domain {settings.domain}: {sound}, {who}"
    ImageDraw.Draw(strip).text((2, 2), text, fill="black")
    for column, index in enumerate(picked):
        frame = entry.frame(index)
        corner = column * (_WIDTH + _GAP), _LABEL
        strip.paste(Image.fromarray(frame).resize((_WIDTH, height), Image.Resampling.BICUBIC), corner)
        share = 0.7 * entry.truth(index).density[..., None]
        heated = Image.fromarray(np.rint(frame * (1 - share) + _HEAT * share).astype(np.uint8))
        heated = heated.resize((_WIDTH, height), Image.Resampling.BICUBIC)
        _ring(heated, scene=scene, index=index, scale=_WIDTH / settings.width)
        strip.paste(heated, (corner[0], _LABEL + height + _GAP))
    return np.asarray(strip)


def _ring(image: Image.Image, scene: Scene, index: int, scale: float) -> None:
    for one in scene.watched if index < scene.centres.shape[1] else ():
        y, x = scene.centres[one, index] * scale
        reach = 1.3 * scene.radii[one] * scale
        ImageDraw.Draw(image).ellipse((x - reach, y - reach, x + reach, y + reach), outline="white", width=2)


def _spread(count: int, wanted: int) -> list[int]:
    """Returns `wanted` (or fewer) numbers below `count`, evenly spread."""
    return [int(k) for k in np.unique(np.linspace(0, count - 1, min(wanted, count)).round())]
