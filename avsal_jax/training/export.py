"""Export of the state of a run as a model directory."""

from __future__ import annotations

import pathlib

import avsal_jax
from avsal_jax.models.slots import HEADS, SLOTS
from avsal_jax.models.systems import Preset
from avsal_jax.storage import write_model
from avsal_jax.training.state import TrainState


def export_model(path: pathlib.Path, preset: Preset, state: TrainState, provenance: dict) -> None:
    """Writes the network of a state as a model directory, replacing an existing one.

    Args:
      path: the directory.
      preset: the network's description.
      state: the training state; modules of the objective are not exported.
      provenance: fields of `model.json` about the origin.

    Raises:
      AvsalError: the directory cannot be written.
    """
    variables = {"params": state.evaluated_params, "batch_stats": state.batch_stats}
    slots = {*SLOTS, HEADS}
    variables = {
        name: {slot: tree for slot, tree in part.items() if slot in slots} for name, part in variables.items()
    }
    provenance = {"by": f"avsal_jax {avsal_jax.__version__}", **provenance}
    write_model(path, preset=preset, variables=variables, provenance=provenance, replace=True)
