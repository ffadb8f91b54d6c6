"""Evaluates whole data sets video by video: resumable, in shares, the same digits however it is cut."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from avsal_jax import metrics
from avsal_jax.data.audio import envelope, is_silent
from avsal_jax.data.fixation_maps import Fixations, fixation_findings, rescale_points
from avsal_jax.data.grey_maps import to_8_bit
from avsal_jax.data.schema import VideoEntry
from avsal_jax.errors import AvsalError, error_line
from avsal_jax.evaluation.parts import part_path, read_part_file, write_part
from avsal_jax.evaluation.protocols import (
    LOWER_IS_BETTER,
    Protocol,
    VideoOthers,
    fixation_map,
    generator,
)
from avsal_jax.evaluation.sources import MapSource
from avsal_jax.files import write_json

_POOLED_FRAMES = 10  # of the whole set, for the negatives of the DHF1K protocol


@dataclasses.dataclass(frozen=True)
class Unit:
    """A video to evaluate, with the maps to evaluate it with.

    Attributes:
      entry: the video.
      source: of its maps.
      fold: the fold that it counts for; None without folds.
      mixed: whether videos of several sets are evaluated together, whose names may be the same.
    """

    entry: VideoEntry
    source: MapSource
    fold: int | None = None
    mixed: bool = False

    @property
    def key(self) -> str:
        """Name of its part file and of its folder of examples."""
        name = f"{self.entry.dataset}-{self.entry.name}" if self.mixed else self.entry.name
        return name if self.fold is None else f"{self.fold}-{name}"

    @property
    def label(self) -> str:
        """Name in the tables: `name`, `2:name` in fold 2, `coutrot1/name` among several sets."""
        name = f"{self.entry.dataset}/{self.entry.name}" if self.mixed else self.entry.name
        return name if self.fold is None else f"{self.fold}:{name}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a set is evaluated: the protocol, the metrics, the seed of all draws."""

    protocol: Protocol
    metrics: tuple[str, ...]
    seed: int = 0


def check(units: Sequence[Unit], settings: Settings) -> list[str]:
    """Returns what is wrong with the videos and their maps, before any work."""
    told = []
    for unit in units:
        entry = unit.entry
        told += [f"{entry.name}: {note}" for note in entry.notes]
        if not entry.frames:
            continue
        try:
            told += unit.source.problems(entry, settings.protocol)
            if entry.sound is not None and is_silent(entry.sound):
                told.append(f"{entry.name}: {entry.sound.name} is silent from beginning to end")
        except Exception as error:  # it fails when its turn comes, alone
            told.append(f"{entry.name}: {error_line(error)}")
    return told


def evaluate_units(
    units: Sequence[Unit],
    settings: Settings,
    output: pathlib.Path,
    say: Callable[[str], None],
    progress: Callable,
    pool: Sequence[Unit],
) -> list[str]:
    """Scores every unit that has no part file of the same job yet; returns one line for each that failed.

    Whatever goes wrong with one, the others are scored.
    `pool` is the whole set, from which the DHF1K protocol draws negatives.
    A part file (`parts/<video>.json`) is complete under its name, or not there.
    """
    failed = []
    for unit in progress(units):
        known = read_part(output, unit, settings)
        if known is not None and "failed" not in known:
            continue
        try:
            part = _score(unit, pool=pool, settings=settings, output=output)
            for line in part["findings"]:
                say(f"note: {unit.entry.name}: {line}")
        except Exception as error:
            part = {"failed": error_line(error)}
            failed.append(f"{unit.entry.name}: {part['failed']}")
            say(f"failed: {failed[-1]}")
        try:
            write_part(part_path(output, unit.key), {"job": job(unit, settings), **part})
        except OSError as error:
            raise AvsalError(f"cannot write to {output / 'parts'}: {error.strerror}") from error
    return failed


def read_part(output: pathlib.Path, unit: Unit, settings: Settings) -> dict | None:
    """Returns the part of a unit if it is there and of the same job; `failed` says why it has no rows."""
    part = read_part_file(part_path(output, unit.key))
    return part if part is not None and part.get("job") == job(unit, settings) else None


def job(unit: Unit, settings: Settings) -> dict:
    """What the numbers of a unit depend on."""
    return {
        "dataset": unit.entry.dataset,
        "video": unit.entry.identity(),
        "source": unit.source.identity(unit.entry),
        "protocol": dataclasses.asdict(settings.protocol),
        "metrics": list(settings.metrics),
        "seed": settings.seed,
    }


def _score(unit: Unit, pool: Sequence[Unit], settings: Settings, output: pathlib.Path) -> dict:
    entry, protocol = unit.entry, settings.protocol
    labelled = [index for index in range(entry.frames) if entry.has_truth(index)]
    _check_truth(entry, labelled, protocol)
    size = entry.truth_size(labelled[0])
    fixations = {index: unit.source.fixations(entry, index) for index in labelled}
    points = {index: found.points for index, found in fixations.items()}
    others = VideoOthers(size, list(points.values())) if protocol.others == "video" else None
    shown = {round(entry.frames * share) for share in (0.25, 0.5, 0.75)}
    rows, extremes = [], {}
    for index, stored in enumerate(unit.source.maps(entry, protocol)):
        if index + 1 < protocol.first_frame or index not in points:
            continue
        if stored is None:
            raise AvsalError(f"frame {index + 1} has no prediction")
        density = unit.source.density(entry, index)
        if not density.shape == size == entry.truth_size(index):
            sizes = (
                f"{density.shape}, its fixations {entry.truth_size(index)}, those of the first frame {size}"
            )
            raise AvsalError(f"the density of frame {index + 1} is {sizes} (height, width); they must be one")
        draw = functools.partial(generator, settings.seed, f"{entry.dataset}/{entry.name}", index + 1)

        def other(index=index, draw=draw):
            return others.map(points[index]) if others else _pooled(pool, size, draw("pool"))

        scored = protocol.score_map(stored)
        fixated = fixation_map(points[index], size)
        values = score_frame(
            scored, density=density, fixated=fixated, other=other, names=settings.metrics, draw=draw
        )
        rows.append([index + 1, *(_json_number(values[name]) for name in settings.metrics)])
        if index in shown:
            _save_example(output / "examples" / unit.key, unit=unit, index=index, stored=stored)
        first = settings.metrics[0]
        goodness = -values[first] if first in LOWER_IS_BETTER else values[first]
        _keep_extremes(extremes, value=goodness, index=index, stored=stored)
    _save_sound(output / "examples" / unit.key, entry)
    for index, stored in {kept[1]: kept[2] for kept in extremes.values()}.items():
        _save_example(output / "extremes" / unit.key, unit=unit, index=index, stored=stored)
    return {
        "dataset": entry.dataset,
        "video": entry.name,
        "key": unit.key,
        "label": unit.label,
        "fold": unit.fold,
        "fps": float(entry.fps),
        "category": entry.category,
        "notes": list(entry.notes),
        "findings": _findings(fixations),
        "without_truth": entry.without_truth,
        "extremes": {name: kept[1] + 1 for name, kept in extremes.items()},
        "rows": rows,
    }


def _findings(fixations: dict[int, Fixations]) -> list[str]:
    """Returns what is unusual about the fixations of a video, a line each."""
    if not any(len(found.points) for found in fixations.values()):
        return ["nobody's fixation is known: it counts only for the metrics that need none"]
    return list(fixation_findings(fixations.values()).values())


def _check_truth(entry: VideoEntry, labelled: Sequence[int], protocol: Protocol) -> None:
    """Raises AvsalError, with what is known of the reason, where a video has nothing to be scored against."""
    if not entry.published:
        raise AvsalError("it cannot be scored: it has no published truth")
    if not labelled:
        why = "; ".join(entry.notes) or "no frame has truth"
        raise AvsalError(f"it cannot be scored: {why}")
    if labelled[-1] + 1 < protocol.first_frame:
        raise AvsalError(
            f"it cannot be scored: the protocol {protocol.name} begins at frame {protocol.first_frame}, and "
            f"its last frame with truth is {labelled[-1] + 1}"
        )


def score_frame(scored, density, fixated, other, names: Sequence[str], draw) -> dict[str, float]:
    """Returns the metrics `names` of one frame.

    Args:
      scored: float64 map; resized to the truth as MATLAB's imresize does.
      density: float64 [h, w]; fixated: bool [h, w].
      other: gives bool [h, w], where negatives are drawn; called only where they are, since it reads files.
      draw: purpose -> NumPy generator of this frame, so that no metric changes another's draws.
    """
    scored = metrics.imresize(scored, *density.shape)

    def shuffled():
        others = other()
        if not others.any() or not fixated.any():
            return math.nan
        draws = metrics.sample_shuffled_negatives(fixated, others, draw("negatives"))
        return metrics.auc_shuffled(scored, fixated, draws)

    compute = {
        "cc": lambda: metrics.cc(scored, density),
        "sim": lambda: metrics.sim(scored, density),
        "kl": lambda: metrics.kl(scored, density),
        "nss": lambda: metrics.nss(scored, fixated),
        "auc_judd": lambda: metrics.auc_judd(scored, fixated, jitter=draw("jitter")),
        "auc_shuffled": shuffled,
    }
    return {name: float(compute[name]()) for name in names}


def _pooled(pool: Sequence[Unit], size, random) -> np.ndarray:
    """Where ten random frames of the whole set were fixated, bool map of `size`."""
    usable = [unit for unit in pool if unit.entry.frames and unit.entry.published]
    points = []
    for _ in range(_POOLED_FRAMES):
        unit = usable[random.integers(len(usable))]
        index = int(random.integers(unit.entry.frames))
        if not unit.entry.has_truth(index):
            continue
        try:
            drawn = unit.source.fixations(unit.entry, index).points
            points.append(rescale_points(drawn, unit.entry.truth_size(index), size))
        except AvsalError:  # that video fails when its own turn comes
            continue
    return fixation_map(np.concatenate([np.zeros((0, 2), np.int64), *points]), size)


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _keep_extremes(extremes: dict, value: float, index: int, stored: np.ndarray) -> None:
    if math.isnan(value):
        return
    if "best" not in extremes or value > extremes["best"][0]:
        extremes["best"] = (value, index, stored)
    if "worst" not in extremes or value < extremes["worst"][0]:
        extremes["worst"] = (value, index, stored)


def _save_sound(folder: pathlib.Path, entry: VideoEntry) -> None:
    """Saves the largest amplitude over the frames, for the strips of `avsal compare`."""
    if entry.sound is None:
        return
    try:
        times, peaks = envelope(entry.sound)
    except AvsalError:  # the notes of a model that hears say so
        return
    folder.mkdir(parents=True, exist_ok=True)
    frames = (times * entry.fps + 1).round(3).tolist()
    write_json(folder / "sound.json", {"frames": frames, "peaks": peaks.round(5).tolist()})


def _save_example(folder: pathlib.Path, unit: Unit, index: int, stored: np.ndarray) -> None:
    """Saves a frame, its truth and its map side by side in files, for the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{index + 1:06d}"
    if not unit.entry.has_image(index):  # which saved maps can be scored without
        return
    density = unit.source.density(unit.entry, index)
    height, width = density.shape
    Image.fromarray(unit.entry.frame(index)).resize((width, height)).save(f"{stem}_frame.jpg", quality=85)
    Image.fromarray(to_8_bit(density)).save(f"{stem}_truth.png")
    Image.fromarray(to_8_bit(stored)).resize((width, height), Image.Resampling.BILINEAR).save(f"{stem}.png")
    points = {"size": [height, width], "fixations": unit.source.fixations(unit.entry, index).points.tolist()}
    write_json(pathlib.Path(f"{stem}_fixations.json"), points)
