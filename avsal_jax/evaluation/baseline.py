"""The interface of baselines, and the baselines of the package; their code is imported on first use."""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from avsal_jax.registry import register

if TYPE_CHECKING:
    from avsal_jax.data.sets.entries import VideoEntry


@dataclasses.dataclass(frozen=True)
class BaselineRequest:
    """The inputs that an evaluation provides to a baseline.

    Attributes:
      entries: all videos that are scored.
      training: returns the matching training videos; AvsalError if the set has no training list.
      observers: the raw fixations of --observers; None without that flag.
      allow_seen: whether a baseline may be scored on the videos that it was fitted on.
    """

    entries: Sequence[VideoEntry]
    training: Callable[[], Sequence[VideoEntry]]
    observers: str | pathlib.Path | None = None
    allow_seen: bool = False


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A rule that is evaluated like a model, registered as `register("baseline", NAME)(Baseline(...))`.

    Attributes:
      about: what it predicts, in one line.
      maps: `BaselineRequest` -> `MapSource`, whose `label` is its name in tables.
      is_stored: whether its maps are stored like those of a model, with --postprocess.
    """

    about: str
    maps: Callable
    is_stored: bool = True


def _evaluation(module: str):
    return importlib.import_module(f"avsal_jax.evaluation.{module}")


register("baseline", "centre")(
    Baseline(
        "a Gaussian in the middle, its deviations a quarter of height and width",
        maps=lambda request: _evaluation("baselines").centre_maps(),
    )
)
register("baseline", "motion")(
    Baseline(
        "the change of luminance since the frame before, blurred by a sixteenth of the height",
        maps=lambda request: _evaluation("baselines").motion_energy_maps(),
    )
)
register("baseline", "spectral_residual")(
    Baseline(
        "the rule of Hou and Zhang (CVPR 2007) on the luminance of each frame",
        maps=lambda request: _evaluation("baselines").spectral_residual_maps(),
    )
)
register("baseline", "mean_map")(
    Baseline(
        "the mean truth of the training list, each video with the same weight (MEP)",
        maps=lambda request: _evaluation("priors").mean_map(request),
    )
)
register("baseline", "human")(
    Baseline(
        "people: all others predict each observer; without recorded gaze, one half predicts the other",
        maps=lambda request: _evaluation("human").left_out(request),
        is_stored=False,
    )
)
HALVES = register("baseline", "human_half")(
    Baseline(
        "people: one half of the observers predicts the other",
        maps=lambda request: _evaluation("human").halves(request),
        is_stored=False,
    )
)
