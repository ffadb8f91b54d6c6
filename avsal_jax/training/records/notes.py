"""Descriptions of a run, for the start of its log and for its report."""

from __future__ import annotations

import avsal_jax
from avsal_jax.data.prepared.source_words import videos_in_words
from avsal_jax.runtime.parallel import DataParallel
from avsal_jax.training import gradient_reach
from avsal_jax.training.feed import Feed
from avsal_jax.training.program import Program
from avsal_jax.training.records.run_log import RunLog
from avsal_jax.training.schema import TrainConfig
from avsal_jax.training.validation import validation_words


def training_data(config: TrainConfig, feed: Feed) -> dict[str, str]:
    """Returns descriptions of the training data, by title."""
    words = f"{videos_in_words(feed.train)}, {feed.clips_per_epoch} clips per epoch"
    labelled = {"training data": words} if feed.train else {}
    return {**labelled, **config.objective.notes(feed.other_videos)}


def run_notes(config: TrainConfig, feed: Feed, program: Program, parallel: DataParallel) -> dict[str, str]:
    """Returns further descriptions of a run, by title."""
    device, batch = parallel.mesh.devices.flat[0], config.data.batch
    scored = validation_words(program.network.input, config.evaluation.native)
    validation = f"{len(feed.validation)} videos: {feed.rule}; {scored}"
    epochs = f": {program.total * batch / feed.clips_per_epoch:.3g} epochs" if feed.clips_per_epoch else ""
    return {
        **({"validation": validation} if feed.validation else {}),
        "steps": f"{program.total} of {batch} clips{epochs}",
        "devices": f"{parallel.mesh.size} x {device.device_kind}, {parallel.process[1]} processes",
        "avsal_jax": avsal_jax.__version__,
    }


def announce(log: RunLog, notes: dict[str, str], feed: Feed, program: Program) -> None:
    """Logs the network, the descriptions and any warnings at the start of a run."""
    log.say(program.overview.text())
    frozen = sum(label == "frozen" for label in program.labels.values())
    if frozen:
        log.say(f"{frozen} of {len(program.labels)} arrays are frozen")
    for name, text in notes.items():
        log.say(f"{name}: {text}")
    for line in feed.warnings:
        log.say(f"warning: {line}")
    unreached = gradient_reach.without_gradient(*program.forward)
    idle = [path for path in unreached if program.labels[path] != "frozen"]
    if idle:
        log.say(f"warning: {gradient_reach.words(idle, len(program.labels))}")
