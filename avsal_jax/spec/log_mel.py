"""VGGish's log-mel front end (tensorflow/models audioset/vggish; harritaylor/torchvggish @f3f9096)."""

from __future__ import annotations

import functools

import numpy as np

from avsal_jax.errors import AvsalError

RATE = 16_000  # Hz
WINDOW, STEP, FFT = 400, 160, 512  # samples: 25 ms every 10 ms
BANDS, LOWEST, HIGHEST = 64, 125.0, 7_500.0  # Hz
PATCH = 96  # frames of a patch, 0.96 s
PATCH_SAMPLES = WINDOW + (PATCH - 1) * STEP  # 15,600: the fewest that give one patch
OFFSET = 0.01  # added before the logarithm


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Returns float32 [frames, 64] with frames = 1 + (samples - 400) // 160, nothing padded.

    Magnitudes (not powers) of a periodic Hann window, mel bands, natural logarithm of the sum plus 0.01.

    Args:
      wave: mono float [samples] in [-1, 1] at 16,000 Hz.

    Raises:
      AvsalError: fewer than 400 samples.
    """
    if len(wave) < WINDOW:
        raise AvsalError(f"a log-mel frame takes {WINDOW} samples at {RATE} Hz; got {len(wave)}")
    import librosa  # slow to import

    # librosa puts the window of 400 in the middle of the 512, VGGish at its start: 56 zeros on both sides
    # make the frames meet the same samples, and the magnitude does not see the shift.
    spare = (FFT - WINDOW) // 2
    spectrum = librosa.stft(
        np.pad(np.asarray(wave, np.float64), spare),
        n_fft=FFT,
        hop_length=STEP,
        win_length=WINDOW,
        window="hann",
        center=False,
    )
    return np.log(np.abs(spectrum).T @ mel_matrix() + OFFSET).astype(np.float32)


@functools.cache
def mel_matrix() -> np.ndarray:
    """Returns float64 [257, 64]: the weight of each FFT bin in each band.

    Triangles are linear in mel (1127 ln(1 + f / 700)); librosa's are linear in Hz. The bin of 0 Hz has none.
    """
    bins = _mel(np.arange(FFT // 2 + 1) * (RATE / FFT))
    edges = np.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (centre - low)
    falling = (high - bins[:, None]) / (high - centre)
    matrix = np.maximum(0.0, np.minimum(rising, falling))
    matrix[0] = 0.0
    return matrix


def samples_for(patches: int, hop: float) -> int:
    """Returns the number of samples at 16,000 Hz for `patches` patches that start `hop` seconds apart."""
    return PATCH_SAMPLES + (patches - 1) * round(hop * RATE / STEP) * STEP


def log_mel_patches(wave: np.ndarray, patches: int, hop: float) -> np.ndarray:
    """Returns float32 [patches, 96, 64] from exactly `samples_for(patches, hop)` samples.

    Raises:
      AvsalError: a different number of samples.
    """
    expected = samples_for(patches, hop)
    if len(wave) != expected:
        raise AvsalError(f"{patches} patches {hop} s apart take {expected} samples; got {len(wave)}")
    frames, step = log_mel(wave), round(hop * RATE / STEP)
    return np.stack([frames[i * step : i * step + PATCH] for i in range(patches)])


def _mel(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)
