"""Schematic pictures of maps and fixations, without a frame of the set."""

import json
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("agg")
from matplotlib import pyplot as plt

from avsal_jax.evaluation.stored_results import part_path, read_part_file

_LEVELS = np.linspace(0.1, 1, 7)  # of a map from its minimum to its maximum
_TRUTH_LEVELS = (0.25, 0.5, 0.75)  # of the density of fixations over its maximum


def draw_worst(clips: Sequence[tuple[str, pathlib.Path, str]], path: pathlib.Path) -> None:
    """Writes a PNG with the worst frame of each clip: the map filled, the density of fixations as lines.

    Args:
      clips: (name, folder of results of `avsal evaluate`, what is written under the name).
      path: the file to write.
    """
    figure, axes = plt.subplots(
        1, len(clips), figsize=(2.6 * len(clips), 2.5), squeeze=False, dpi=110, layout="constrained"
    )
    for axis, (name, folder, words) in zip(axes[0], clips, strict=True):
        saliency, density, points = _worst_frame(folder, name)
        if (height := np.ptp(saliency)) > 0:
            axis.contourf((saliency - saliency.min()) / height, _LEVELS, cmap="Blues")
        axis.contour(density / density.max(), _TRUTH_LEVELS, colors="tab:orange", linewidths=1)
        axis.plot(points[:, 1], points[:, 0], ".", color="tab:red", markersize=2)
        axis.set(xlim=(0, saliency.shape[1] - 1), ylim=(saliency.shape[0] - 1, 0), xticks=[], yticks=[])
        axis.set_aspect("equal")
        axis.set_title(f"{name}\n{words}", fontsize=8)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _worst_frame(folder: pathlib.Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns map and density [h, w] and fixations [N, 2] of the frame with the lowest NSS."""
    part = read_part_file(part_path(folder, name))
    stem = folder / "extremes" / part["key"] / f"{part['extremes']['worst']:06d}"
    saliency, density = (
        np.asarray(Image.open(f"{stem}{ending}"), np.float64) for ending in (".png", "_truth.png")
    )
    points = json.loads(pathlib.Path(f"{stem}_fixations.json").read_text())["fixations"]
    return saliency, density, np.array(points).reshape(-1, 2)
