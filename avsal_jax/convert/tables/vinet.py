"""Key table of ViNet checkpoints (samyak0210/ViNet @2a52666)."""

from __future__ import annotations

from collections.abc import Iterator

from avsal_jax.convert.conversion import Conversion
from avsal_jax.convert.rules import Entry, batch_norm
from avsal_jax.convert.tables import s3d
from avsal_jax.errors import AvsalError
from avsal_jax.registry import register

_HEAD = "heads/saliency"
# The trunk is cut into base1 = [0..3], base2 = [5, 6], base3 = [8..12], base4 = [14, 15].
_CUTS = {1: 0, 2: 5, 3: 8, 4: 14}


@register("conversion", "vinet")
class ViNetConversion(Conversion):
    """ViNet of samyak0210/ViNet, for 8, 16, 32 or 48 frames."""

    marks = ("decoder.convtsp2.0.weight", "backbone.base1.0.conv_s.weight")
    ignored = s3d.S3DConversion.ignored

    def recognise(self, tensors) -> dict:
        """Returns clip length, hierarchy and upsampling, implied by names and shapes.

        A decoder with transposed convolutions is not in the public code; the layout read here is the
        one that replacing each Upsample by ConvTranspose3d, BatchNorm3d, ReLU in its sequence gives.
        """
        for name in ("decoder.convtsp2.0.weight", "decoder.convtsp3.0.weight", "decoder.convtsp4.0.weight"):
            if name not in tensors or tensors[name].ndim != 5:
                raise AvsalError(f"this is not a ViNet checkpoint: it has no 5-axis tensor {name}")
        transposed = "decoder.convtsp1.2.weight" in tensors
        kernels = [tensors[f"decoder.convtsp{n}.0.weight"].shape[2] for n in (2, 3, 4)]
        hierarchy = 0
        while hierarchy < 3 and kernels[hierarchy] > 1:
            hierarchy += 1
        _, fifth, sixth = _positions(transposed)
        halves = _kernel_time(tensors, f"decoder.convtsp4.{fifth}.weight")
        collapse = _kernel_time(tensors, f"decoder.convtsp4.{sixth}.weight")
        frames = {(1, 1): 8, (2, 1): 16, (2, 2): 32, (2, 3): 48}.get((halves, collapse))
        if frames is None:
            raise AvsalError(
                f"this is not a ViNet decoder: convtsp4.{fifth} and .{sixth} have temporal kernels {halves} "
                f"and {collapse}; clips of 8, 16, 32, 48 frames have (1, 1), (2, 1), (2, 2), (2, 3)"
            )
        upsample = "transposed" if transposed else "trilinear"
        return {"frames": frames, "heads.saliency.hierarchy": hierarchy, "heads.saliency.upsample": upsample}

    def table(self, settings, tensors) -> Iterator[Entry]:
        """Yields the rows of a ViNet checkpoint with these settings."""
        yield from s3d.trunk(_backbone)
        transposed = settings["heads.saliency.upsample"] == "transposed"
        frames = settings["frames"]
        root = f"params/{_HEAD}"
        for level in (1, 2, 3):
            source = f"decoder.convtsp{level}"
            yield Entry(f"{source}.0.weight", f"{root}/conv{level}/kernel", "conv3d")
            if transposed:
                yield from _upsample(source, 2, level)
        first, fifth, sixth = _positions(transposed)
        readout = sixth + 2 if frames > 16 else sixth
        for position, number in ((first, 4), (fifth, 5)):
            yield Entry(f"decoder.convtsp4.{position}.weight", f"{root}/conv{number}/kernel", "conv3d")
            if transposed:
                yield from _upsample("decoder.convtsp4", position + 2, number)
        if frames > 16:
            yield Entry(f"decoder.convtsp4.{sixth}.weight", f"{root}/collapse/kernel", "conv3d")
            if frames == 48:
                yield Entry(f"decoder.convtsp4.{sixth}.bias", f"{root}/collapse/bias", "vector")
        yield Entry(f"decoder.convtsp4.{readout}.weight", f"{root}/readout/kernel", "conv3d")
        yield Entry(f"decoder.convtsp4.{readout}.bias", f"{root}/readout/bias", "vector")


def _backbone(index: int) -> str:
    number = max(n for n, start in _CUTS.items() if index >= start)
    return f"backbone.base{number}.{index - _CUTS[number]}"


def _positions(transposed: bool) -> tuple[int, int, int]:
    """Returns positions in the sequence convtsp4 of the convolutions of D4, D5 and D6.

    Up to 16 frames D6 is missing and the readout has its position; otherwise the readout follows two later.
    """
    gap = 5 if transposed else 3  # convolution, ReLU, then Upsample, or ConvTranspose, norm, ReLU
    return 0, gap, 2 * gap


def _upsample(source: str, position: int, number: int) -> Iterator[Entry]:
    target = f"{_HEAD}/upsample{number}"
    yield Entry(f"{source}.{position}.weight", f"params/{target}/kernel", "conv_transpose3d")
    yield from batch_norm(f"{source}.{position + 1}", f"{target}_norm")


def _kernel_time(tensors, name: str) -> int | None:
    array = tensors.get(name)
    return array.shape[2] if array is not None and array.ndim == 5 else None
