"""Predicts every input with progress on the terminal; a failed input does not affect the others."""

from __future__ import annotations

import pathlib
import sys

import tqdm

from avsal_jax import registry
from avsal_jax.errors import error_line
from avsal_jax.inference.predict import predict_file
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.settings import Settings
from avsal_jax.media.photographs import PhotographSet


def predict_all(
    model: Model,
    inputs: dict[pathlib.Path | PhotographSet, pathlib.Path],
    settings: Settings,
    are_checked: bool = False,
) -> int:
    """Predicts every input; returns 0, or 1 if any of several failed (they are listed at the end).

    After any exception the next input is predicted, and finished outputs are kept. `are_checked` is the
    `is_checked` of `predict_file`.

    Raises:
      Exception: of the input, if it is the only one.
    """
    failed: dict[pathlib.Path | str, str] = {}
    count = sum(len(source) if isinstance(source, PhotographSet) else 1 for source in inputs)
    for number, (source, output) in enumerate(inputs.items(), 1):
        if len(inputs) > 1:
            _say(f"[{number}/{len(inputs)}] {source}")
        try:
            summary = predict_file(
                model,
                source=source,
                output=output,
                settings=settings,
                say=_say,
                progress=_progress,
                is_checked=are_checked,
            )
        except Exception as error:
            if len(inputs) == 1:
                raise
            words = error_line(error)
            failed[source] = words if str(source) in words.replace("://", ":/") else f"{source}: {words}"
            _say(f"failed: {failed[source]}")
            continue
        failed |= summary.get("failed", {})
        if "already_done" in summary:
            continue
        if summary["maps"] and summary["seconds"]:
            word = "map" if summary["maps"] == 1 else "maps"
            seconds = summary["compile_seconds"]
            compiling = f", after {seconds:.1f} s of compiling" if seconds else ""
            rate = f"{summary['maps_per_second']:.2f} per second"
            print(f"{summary['maps']} {word} in {output} ({rate}{compiling})")
        classes = (registry.find("output", name) for name in settings.save)
        for line in filter(None, (cls.message(summary, output) for cls in classes)):
            print(line)
    if failed:
        _say(f"{len(failed)} of {count} inputs failed:")
        for words in failed.values():
            _say(f"  {words}")
    return 1 if failed else 0


def _progress(maps, total):
    return tqdm.tqdm(maps, total=total, unit="map", desc="predicting", file=sys.stderr)


def _say(line: str) -> None:
    tqdm.tqdm.write(line, file=sys.stderr)  # above the bar
