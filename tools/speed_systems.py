"""The systems whose speed is compared with PyTorch, and what both sides are given.

Imports neither jax nor PyTorch, so that a process that measures the memory of one side has only that side.
"""

import dataclasses

import numpy as np
from PIL import Image

from avsal_jax.spec.front_ends import Waveform
from avsal_jax.spec.input import MEAN_127, InputSpec

TASKS = ("forward", "step", "predict")
_LEVELS = ((4, 24), (8, 40), (16, 112), (32, 320))  # stride and channels of EfficientNet-Lite0's pyramid


@dataclasses.dataclass(frozen=True)
class Training:
    """The loss and the optimizer of a training step.

    Attributes:
      losses: weight of each loss by name.
      optimizer: `adam` or `adamw`.
      learning_rate, weight_decay, clip_norm: of the optimizer.
      groups: (pattern of paths here, end of a name in PyTorch) -> factor on the learning rate.
      warmup_steps: of a cosine schedule; None for a constant rate.
      steps: of the run that a measured step is part of.
    """

    losses: tuple[tuple[str, float], ...] = (("kl", 1.0),)
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    clip_norm: float | None = None
    groups: tuple[tuple[str, str, float], ...] = ()
    warmup_steps: int | None = None
    steps: int = 1000


@dataclasses.dataclass(frozen=True)
class System:
    """A network of the benchmark.

    Attributes:
      network: `vinet`, `avinet` or `gaze`.
      title: of its row in tables.
      spec: the clip that it takes.
      batch: clips of a call of `forward` and of `predict`.
      step_batch: clips of a training step.
      maps: of a call of `predict`.
      step: describes the training step.
      training: its loss and optimizer.
      multiplier: of the channels.
      shares_features: whether a step is given the features of a frozen encoder, as float16.
    """

    network: str
    title: str
    spec: InputSpec
    batch: int
    step_batch: int
    maps: int
    step: str = "KL divergence, Adam, batch statistics"
    training: Training = Training()
    multiplier: float = 1.0
    shares_features: bool = False

    def resized(self, height: int, width: int, **changes) -> "System":
        """Returns the system with frames of another size, and with other `changes` of its fields."""
        return dataclasses.replace(
            self, spec=dataclasses.replace(self.spec, height=height, width=width), **changes
        )


# As configs/gaze.py, row `clips`; a test compares them.
_GAZE_CLIPS = Training(
    losses=(("kl", 1.0), ("cc", -1.0), ("nss", -0.2)),
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=1e-2,
    clip_norm=5.0,
    groups=(("heads/saliency/motion_head/prior", "motion_head.prior", 4.0),),
    warmup_steps=40,
    steps=500,
)
SYSTEMS = {
    "vinet": System("vinet", "ViNet, 32 frames of 224x384", InputSpec(), batch=1, step_batch=1, maps=8),
    "vinet_quarter": System(
        "vinet",
        "ViNet of a quarter of the width, 32 frames of 64x96",
        InputSpec(32, 64, 96),
        batch=8,
        step_batch=8,
        maps=64,
        multiplier=0.25,
    ),
    "avinet_b": System(
        "avinet",
        "AViNet(B), 32 frames of 224x384 and 3.2 s of sound",
        InputSpec(audio=Waveform(samples=70_560)),
        batch=1,
        step_batch=1,
        maps=8,
    ),
    "gaze": System(
        "gaze",
        "avsal-gaze, 4 frames of 224x384",
        InputSpec(4, fit="aspect", interval=0.1, smoothing=0.2, pixels=MEAN_127),
        batch=1,
        step_batch=16,
        maps=64,
        step="the recipe `gaze:clips`: the motion head learns from cached features of the frozen encoder",
        training=_GAZE_CLIPS,
        shares_features=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class Clips:
    """A batch of clips with its truth.

    Attributes:
      frames: uint8 [B, T, H, W, 3].
      audio: float32 [B, samples], or None.
      density: float32 [B, H, W]. fixations: bool [B, H, W].
      features: float16 [B, T, h, w, C] each, of a frozen encoder; empty for a system without.
    """

    frames: np.ndarray
    audio: np.ndarray | None
    density: np.ndarray
    fixations: np.ndarray
    features: tuple[np.ndarray, ...] = ()


def clips_of(system: System, task: str, seed: int = 0) -> Clips:
    """Returns clips for a call: a coloured pattern that the camera pans over, and a patch that moves."""
    spec, rng = system.spec, np.random.default_rng(seed)
    batch = system.step_batch if task == "step" else system.batch
    frames = np.stack([_panned(rng, spec) for _ in range(batch)])
    centres = rng.uniform(0.2, 0.8, (2, batch, 1, 1))
    y, x = (np.arange(size) / size for size in (spec.height, spec.width))
    squares = (y[:, None] - centres[0]) ** 2 + (x - centres[1]) ** 2
    density = np.exp(-squares / 0.02).astype(np.float32)
    audio = None
    if spec.audio is not None:
        audio = rng.standard_normal((batch, *spec.audio.shape), np.float32)
    features = _features(rng, frames) if system.shares_features and task == "step" else ()
    return Clips(frames, audio, density, fixations=density > 0.9, features=features)


def _panned(rng, spec: InputSpec) -> np.ndarray:
    """Returns frames uint8 [T, H, W, 3]: smooth, so that rounding does not decide how the camera moved."""
    frames, height, width = spec.frames, spec.height, spec.width
    coarse = Image.fromarray(rng.integers(0, 256, (7, 11, 3), np.uint8))
    wide = np.asarray(coarse.resize((width + 2 * frames, height + frames), Image.Resampling.BICUBIC))
    clip = np.stack([wide[t : t + height, 2 * t : 2 * t + width] for t in range(frames)])
    side, top = height // 4, int(rng.integers(0, height // 2))
    for t in range(frames):
        left = 3 * t % (width - side)
        clip[t, top : top + side, left : left + side] //= 2
    return clip


def _features(rng, frames: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns random levels of the pyramid, and the luminance of the frames."""
    batch, length, height, width, _ = frames.shape
    levels = [
        rng.standard_normal((batch, length, height // stride, width // stride, channels), np.float32)
        for stride, channels in _LEVELS
    ]
    blocks = frames.reshape(batch, length, height // 4, 4, width // 4, 4, 3)
    levels.append(blocks.mean((3, 5, 6))[..., None] / 255)
    return tuple(level.astype(np.float16) for level in levels)
