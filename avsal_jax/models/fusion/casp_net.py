"""CASP-Net's fusion (Xiong et al. 2023): predictive coding on stage 4, interaction on chosen stages."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError
from avsal_jax.models.fusion.fusion import Fusion
from avsal_jax.models.fusion.predictive_coding import PredictiveCoding, rate_limit
from avsal_jax.models.fusion.tokens import AudioTime, as_level, as_tokens
from avsal_jax.models.initial import Weights, bias_of
from avsal_jax.models.layers import Linear, Runtime
from avsal_jax.models.part import Limit
from avsal_jax.ops.audio_visual_attention import (
    Normalizer,
    bilinear_interaction,
    linear_interaction,
    quadratic_interaction,
)
from avsal_jax.ops.predictive_coding import Coding
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range

Values = Literal["vision", "audio"]


class AudioVisualInteraction(nn.Module):
    """Picture [B, T, H, W, C] and sound [B, S, A] -> picture of the same shape (section 3.2, Eqs. 1 to 5).

    The sound goes through an affine map to C channels of this stage's own (`audio`); query, key, value and
    output (alpha, beta, gamma, delta in the paper) are 1x1x1 convolutions with bias. What a key is the same
    for, a span of L / S tokens, is summed before gamma: gamma is affine, so the sums agree with the paper's.

    Fields:
      kind: `linear`, `quadratic`, or `bilinear`: a full bilinear form of each visual token and the sound
        (Table 2 names the operation only: "not stated in the paper").
      normalizer: of the linear form, see `ops.audio_visual_attention.linear_interaction`.
      values: whether gamma acts on the picture (Eq. 1) or, to keep sound in play, on the sound.
      residual: whether the result is added to the picture (Eq. 1) or replaces it.
    """

    kind: str = "linear"
    normalizer: Normalizer = "elements"
    values: Values = "vision"
    residual: bool = True
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, picture: jax.Array, sound: jax.Array) -> jax.Array:
        tokens = as_tokens(picture)
        result = self._bilinear(tokens, sound) if self.kind == "bilinear" else self._attention(tokens, sound)
        result = as_level(result, picture)
        return picture + result if self.residual else result

    def _attention(self, tokens, sound):
        def affine(name):
            return Linear(tokens.shape[-1], runtime=self.runtime, name=name)

        sound = affine("audio")(sound)  # [B, S, C]
        b, count, channels = sound.shape
        if self.values == "audio":
            source = sound
        else:
            total = jnp.promote_types(tokens.dtype, jnp.float32)
            source = tokens.reshape(b, count, -1, channels).mean(2, dtype=total).astype(tokens.dtype)
        query, keys, values = affine("query")(tokens), affine("key")(sound), affine("value")(source)
        if self.kind == "quadratic":
            result = quadratic_interaction(query, keys, values)
        else:
            result = linear_interaction(query, keys, values, normalizer=self.normalizer)
        return affine("output")(result)

    def _bilinear(self, tokens, sound):
        channels = tokens.shape[-1]
        shape = (channels, sound.shape[-1], channels)
        kernel = self.param("projection", Weights(), shape)
        kernel = kernel.astype(self.runtime.dtype)
        bias = self.param("bias", bias_of(channels), (channels,)).astype(self.runtime.dtype)
        return bilinear_interaction(tokens, sound.astype(kernel.dtype), kernel) + bias.reshape(1, 1, -1)


@register("fusion", "casp_net")
class CASPNetFusion(Fusion):
    """Pyramid x 4 (finest first) and sound tokens [B, S, A] -> pyramid of the same shapes.

    Stage i is level i of the pyramid, 1 the finest (8, H/4, W/4 for 16 frames), 4 the coarsest. Without sound
    (`tokens=None`) the pyramid comes back as it is: both steps are about the sound (the paper's visual-only
    rows have neither).

    Fields:
      interaction: `linear`, `quadratic`, `bilinear` or `none` (Table 2).
      stages: where the interaction is: (1, 2, 3, 4), (2, 3, 4), (2,) (Table 3).
      normalizer, values, residual: see `AudioVisualInteraction`. Eq. 4 has no normaliser (`none`): it
        sums over as many keys as there are tokens, 43,008 on stage 1, so with fresh weights the update
        drowns the picture. `tokens` divides by their number (the N of Eq. 1), `elements`, the default, also
        by the channels of a key. All are constant factors for one size of clip, which the output
        convolution could undo.
      audio_time: `mean`: one sound token for the clip, the mean of the encoder's, tiled as in the paper.
        `resampled`: one for each time step of the stage, interpolated linearly; it takes sound of several
        patches (`audio.patches`). With `mean` and values of the picture the quadratic form does not depend
        on the sound at all, the linear one by a scalar per visual token; `resampled` or `values="audio"`
        keep sound in play.
      coding: the predictive coding of stage 4 (the C of Table 2), or None for none; `coding.iterations` may
        change at inference (figure 6). `PredictiveCoding` says which features it records.
      sequence: on stage 4 `coding_first` (figure 2) or `interaction_first`.

    Features recorded: `fused` [B, N, C], the tokens of the coarsest level that was worked on.

    Raises:
      AvsalError: a stage named twice.
    """

    interaction: Literal["linear", "quadratic", "bilinear", "none"] = "linear"
    stages: tuple[Annotated[int, Range(1, 4)], ...] = (1, 2, 3, 4)
    normalizer: Normalizer = "elements"
    values: Values = "vision"
    residual: bool = True
    audio_time: AudioTime = "mean"
    coding: Coding | None = Coding()
    sequence: Literal["coding_first", "interaction_first"] = "coding_first"
    runtime: Runtime = Runtime()

    @property
    def iterations(self) -> int | None:
        """Of predictive coding."""
        return None if self.coding is None else self.coding.iterations

    def with_iterations(self, count: int) -> CASPNetFusion:
        return self.clone(coding=dataclasses.replace(self.coding, iterations=count))

    def idle_fields(self) -> dict[str, str]:
        interaction = f"interaction={self.interaction}"
        names = {
            "linear": (),
            "quadratic": ("normalizer",),
            "bilinear": ("normalizer", "values"),
            "none": ("normalizer", "values", "residual", "stages"),
        }[self.interaction]
        idle = dict.fromkeys(names, interaction)
        if self.coding is None:
            if self.interaction == "none":
                idle["interaction"] = "coding=none (fusion=none is a network without fusion)"
            idle["sequence"] = "coding=none"
        elif self.interaction == "none":
            idle["sequence"] = interaction
        elif 4 not in self.stages:
            idle["sequence"] = f"stages={self.stages}, without the stage 4 of the coding"
        return idle

    def limits(self, params: dict) -> dict[str, Limit]:
        return {} if self.coding is None else {"coding.rate": rate_limit(params["coding"], self.coding)}

    @nn.compact
    def __call__(self, pyramid: tuple[jax.Array, ...], tokens, train: bool = False) -> tuple[jax.Array, ...]:
        if not self.stages:
            raise AvsalError("fusion.stages names one stage at least; interaction=none has none; got ()")
        if len(set(self.stages)) < len(self.stages):
            raise AvsalError(f"fusion.stages names each stage once, as (1, 2); got {self.stages}")
        if tokens is None:
            return tuple(pyramid)
        steps = {stage: [] for stage in range(1, 5)}
        if self.interaction != "none":
            for stage in self.stages:
                steps[stage].append(self._interaction(stage))
        if self.coding is not None:
            steps[4].insert(
                0 if self.sequence == "coding_first" else len(steps[4]),
                PredictiveCoding(self.coding, self.runtime, name="coding"),
            )
        levels = list(pyramid)
        for stage, functions in steps.items():
            level = levels[stage - 1]
            for function in functions:
                level = function(level, self._sound(tokens, level.shape[1]))
            levels[stage - 1] = level
        worked = max((stage for stage, functions in steps.items() if functions), default=4)
        fused = levels[worked - 1]
        self.sow("intermediates", "fused", as_tokens(fused))
        return tuple(levels)

    def _sound(self, tokens, steps: int):
        """Tokens [B, S, A] as [B, 1, A], or as [B, steps, A]."""
        if self.audio_time == "mean":
            return tokens.mean(1, keepdims=True)
        return resize_linear(tokens, (steps,))

    def _interaction(self, stage: int):
        return AudioVisualInteraction(
            kind=self.interaction,
            normalizer=self.normalizer,
            values=self.values,
            residual=self.residual,
            runtime=self.runtime,
            name=f"interaction{stage}",
        )
