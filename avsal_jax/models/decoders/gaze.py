"""The head of the system `gaze`: what a picture shows, and what moves in it, as a density of fixations.

The design is the project's own. As UNISAL (Droste, Jiao and Noble, ECCV 2020, arXiv 2003.05477) it treats
photographs and videos by one network with parts that only one of them has, a learned prior and a learned
smoothing of the map.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsal_jax.errors import AvsalError
from avsal_jax.models.initial import ZEROS
from avsal_jax.models.layers import Channels, Conv2D, Dropout, Linear, Norm, Runtime
from avsal_jax.models.part import Part
from avsal_jax.ops.camera_motion import motion_channels
from avsal_jax.ops.resize import resize_linear
from avsal_jax.registry import register
from avsal_jax.spec.fields import Range

PEAK = 0.98  # the largest value of a saliency map, so that its logits are finite
_PRIOR = (6, 8)  # rows and columns of a learned prior, whatever the picture's size
_BLUR_RADIUS = 5  # cells
_NORM_MOMENTUM = 0.98  # of running statistics; a readout learns in a few hundred steps


@register("head", "gaze")
class GazeHead(Part):
    """Pyramid of single frames and their luminance -> logits [B, H, W] (before the sigmoid).

    Pyramid: (B, T, H/4, W/4, C), (B, T, H/8, W/8, C'), ... finest first, and last the luminance
    (B, T, H/4, W/4, 1) where there is `motion` (`EfficientNetLite0.luminance`). The finest level is not used.
    The map is that of the last frame. It depends on the levels of this frame alone, and on the luminance of
    the others.

    The sigmoid of the logits is p / max(p) * 0.98 with p a probability density over the picture: that of the
    readout; of a video, and with `motion`, the one that the motion head makes of it. A photograph (`medium`
    `still`) has that of the readout.

    Fields:
      channels, hidden: of the readout: 1x1 convolutions of the levels, added up at stride 8; then a 3x3 one.
      dropout: of whole channels of the standardised pyramid.
      motion: channels of the head that scales and shifts by motion, or None for a head without.
      lags: frames of the clip, before the last, that are compared with it; `motion_channels` for each.
      frozen_image: whether the readout is frozen, while the motion head learns.
    """

    channels: Channels = 48
    hidden: Channels = 32
    dropout: Dropout = 0.2
    motion: Channels | None = None
    lags: tuple[Annotated[int, Range(1, 511)], ...] = (1, 3)
    frozen_image: bool = False
    runtime: Runtime = Runtime()

    sees_medium: ClassVar[bool] = True

    def setup(self):
        self.readout = Readout(self.channels, hidden=self.hidden, dropout=self.dropout, runtime=self.runtime)
        if self.motion is not None:
            self.motion_head = MotionHead(self.motion, runtime=self.runtime)

    def __call__(self, pyramid: tuple[jax.Array, ...], train: bool = False, medium: str = "video"):
        size = tuple(4 * n for n in pyramid[0].shape[2:4])
        levels = tuple(level[:, -1] for level in pyramid[1:] if level.shape[2] < pyramid[0].shape[2])
        density = log_density(self.readout(levels, train and not self.frozen_image))
        if self.frozen_image:
            density = jax.lax.stop_gradient(density)
        self.sow("intermediates", "image_density", density)
        if self.motion is not None and (medium == "video" or self.is_initializing()):
            density = self.motion_head(density, self._motion(pyramid[-1]))
        return _peaked(resize_linear(density[..., None], size)[..., 0])

    def idle_fields(self) -> dict[str, str]:
        idle = {"dropout": "frozen_image=True"} if self.frozen_image else {}
        without = "motion=None (the head has nothing else to learn)"
        return idle if self.motion is not None else {**idle, "lags": "motion=None", "frozen_image": without}

    @property
    def frozen_parameters(self) -> tuple[str, ...]:
        """Patterns of the paths, below the head, of parameters that are not trained."""
        return ("readout/.*",) if self.frozen_image else ()

    def _motion(self, luminance):
        """Returns the motion channels of the last frame, [B, H/8, W/8, 2 * lags]."""
        if luminance.shape[-1] != 1:
            raise AvsalError(
                "the head gaze with motion needs the luminance of frames: set visual_encoder.luminance=True, "
                "or heads.saliency.motion=None"
            )
        light = luminance[..., 0].astype(jnp.float32)
        if max(self.lags) >= light.shape[1]:
            raise AvsalError(
                f"a lag of {max(self.lags)} frames needs clips of {1 + max(self.lags)} frames; these have "
                f"{light.shape[1]}: set frames, or other lags"
            )
        earlier = jnp.stack([light[:, -1 - lag] for lag in self.lags], 1)
        channels = motion_channels(light[:, -1], earlier)
        batch, height, width, count = channels.shape
        return channels.reshape(batch, height // 2, 2, width // 2, 2, count).mean((2, 4))


class Readout(nn.Module):
    """Levels [B, H/8, W/8, C], [B, H/16, W/16, C'], ... of one frame -> logits [B, H/8, W/8], float32.

    Channels are standardised by statistics of the training pictures. A coarse prior is added to the blurred
    logits; both are learned.
    """

    channels: int
    hidden: int
    dropout: float
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...], train: bool) -> jax.Array:
        size, total = levels[0].shape[1:3], 0.0
        for number, level in enumerate(levels):
            norm = Norm(1e-5, momentum=_NORM_MOMENTUM, runtime=self.runtime, name=f"norm{number}")
            x = nn.Dropout(self.dropout, broadcast_dims=(1, 2))(norm(level, train), deterministic=not train)
            x = Linear(self.channels, use_bias=False, runtime=self.runtime, name=f"level{number}")(x)
            total = total + resize_linear(x, size)
        x = nn.relu(total / math.sqrt(len(levels)))
        x = nn.relu(Conv2D(self.hidden, size=3, runtime=self.runtime, name="conv")(x))
        x = Linear(1, use_bias=False, runtime=self.runtime, name="logits")(x).astype(jnp.float32)
        width = self.param("log_blur", ZEROS, (1,))
        prior = self.param("prior", ZEROS, (*_PRIOR, 1))
        return (_blurred(x, jnp.exp(width[0])) + resize_linear(prior, size)[None])[..., 0]


class MotionHead(nn.Module):
    """Log density [B, h, w] and motion channels [B, h, w, M] -> another log density [B, h, w].

    The change of a cell is a scale and a shift, from what moves around it, and a coarse prior of videos on
    top of the readout's. It starts as no change.
    """

    channels: int
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, density: jax.Array, motion: jax.Array) -> jax.Array:
        x = nn.relu(Conv2D(self.channels, size=3, runtime=self.runtime, name="conv1")(motion))
        x = nn.relu(Conv2D(4, size=3, runtime=self.runtime, name="conv2")(x)).astype(jnp.float32)
        change = jnp.einsum("...i,io->...o", x, self.param("change", ZEROS, (4, 2)))
        change = change + self.param("bias", ZEROS, (2,)).reshape(1, 1, 1, 2)
        centred = density - density.mean((1, 2), keepdims=True)
        prior = resize_linear(self.param("prior", ZEROS, (*_PRIOR, 1)), density.shape[1:])
        return log_density(centred * (1 + change[..., 0]) + change[..., 1] + prior[None, ..., 0])


def log_density(logits: jax.Array) -> jax.Array:
    """Returns the log softmax over the cells of maps [..., h, w]."""
    return logits - jax.nn.logsumexp(logits, axis=(-2, -1), keepdims=True)


def _peaked(density: jax.Array) -> jax.Array:
    """Returns logits whose sigmoid is proportional to the density and has the maximum `PEAK`."""
    top = jax.lax.stop_gradient(density.max((-2, -1), keepdims=True))
    scaled = density - top + math.log(PEAK)
    return scaled - jnp.log1p(-jnp.exp(scaled))


def _blurred(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Returns maps [B, h, w, 1] after a Gaussian of `sigma` cells; the border is repeated outwards."""
    offsets = jnp.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    kernel = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in (1, 2):
        length = x.shape[axis]
        pads = [(0, 0)] * 4
        pads[axis] = (_BLUR_RADIUS, _BLUR_RADIUS)
        padded = jnp.pad(x, pads, mode="edge")
        x = sum(
            kernel[i] * jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(len(offsets))
        )
    return x
