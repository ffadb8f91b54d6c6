"""The features of a frame as pictures and sections of a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avsal_jax.inference.feature_pictures import draw
from avsal_jax.inference.feature_views import Lines, Maps, view
from avsal_jax.inference.output import Item
from avsal_jax.pages import Grid, Pictures, Section
from avsal_jax.pictures import overlay, resize_map, shrink, to_grey
from avsal_jax.plots import Curves

_WIDTH = 480


def sections_of(item: Item) -> tuple[list[Section], dict[str, np.ndarray]]:
    """Returns the sections of a frame, and its pictures by the name of their file: RGB uint8 [h, w, 3].

    Args:
      item: a frame with `features`; `saliency` and, for a second sound, `saliency-compared` are its maps.
    """
    number, sounds, engine = item.index + 1, item.features.sounds, item.features.engine
    image, pairs, pictures = shrink(item.image, _WIDTH), [], {}
    for (label, features), suffix in zip(sounds.items(), ("", "-compared"), strict=False):
        saliency = to_grey(resize_map(features["saliency"], *image.shape[:2]))
        pictures[f"saliency{suffix}"] = overlay(image, saliency)
        title = f"map, {label}" if engine.layout.sounds else "map"
        pairs.append((title, pictures[f"saliency{suffix}"]))
    title = f"Frame {number}, {item.time:.2f} s"
    text = _change([features["saliency"] for features in sounds.values()])
    sections = [Section(title, Pictures([(title, image), *pairs]), text)]
    for name in engine.names:
        views = [
            (label, view(name, features=values, layout=engine.layout, counts=engine.counts))
            for label, values in sounds.items()
        ]
        heading = f"Frame {number}: {name}"
        first = views[0][1]
        if first is None:
            continue
        text = f"{first.text} {_change([f[name] for f in sounds.values() if name in f])}".strip()
        if isinstance(first, Lines):
            sections += _numbers(heading, text, views)
            continue
        pictures[name] = draw(_blocks(views, engine.layout.sounds), image.shape[0] / image.shape[1])
        sections.append(Section(heading, Pictures([(name, pictures[name])], 1), text))
    return sections, pictures


def _blocks(views: list[tuple[str, Maps]], sounds: int) -> list[tuple[str, Maps]]:
    """Blocks have the sound as heading where the network hears."""
    return [(label if sounds else "", maps) for label, maps in views]


def _numbers(heading: str, text: str, views: list[tuple[str, Lines]]) -> list[Section]:
    """A table of all numbers, and curves where there is more than one place along them."""
    first = views[0][1]
    named = len(views) > 1
    lines = [(f"{name}, {label}" if named else name, v) for label, one in views for name, v in one.lines]
    places = np.arange(first.first, first.first + len(lines[0][1]))
    columns = ["", *(f"{first.unit} {place}" for place in places)]
    rows = [[name, *(f"{value:.4g}" for value in values)] for name, values in lines]
    sections = [Section(heading, Grid(columns, rows), text)]
    if len(places) > 1:
        curves = Curves([(name, places, values) for name, values in lines], "values", first.unit)
        sections.append(Section(f"{heading}, as curves", curves))
    return sections


def _change(values: Sequence[np.ndarray]) -> str:
    """A sentence on how far the second sound's values are from the first's."""
    if len(values) < 2:
        return ""
    first, second = values
    norm = float(np.linalg.norm(first))
    change = 100 * float(np.linalg.norm(second - first)) / norm if norm else 0.0
    return f"Between the two sounds it changes by {change:.3g} % of its norm."
