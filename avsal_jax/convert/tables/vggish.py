"""Key table of the published VGGish file (harritaylor/torchvggish @f3f9096)."""

from __future__ import annotations

from collections.abc import Iterator

from avsal_jax.convert.conversion import Conversion
from avsal_jax.convert.rules import Entry
from avsal_jax.registry import register

_CONVS = (0, 3, 6, 8, 11, 13)  # positions in `features`; ReLUs and poolings lie between
_FULLY = {0: "fully_0/kernel", 2: "fully_1/kernel", 4: "embedding/projection"}


@register("conversion", "vggish")
class VGGishConversion(Conversion):
    """VGGish of harritaylor/torchvggish, an encoder of sound.

    The tensors do not show whether the embedding passed a last ReLU.
    """

    marks = ("embeddings.0.weight",)
    ignored = ("pproc.*", "pca_*")  # the post-processing's constants, where a file has them

    def table(self, settings, tensors) -> Iterator[Entry]:
        """Yields the rows of a VGGish file, whatever its settings.

        The first fully connected layer needs no reordering: the port too flattens height, width, channels.
        """
        root = "params/audio_encoder"
        for number, position in enumerate(_CONVS):
            yield Entry(f"features.{position}.weight", f"{root}/convs_{number}/kernel", "conv2d")
            yield Entry(f"features.{position}.bias", f"{root}/convs_{number}/bias", "vector")
        for position, target in _FULLY.items():
            yield Entry(f"embeddings.{position}.weight", f"{root}/{target}", "linear")
            yield Entry(f"embeddings.{position}.bias", f"{root}/{target.split('/')[0]}/bias", "vector")
