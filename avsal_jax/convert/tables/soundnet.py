"""Key tables of SoundNet: its PyTorch files, and its tensors in AViNet and STAViS checkpoints.

Names: samyak0210/ViNet @2a52666 (`soundnet8_final.pth`) and EsamGhaleb/soundNet_pytorch @1fcfb8f, which are
the same; smallflyingpig/SoundNet_Pytorch @35c673d; atsiami/STAViS @71fd51f (`soundnet8.pth`), with rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from avsal_jax.convert.conversion import Conversion
from avsal_jax.convert.rules import Entry, batch_norm
from avsal_jax.errors import AvsalError
from avsal_jax.registry import register

# Classifiers of objects and scenes, which the public systems contain and do not use; other tensors of AViNet
# and STAViS checkpoints.
CLASSIFIERS = ("*conv8_objs.*", "*conv8_scns.*", "conv8.0.*", "conv8_2.0.*")
_AVINET = ("visual_model.*", "bilinear.*", "transformer.*", "conv_in_1x1.*", "audio_conv_1x1.*")
_STAVIS = ("conv1.weight", "bn1.*", "layer[123].*", "score_dsn.*", "fuse.*", "fuseav.*", "fusion3.*")
# Positions of the convolutions in STAViS's sequence; each norm follows.
_STAVIS_POSITIONS = (0, 4, 8, 11, 14, 18, 21)
# Layouts of names: for each layer, its convolution and its norm.
_LAYOUTS = (
    [(f"conv{n}", f"batchnorm{n}") for n in range(1, 8)],
    [(f"conv{n}.0", f"conv{n}.1") for n in range(1, 8)],
    [(f"audionet.conv{n}", f"audionet.batchnorm{n}") for n in range(1, 8)],
    [(f"soundnet8.{n}", f"soundnet8.{n + 1}") for n in _STAVIS_POSITIONS],
)


@register("conversion", "soundnet")
class SoundNetConversion(Conversion):
    """SoundNet, an audio encoder: its own files in three layouts, or part of AViNet and STAViS."""

    # The last norm of each layout; names of convolutions also occur in other networks.
    marks = tuple(f"{names[-1][1]}.weight" for names in _LAYOUTS)
    ignored = ("*.num_batches_tracked", *CLASSIFIERS, *_AVINET, *_STAVIS)

    def recognise(self, tensors) -> dict:
        """Returns an empty dictionary; AvsalError for a file without SoundNet."""
        _layout(tensors)
        return {}

    def table(self, settings, tensors) -> Iterator[Entry]:
        """Yields the rows of SoundNet in the layout of `tensors`."""
        names = _layout(tensors)
        first = tensors[f"{names[0][0]}.weight"]
        transform = "conv_row" if first.shape[-1] > 1 else "conv_column"
        for number, (conv, norm) in enumerate(names, start=1):
            target = f"audio_encoder/layer{number}"
            yield Entry(f"{conv}.weight", f"params/{target}/conv/kernel", transform)
            yield Entry(f"{conv}.bias", f"params/{target}/conv/bias", "vector")
            yield from batch_norm(norm, f"{target}/norm")


def _layout(tensors) -> list[tuple[str, str]]:
    """Returns the layout of a file; the visual `conv1` of STAViS has more axes."""
    for names in _LAYOUTS:
        first = tensors.get(f"{names[0][0]}.weight")
        if first is not None and first.ndim == 4 and 1 in first.shape[2:]:
            return names
    expected = ", ".join(f"{names[0][0]}.weight" for names in _LAYOUTS)
    raise AvsalError(
        f"this file does not contain SoundNet: it has none of {expected} with kernels (k, 1) or (1, k)"
    )
