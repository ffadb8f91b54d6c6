"""Key table of the published VGGish file (harritaylor/torchvggish @f3f9096)."""

from __future__ import annotations

from collections.abc import Iterator

from avsal_jax.convert.conversion import Conversion
from avsal_jax.convert.rules import Entry
from avsal_jax.registry import register

_CONVS = (0, 3, 6, 8, 11, 13)  # positions in `features`, between ReLUs and poolings
_FULLY = {0: "fully_0/kernel", 2: "fully_1/kernel", 4: "embedding/projection"}


@register("conversion", "vggish")
class VGGishConversion(Conversion):
    """VGGish of harritaylor/torchvggish, an audio encoder.

    The tensors do not determine whether a ReLU follows the embedding.
    """

    marks = ("embeddings.0.weight",)
    ignored = ("pproc.*", "pca_*")  # constants of the post-processing, in some files

    def table(self, settings, tensors) -> Iterator[Entry]:
        """Yields the rows of a VGGish file; they do not depend on the settings.

        The first fully connected layer needs no reordering: the port also flattens height, width, channels.
        """
        root = "params/audio_encoder"
        for number, position in enumerate(_CONVS):
            yield Entry(f"features.{position}.weight", f"{root}/convs_{number}/kernel", "conv2d")
            yield Entry(f"features.{position}.bias", f"{root}/convs_{number}/bias", "vector")
        for position, target in _FULLY.items():
            yield Entry(f"embeddings.{position}.weight", f"{root}/{target}", "linear")
            yield Entry(f"embeddings.{position}.bias", f"{root}/{target.split('/')[0]}/bias", "vector")
