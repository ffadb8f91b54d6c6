"""Key table of the published S3D file (kylemin/S3D @ecd3786)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from avsal_jax.convert.conversion import Conversion
from avsal_jax.convert.rules import Entry, conv_norm
from avsal_jax.registry import register

# Index in the sequence `base` -> name here; pools have no tensors.
SEPARABLE = {0: "conv1", 3: "conv3"}
MIXED = {
    5: "mixed_3b",
    6: "mixed_3c",
    8: "mixed_4b",
    9: "mixed_4c",
    10: "mixed_4d",
    11: "mixed_4e",
    12: "mixed_4f",
    14: "mixed_5b",
    15: "mixed_5c",
}


@register("conversion", "s3d")
class S3DConversion(Conversion):
    """S3D of kylemin/S3D, a video encoder, with or without its classifier."""

    marks = ("base.0.conv_s.weight",)
    ignored = ("*.num_batches_tracked",)

    def recognise(self, tensors) -> dict:
        """Returns the number of classes, where the file holds a classifier."""
        classifier = tensors.get("fc.0.weight")
        return {} if classifier is None else {"visual_encoder.classes": int(classifier.shape[0])}

    def table(self, settings, tensors) -> Iterator[Entry]:
        """Yields the rows of an S3D file with these settings."""
        yield from trunk(lambda index: f"base.{index}")
        if settings.get("visual_encoder.classes") is not None:
            head = "params/visual_encoder/classifier"
            yield Entry("fc.0.weight", f"{head}/kernel", "conv3d")
            yield Entry("fc.0.bias", f"{head}/bias", "vector")


def trunk(module: Callable[[int], str]) -> Iterator[Entry]:
    """Yields the rows of the trunk, given the source name of each index in `base`."""
    root = "visual_encoder"
    for index, name in SEPARABLE.items():
        yield from _separable(module(index), f"{root}/{name}")
    yield from conv_norm(f"{module(2)}.conv", f"{module(2)}.bn", f"{root}/conv2")
    for index, name in MIXED.items():
        yield from _mixed(module(index), f"{root}/{name}")


def _separable(source: str, target: str) -> Iterator[Entry]:
    yield from conv_norm(f"{source}.conv_s", f"{source}.bn_s", f"{target}/spatial")
    yield from conv_norm(f"{source}.conv_t", f"{source}.bn_t", f"{target}/temporal")


def _mixed(source: str, target: str) -> Iterator[Entry]:
    pointwise = {
        "branch0.0": "branch0",
        "branch1.0": "branch1_reduce",
        "branch2.0": "branch2_reduce",
        "branch3.1": "branch3",
    }
    for branch_source, branch_target in pointwise.items():
        yield from conv_norm(
            f"{source}.{branch_source}.conv", f"{source}.{branch_source}.bn", f"{target}/{branch_target}"
        )
    for branch in (1, 2):
        yield from _separable(f"{source}.branch{branch}.1", f"{target}/branch{branch}")
