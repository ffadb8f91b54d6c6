"""Key table of the published VGGish file (harritaylor/torchvggish @f3f9096)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from avsal_jax.convert.rules import Entry

# The post-processing's constants, where a file has them.
IGNORED = ("pproc.*", "pca_*")
MARKS = ("embeddings.0.weight",)
_CONVS = (0, 3, 6, 8, 11, 13)  # positions in `features`; ReLUs and poolings lie between
_FULLY = {0: "fully_0/kernel", 2: "fully_1/kernel", 4: "embedding/projection"}


def recognise(tensors: dict[str, np.ndarray]) -> dict:
    """Returns nothing: the tensors do not tell whether the embedding passed a last ReLU."""
    return {}


def table(settings: dict, tensors: dict[str, np.ndarray]) -> Iterator[Entry]:
    """Rows for a VGGish file, whatever its settings.

    The first fully connected layer needs no reordering: the port, like us, flattens height, width, channels.
    """
    root = "params/audio_encoder"
    for number, position in enumerate(_CONVS):
        yield Entry(f"features.{position}.weight", f"{root}/convs_{number}/kernel", "conv2d")
        yield Entry(f"features.{position}.bias", f"{root}/convs_{number}/bias", "vector")
    for position, target in _FULLY.items():
        yield Entry(f"embeddings.{position}.weight", f"{root}/{target}", "linear")
        yield Entry(f"embeddings.{position}.bias", f"{root}/{target.split('/')[0]}/bias", "vector")
