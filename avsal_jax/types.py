"""What goes into a network and what comes out, as pytrees.

Letters: B batch, T frames, H height, W width, C channels, L audio samples, P log-mel patches.
"""

from __future__ import annotations

import flax.struct
import jax
import numpy as np


@flax.struct.dataclass
class Clip:
    """A batch of clips.

    Attributes:
      frames: RGB, uint8 [B, T, H, W, 3]; or float, already normalised, with `normalized=True`. None for a
        audio-only part.
      audio: waveform [B, L] or log-mel patches [B, P, 96, 64]; None for no sound.
      normalized: whether `frames` are what the network takes (`ops.pixels`).
      shared: in place of `frames`, what `Network.frame_features` makes of them: arrays [B, T, ...].
      medium: `video`, or `still` for a photograph, which is one picture repeated. Static under `jit`: a
        part with `sees_medium` may compute different functions for videos and stills, with the same
        parameters.

    Raises:
      ValueError: float frames without `normalized=True`, or uint8 frames with it.
    """

    frames: jax.Array | np.ndarray | None
    audio: jax.Array | np.ndarray | None = None
    shared: tuple[jax.Array | np.ndarray, ...] | None = None
    normalized: bool = flax.struct.field(pytree_node=False, default=False)
    medium: str = flax.struct.field(pytree_node=False, default="video")

    def __post_init__(self):
        dtype = getattr(self.frames, "dtype", None)
        if dtype is None:  # no frames, or a tree transformation put something else than arrays here
            return
        if (dtype == np.uint8) == self.normalized:
            raise ValueError(
                f"clip frames are uint8 RGB in 0..255, or floats with normalized=True; got dtype "
                f"{dtype} with normalized={self.normalized}"
            )
        if self.medium not in ("video", "still"):
            raise ValueError(f"the medium of a clip is video or still; got {self.medium!r}")


@flax.struct.dataclass
class Outputs:
    """What a network gives for a batch of clips.

    Attributes:
      logits: by head; those of `saliency` are [B, H, W]. Empty for a part without a head.
      features: what was asked for by name.
      batch_stats: running statistics after the clips, where these were for training.
    """

    logits: dict
    features: dict
    batch_stats: dict


@flax.struct.dataclass
class Prediction:
    """Saliency maps for a batch of clips.

    Attributes:
      saliency: [B, H, W] in [0, 1], the sigmoid of `logits`; not normalised to sum 1.
      logits: [B, H, W].
      features: what was asked for by name.
      heads: logits of all heads by name, `saliency` among them.
    """

    saliency: jax.Array | None
    logits: jax.Array | None
    features: dict
    heads: dict
