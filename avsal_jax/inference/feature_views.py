"""Recorded features as heat maps over the picture, or as lines; defines the meaning of their axes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.models.fusion.tokens import pooled

_MOST_COLUMNS = 4  # of time


@dataclasses.dataclass(frozen=True)
class Layout:
    """The arrangement of a network's tokens.

    Attributes:
      levels: (T, H, W) of the pyramid, finest first.
      sounds: number of audio tokens; 0 for a visual-only network.
      joined: whether audio tokens follow the visual tokens in one sequence.
    """

    levels: tuple[tuple[int, int, int], ...]
    sounds: int = 0
    joined: bool = False


@dataclasses.dataclass(frozen=True)
class Maps:
    """Rows of heat maps.

    Attributes:
      columns: captions.
      rows: (caption, maps [h, w], one for each column); sizes may differ between rows.
      text: description of the maps.
      by_row: whether each row has its own colour range; else all rows share one.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[np.ndarray]]]
    text: str
    by_row: bool = False


@dataclasses.dataclass(frozen=True)
class Lines:
    """Numbers: (name, one value for each place); `unit` is the word before a place's number, from `first`."""

    lines: Sequence[tuple[str, np.ndarray]]
    unit: str
    first: int
    text: str


def view(
    name: str, features: dict[str, np.ndarray], layout: Layout, counts: Sequence[int]
) -> Maps | Lines | None:
    """Returns the view of a feature, or None if it has no picture.

    Args:
      name: of the feature, or its path.
      features: of one clip, as from `FeatureEngine`.
      layout: of the network.
      counts: numbers of iterations that `iterations` shows.
    """
    kind = kind_of(name)
    if kind not in VIEWS:
        return None
    if kind == "taps":
        return _taps([features[f"taps_{number}"] for number in range(1, 1 + len(layout.levels))], layout)
    if kind == "iterations":
        text = "The map after the given number of iterations of predictive coding."
        return Maps([f"after {n}" for n in counts], [("map", list(features[name]))], text)
    if kind == "retention_heads":
        return _retention_heads(features[name], features["head_weights"][-1], layout)
    return VIEWS[kind](features[name], layout)


def kind_of(name: str) -> str:
    """Returns the bare name of a feature: the last component of its path."""
    return name.rpartition("/")[2]


def _taps(levels, layout):
    rows = [(f"level {number}", level) for number, level in enumerate(levels, 1)]
    return _over_time(
        rows,
        layout=layout,
        text="Pyramid before the fusion, finest level first; mean over channels.",
        by_row=True,
    )


def _fused(tokens, layout):
    picture = tokens[: len(tokens) - layout.sounds] if layout.joined else tokens
    places = _places(len(picture), layout)
    if places is None:
        return None
    rows = [("fused", picture.mean(-1).reshape(places))]
    return _over_time(rows, layout, "Visual tokens after the fusion; mean over channels.")


def _attention(weights, layout):
    weights = weights.mean(0)  # [N, S]; or [N + S, N + S] of one sequence
    if layout.joined:
        weights = weights[: -layout.sounds, -layout.sounds :]
    places = _places(len(weights), layout)
    if places is None or weights.shape[1] != layout.sounds:
        return None
    rows = [(f"sound {i}", w.reshape(places)) for i, w in enumerate(weights.T, 1)]
    text = "Attention of each position to each audio token (in order of time); mean over heads."
    return _over_time(rows, layout, text)


def _retention_audio(retention, layout):
    rows = [(f"block {i}", r) for i, r in enumerate(retention.mean((1, 5)), 1)]
    text = "Ret_A: how much of the sound each position retains; mean over heads and audio tokens."
    return _over_time(rows, layout=layout, text=text, by_row=True)


def _retention_visual(retention, layout):
    rows = [(f"block {i}", r) for i, r in enumerate(retention.mean((1, 2)), 1)]
    text = "Ret_V: how much of each position the sound retains; mean over heads and audio tokens."
    return _over_time(rows, layout=layout, text=text, by_row=True)


def _retention_heads(retention, weights, layout):
    """retention [heads, T, H, W] and weights [heads], of one block."""
    rows = [
        (f"head {i}, weight {w:.2f}", r) for i, (r, w) in enumerate(zip(retention, weights, strict=True), 1)
    ]
    text = "Ret_A of the last block by head, with the head's weight (the sum is 1); mean over audio tokens."
    return _over_time(rows, layout=layout, text=text, by_row=True)


def _head_weights(weights, layout):
    lines = [(f"head {i}", line) for i, line in enumerate(weights.T, 1)]
    return Lines(lines, unit="block", first=1, text="Weight of each attention head; the sum is 1.")


def _coding_activity(activity, layout):
    rows = [(f"after {n}", a.mean(-1)) for n, a in enumerate(activity)]
    text = (
        "mu_0, the predictive-coding activity of the coarsest level after each iteration; mean over channels."
    )
    return _over_time(rows, layout, text)


def _over_iterations(values, layout, symbol: str, text: str) -> Lines:
    """values [N+1, L+1], of the state after each iteration."""
    lines = [(f"{symbol}_{i}", line) for i, line in enumerate(values.T)]
    return Lines(lines, unit="iteration", first=0, text=text)


# In the order of a page. By default, all of these that a network records are shown.
VIEWS = {
    "iterations": None,
    "coding_error": functools.partial(
        _over_iterations,
        symbol="e",
        text="Squared prediction errors over the squared norm of all activities.",
    ),
    "coding_square": functools.partial(
        _over_iterations, symbol="e", text="Squared prediction errors, which predictive coding lowers."
    ),
    "coding_norm": functools.partial(
        _over_iterations, symbol="mu", text="Norms of the activities of predictive coding."
    ),
    "coding_activity": _coding_activity,
    "retention_audio": _retention_audio,
    "retention_visual": _retention_visual,
    "retention_heads": None,
    "head_weights": _head_weights,
    "attention": _attention,
    "fused": _fused,
    "taps": None,
}


def _over_time(rows, layout: Layout, text: str, by_row: bool = False) -> Maps:
    """Returns rows [T, H, W] as maps in columns: at most four time steps, each the mean of its part."""
    columns = min(_MOST_COLUMNS, layout.levels[-1][0], *(len(values) for _, values in rows))
    split = [(name, [part.mean(0) for part in np.array_split(v, columns)]) for name, v in rows]
    return Maps(
        [f"time {i} of {columns}" for i in range(1, columns + 1)], rows=split, text=text, by_row=by_row
    )


def _places(tokens: int, layout: Layout) -> tuple[int, int, int] | None:
    """Returns (T, H, W) with the given number of tokens: of a level, coarsest first, or of a pooled one."""
    coarsest = jax.ShapeDtypeStruct((1, *layout.levels[-1], 1), jnp.float32)
    shapes = (*layout.levels[::-1], jax.eval_shape(pooled, coarsest).shape[1:4])
    return next((place for place in shapes if np.prod(place) == tokens), None)
