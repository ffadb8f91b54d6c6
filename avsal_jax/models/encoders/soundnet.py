"""SoundNet (Aytar, Vondrick, Torralba, NIPS 2016) as samyak0210/ViNet @2a52666 and STAViS @71fd51f use it.

Seven convolutions over time, each with batch norm and ReLU; the two classifiers after them are unused
there and absent here.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from avsal_jax.errors import AvsalError
from avsal_jax.models.layers import Conv3D, Norm, Runtime, Width, scaled
from avsal_jax.models.part import Part
from avsal_jax.ops.pooling import max_pool3d
from avsal_jax.registry import register
from avsal_jax.spec.front_ends import Waveform

# Channels, kernel (stride 2, padded by half of it), and the pooling after it; all over time.
LAYERS = ((16, 64, 8), (32, 32, 8), (64, 16, 1), (128, 8, 1), (256, 4, 4), (512, 4, 1), (1024, 4, 1))


@register("audio_encoder", "soundnet")
class SoundNet(Part):
    """Waveform [B, L] in +-256, centred in its buffer (`spec.front_ends.Waveform`) -> tokens [B, S, 1024].

    22,050 Hz is what it was trained on, but the public code feeds each file's own rate. 70,560 samples
    give 3 tokens, 35,280 give 2 (STAViS pools those to one, which is left to the fusion).

    Fields:
      width: multiplier of all channel counts.
      runtime: see `layers.Runtime`. Norms keep 0.9 of their old statistics per step, as in the public
        code, which leaves torch's default there; `norm_momentum` is S3D's.

    Raises:
      AvsalError: no waveforms, or too short for one token.
    """

    width: Width = 1.0
    runtime: Runtime = Runtime()

    default_sound = Waveform(samples=70_560)

    def setup(self):
        for number, (channels, kernel, pool) in enumerate(LAYERS, start=1):
            layer = _Layer(scaled(channels, self.width), kernel, pool, runtime=self.runtime)
            setattr(self, f"layer{number}", layer)

    def __call__(self, audio: jax.Array, train: bool = False) -> jax.Array:
        if audio.ndim != 2:
            raise AvsalError(f"SoundNet hears waveforms [B, samples]; got shape {tuple(audio.shape)}")
        if tokens_of(audio.shape[1]) < 1:
            raise AvsalError(f"SoundNet needs at least {_SHORTEST:,} samples; got {audio.shape[1]:,}")
        x = audio[:, :, None, None, None]  # [B, T, H, W, C] with H = W = 1
        for number in range(1, len(LAYERS) + 1):
            x = getattr(self, f"layer{number}")(x, train)
        return x[:, :, 0, 0]


def tokens_of(samples: int) -> int:
    """Returns how many tokens a waveform of that length gives; 0 where it is too short."""
    for _, kernel, pool in LAYERS:
        samples = (samples + 2 * (kernel // 2) - kernel) // 2 + 1
        samples //= pool
        if samples < 1:
            return 0
    return samples


_SHORTEST = next(n for n in range(1, 100_000) if tokens_of(n))


class _Layer(nn.Module):
    channels: int
    kernel: int
    pool: int
    runtime: Runtime = Runtime()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv3D(
            self.channels,
            kernel=(self.kernel, 1, 1),
            stride=(2, 1, 1),
            padding=(self.kernel // 2, 0, 0),
            use_bias=True,
            runtime=self.runtime,
            name="conv",
        )(x)
        x = nn.relu(Norm(epsilon=1e-5, momentum=0.9, runtime=self.runtime, name="norm")(x, train))
        window = (self.pool, 1, 1)
        return max_pool3d(x, window, window)
