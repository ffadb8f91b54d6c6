"""Conversion from a checkpoint file to a model directory, and its verification."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import pathlib

import jax
import numpy as np
from flax import traverse_util

import avsal_jax
from avsal_jax import registry
from avsal_jax.convert.candidates import Checkpoint, StoredTensor, describe
from avsal_jax.convert.conversion import Conversion
from avsal_jax.convert.reader import read_checkpoint
from avsal_jax.convert.rules import apply_table
from avsal_jax.errors import AvsalError
from avsal_jax.models.changes import dotted
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.spec.input import InputSpec
from avsal_jax.storage import flatten, read_model, write_model
from avsal_jax.types import Clip


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of a conversion.

    Attributes:
      output: the model directory.
      settings: of the variant: recognised, then overridden by the user.
      used, ignored: numbers of source tensors.
      parameters: number of parameters of the network.
      notes: lines on the origin of the tensors in the file, and on omitted entries.
    """

    output: pathlib.Path
    settings: dict
    used: int
    ignored: int
    parameters: int
    notes: tuple[str, ...] = ()


def convert_checkpoint(
    system: str, source, output, settings: dict | None = None, key: str | None = None
) -> Report:
    """Converts a PyTorch or safetensors checkpoint into a model directory.

    Args:
      system: the name of a system or part with a conversion.
      source: the checkpoint file.
      output: the directory to create.
      settings: settings that the tensors do not determine, or that override theirs (see
        `models.systems.resolve`).
      key: the entry of the file to use if several match, such as `ema`.

    Raises:
      AvsalError: unknown names, an unreadable file, or a checkpoint that does not fit exactly.
    """
    conversion = _conversion(system)
    checkpoint = read_checkpoint(source, conversion.marks, key)
    tensors = checkpoint.tensors
    settings = {**_recognised(conversion, source, checkpoint), **dotted(settings or {})}
    preset = resolve(system, settings)
    expected = flatten(abstract_variables(build(preset)))
    shapes = {name: tuple(leaf.shape) for name, leaf in expected.items()}
    rows = list(conversion.table(settings, tensors))
    try:
        flat = apply_table(tensors, table=rows, ignored=conversion.ignored, expected=shapes)
    except AvsalError as error:
        raise AvsalError(f"{source}: {error}") from error
    provenance = {
        "converted_from": pathlib.Path(source).name,
        "sha256": _file_digest(source),
        "by": f"avsal_jax {avsal_jax.__version__}",
    }
    variables = traverse_util.unflatten_dict(flat, sep="/")
    path = write_model(output, preset=preset, variables=variables, provenance=provenance)
    parameters = sum(v.size for name, v in flat.items() if name.startswith("params/"))
    used = len({row.source for row in rows})
    notes = (*checkpoint.notes, *_types({row.source: tensors[row.source] for row in rows}))
    return Report(
        path, settings=settings, used=used, ignored=len(tensors) - used, parameters=parameters, notes=notes
    )


def _conversion(system: str) -> Conversion:
    return registry.find("conversion", system)()


def _types(used: dict[str, StoredTensor]) -> list[str]:
    """Returns a note on tensors whose dtype was not float32."""
    counts = collections.Counter(tensor.dtype for tensor in used.values())
    conversions = [
        f"{n} tensors of {dtype}" for dtype, n in counts.items() if dtype not in ("float32", "F32")
    ]
    return [f"{', '.join(conversions)}, stored as float32"] if conversions else []


def _recognised(conversion: Conversion, source, checkpoint: Checkpoint) -> dict:
    """Returns the settings implied by the tensors; the error for a wrong file suggests matching systems."""
    try:
        return conversion.recognise(checkpoint.tensors)
    except AvsalError as error:
        names = checkpoint.tensors.keys()
        similar = [name for name, cls in registry.table("conversion").items() if names & set(cls.marks)]
        hint = f"; it looks like one of {' or '.join(similar)}" if similar else ""
        tensors = list(checkpoint.tensors.values())
        raise AvsalError(
            f"{source}: {error}; it has {len(tensors)} tensors, {describe(tensors)}{hint}"
        ) from error


def verify(system: str, source, output, key: str | None = None) -> str:
    """Reloads a converted directory, compares every tensor with its source, runs one forward pass.

    Returns:
      One line that says what was compared and what the network gave.

    Raises:
      AvsalError: a tensor differs, or the network gives values that are not finite.
    """
    conversion = _conversion(system)
    tensors = read_checkpoint(source, conversion.marks, key).tensors
    stored = read_model(output)
    flat = flatten(stored.variables)
    preset = stored.preset
    rows = list(conversion.table({**conversion.recognise(tensors), **_settings(preset)}, tensors))
    for row in rows:
        expected = row.select_piece(np.asarray(tensors[row.source]))
        if not np.array_equal(row.undo(flat[row.target]), expected.astype(np.float32)):
            raise AvsalError(f"{row.target} in {output} differs from {row.source} in {source}")
    names = () if preset.kind == "system" else _first_feature(stored.network)
    outputs = jax.jit(stored.network.run, static_argnames="features")(
        stored.variables, _random_clip(preset.input), features=names
    )
    leaves = jax.tree.leaves((outputs.logits, outputs.features))
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise AvsalError(f"{output} gives values that are not finite on a random clip")
    low = min(float(np.min(leaf)) for leaf in leaves)
    high = max(float(np.max(leaf)) for leaf in leaves)
    used = len({row.source for row in rows})
    return f"{used} tensors equal their source; outputs on a random clip from {low:.4g} to {high:.4g}"


def _first_feature(network) -> tuple[str]:
    return ("audio",) if network.visual_encoder is None else ("taps",)


def _random_clip(spec: InputSpec) -> Clip:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, spec.frames, spec.height, spec.width, 3), np.uint8)
    if spec.audio is None:
        return Clip(frames)
    return Clip(frames, rng.standard_normal((1, *spec.audio.shape), np.float32))


def _settings(preset) -> dict:
    fields = {
        f"{path}.{field}": value for path, _, part in preset.named_parts() for field, value in part.items()
    }
    return {"frames": preset.input.frames, **fields}


def _file_digest(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
