"""AViNet(B) in PyTorch, written for the benchmark from the paper's layer table, with its state-dict names.

The bilinear form is two products and a sum: `torch.nn.functional.bilinear`, which the public code uses, is
slower.
"""

import torch
from torch import nn
from torch.nn import functional
from torch_vinet import ViNet, scaled

# Channels, kernel, and the pooling after it, over time. The stride is 2, the padding half of the kernel.
_SOUND_LAYERS = ((16, 64, 8), (32, 32, 8), (64, 16, 1), (128, 8, 1), (256, 4, 4), (512, 4, 1), (1024, 4, 1))


class SoundNet(nn.Module):
    """Waveforms [B, samples] -> tokens [B, C, S]."""

    def __init__(self, width=1.0):
        super().__init__()
        of, cin = scaled(width), 1
        for number, (channels, kernel, _) in enumerate(_SOUND_LAYERS, start=1):
            conv = nn.Conv2d(cin, of(channels), (kernel, 1), (2, 1), (kernel // 2, 0))
            setattr(self, f"conv{number}", conv)
            setattr(self, f"batchnorm{number}", nn.BatchNorm2d(of(channels)))
            cin = of(channels)

    def forward(self, audio):
        x = audio[:, None, :, None]
        for number, (_, _, pool) in enumerate(_SOUND_LAYERS, start=1):
            norm = getattr(self, f"batchnorm{number}")
            x = functional.relu(norm(getattr(self, f"conv{number}")(x)), inplace=True)
            if pool > 1:
                x = functional.max_pool2d(x, (pool, 1))
        return x[..., 0]


class AViNet(nn.Module):
    """Normalised clips [B, 3, 32, H, W] and waveforms [B, samples] -> logits [B, H, W].

    Args:
      height, width: of the frames.
      tokens: of the sound.
      multiplier: of the channel counts.
    """

    def __init__(self, height, width, tokens, multiplier=1.0):
        super().__init__()
        self.visual_model, self.audionet = ViNet(multiplier), SoundNet(multiplier)
        rows, columns = height // 32, width // 32
        self.bilinear = nn.Bilinear(rows * -(-columns // 2), tokens, 4 * rows * columns)

    def forward(self, clips, audio):
        y0, *finer = self.visual_model.backbone(clips)
        picture = functional.max_pool3d(y0, (4, 1, 1), (2, 1, 2)).flatten(2)  # [B, C, places]
        sound = self.audionet(audio)  # [B, C, S]
        form = torch.einsum("bci,oij->bcoj", picture, self.bilinear.weight)
        fused = (form * sound[:, :, None]).sum(-1) + self.bilinear.bias
        return self.visual_model.decoder(fused.view(y0.shape), *finer)


def tokens_of(samples):
    """Returns how many tokens SoundNet makes of a waveform."""
    for _, kernel, pool in _SOUND_LAYERS:
        samples = ((samples + 2 * (kernel // 2) - kernel) // 2 + 1) // pool
    return samples
