"""Key tables of AViNet(B) and AViNet(T) checkpoints (samyak0210/ViNet @2a52666)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from avsal_jax.convert.conversion import Conversion
from avsal_jax.convert.rules import Entry
from avsal_jax.convert.tables import soundnet
from avsal_jax.convert.tables.vinet import ViNetConversion
from avsal_jax.errors import AvsalError
from avsal_jax.registry import register

_VISUAL = "visual_model."
_POSITIONS = "transformer.pos_encoder.pe"
_MOST_POSITIONS = 10_000_000  # tokens times channels, of a table that is compared


@register("conversion", "avinet")
class AViNetConversion(Conversion):
    """AViNet(B) and AViNet(T) of samyak0210/ViNet."""

    marks = tuple(_VISUAL + mark for mark in ViNetConversion.marks)
    # AViNet(T) has an unused bilinear form. Its table of positions is computed here, and only compared.
    ignored = (
        *ViNetConversion.ignored,
        *soundnet.CLASSIFIERS,
        "bilinear.weight",
        "bilinear.bias",
        _POSITIONS,
    )

    def recognise(self, tensors) -> dict:
        """Returns the fusion and the settings of the visual part, implied by names and shapes."""
        if not any(name.startswith(_VISUAL) for name in tensors):
            raise AvsalError(f"this is not an AViNet checkpoint: no name begins with {_VISUAL}")
        settings = ViNetConversion().recognise(_visual(tensors))
        if "audio_conv_1x1.weight" not in tensors:
            return {**settings, "fusion": "bilinear"}
        layers = {name.split(".")[3] for name in tensors if name.startswith(_layer(""))}
        _check_positions(tensors.get(_POSITIONS))
        return {**settings, "fusion": "transformer", "fusion.layers": len(layers)}

    def table(self, settings, tensors) -> Iterator[Entry]:
        """Yields the rows of an AViNet checkpoint with these settings."""
        for row in ViNetConversion().table(settings, _visual(tensors)):
            yield dataclasses.replace(row, source=_VISUAL + row.source)
        yield from soundnet.SoundNetConversion().table(settings, tensors)
        if "fusion.layers" in settings:
            yield from _transformer(settings["fusion.layers"])
        else:
            yield Entry("bilinear.weight", "params/fusion/projection", "bilinear")
            yield Entry("bilinear.bias", "params/fusion/bias", "vector")


def _transformer(layers: int) -> Iterator[Entry]:
    yield from _linear("conv_in_1x1", target="picture", leaf="projection", transform="pointwise3d")
    yield from _linear("audio_conv_1x1", target="sound", leaf="projection", transform="pointwise2d")
    for number in range(layers):
        source, target = _layer(f"{number}"), f"layer{number}"
        for piece, name in enumerate(("query", "key", "value")):
            path, thirds = f"params/fusion/{target}/attention/{name}", (piece, 3)
            yield Entry(
                f"{source}.self_attn.in_proj_weight",
                target=f"{path}/projection",
                transform="linear",
                piece=thirds,
            )
            yield Entry(
                f"{source}.self_attn.in_proj_bias", target=f"{path}/bias", transform="vector", piece=thirds
            )
        yield from _linear(f"{source}.self_attn.out_proj", f"{target}/attention/output", "projection")
        yield from _linear(f"{source}.linear1", f"{target}/expand", "kernel")
        yield from _linear(f"{source}.linear2", f"{target}/reduce", "projection")
        for norm in ("norm1", "norm2"):
            yield Entry(f"{source}.{norm}.weight", f"params/fusion/{target}/{norm}/scale", "vector")
            yield Entry(f"{source}.{norm}.bias", f"params/fusion/{target}/{norm}/bias", "vector")


def _linear(source: str, target: str, leaf: str, transform: str = "linear") -> Iterator[Entry]:
    yield Entry(f"{source}.weight", f"params/fusion/{target}/{leaf}", transform)
    yield Entry(f"{source}.bias", f"params/fusion/{target}/bias", "vector")


def _layer(number: str) -> str:
    return f"transformer.transformer_encoder.layers.{number}"


def _visual(tensors):
    return {name.removeprefix(_VISUAL): v for name, v in tensors.items() if name.startswith(_VISUAL)}


def _check_positions(table) -> None:
    import numpy as np

    from avsal_jax.ops.attention import sinusoids

    has_shape = table is not None and table.ndim == 3 and table.shape[1] == 1
    if not has_shape or not 0 < table.shape[0] * table.shape[2] <= _MOST_POSITIONS:
        raise AvsalError(
            f"this AViNet(T) checkpoint has no table {_POSITIONS} of shape (tokens, 1, channels)"
        )
    if not np.allclose(np.asarray(table)[:, 0], sinusoids(table.shape[0], table.shape[2]), atol=1e-4):
        raise AvsalError(f"{_POSITIONS} of this checkpoint is not the sinusoid table of AViNet(T)")
