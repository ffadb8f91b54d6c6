"""The sound of a scene: a timbre whose loudness and pitch pulse, or off-screen narration or music."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from avsal_jax.synthetic.scene import Scene, generator, pulse_train
from avsal_jax.synthetic.settings import SyntheticSettings


class Timbre(NamedTuple):
    """A class of sound.

    Attributes:
      name: in words.
      pitch: lowest and highest frequency that a video's base pitch is drawn from, Hz.
      partials: (ratio to the base pitch, amplitude) each.
      noise: (lowest, highest Hz, amplitude) of a band of noise.
      bend: octaves between the pitch of rest and the pitch at a pulse.
    """

    name: str
    pitch: tuple[float, float]
    partials: tuple[tuple[float, float], ...]
    noise: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bend: float = 0.5


def _harmonics(count: int, decay: float, step: int = 1) -> tuple[tuple[float, float], ...]:
    return tuple((float(k), k**-decay) for k in range(1, count + 1, step))


TIMBRES = {
    "a": (
        Timbre("reed", (180, 240), _harmonics(13, 0.8, 2)),
        Timbre("bell", (560, 700), ((1, 1.0), (2.76, 0.6), (5.4, 0.3))),
        Timbre("growl", (70, 95), _harmonics(24, 0.4)),
        Timbre("whistle", pitch=(1_900, 2_400), partials=((1, 1.0), (2, 0.1)), noise=(2_000, 5_000, 0.1)),
    ),
    "b": (
        Timbre("horn", (250, 320), _harmonics(8, 0.6)),
        Timbre("glass", (1_200, 1_500), ((1, 1.0), (1.51, 0.7), (2.32, 0.4), (3.1, 0.3))),
        Timbre("rattle", pitch=(100, 130), partials=_harmonics(5, 1.0), noise=(3_000, 6_500, 0.7)),
        Timbre("flute", pitch=(480, 580), partials=((1, 1.0), (2, 0.15)), noise=(800, 2_500, 0.1)),
    ),
}
SIDES = {  # the kinds of sound that mark left and right
    "a": (
        Timbre("hum", (80, 120), _harmonics(5, 1.5), bend=0.3),
        Timbre("chirps", (2_200, 2_800), ((1, 1.0), (2, 0.2)), bend=0.8),
    ),
    "b": (
        Timbre("rumble", pitch=(55, 75), partials=_harmonics(4, 0.8), noise=(80, 400, 0.4), bend=0.3),
        Timbre("squeaks", (3_000, 3_600), ((1, 1.0), (1.5, 0.5)), bend=0.5),
    ),
}
_FORMANTS = np.array([(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)], np.float64)
_SCALE = np.array([0, 2, 4, 7, 9, 12])  # semitones, pentatonic


def kinds(settings: SyntheticSettings) -> tuple[Timbre, ...]:
    """Returns the classes of sound of a set: two sides, or the timbres."""
    return (SIDES if settings.grade == "position" else TIMBRES)[settings.domain]


def sound_name(settings: SyntheticSettings, scene: Scene) -> str | None:
    """Returns what sounds in a scene: a timbre, narration or music; None where there is no sound."""
    return scene.off_screen or (None if scene.kind is None else kinds(settings)[scene.kind].name)


def make_sound(settings: SyntheticSettings, number: int, scene: Scene) -> np.ndarray:
    """Returns the sound of a video, as long as its frames: int16 [samples] at the settings' rate.

    The level is drawn per video, so loudness carries no information about the sounding object.
    """
    rng = generator(settings, number, "sound")
    times = np.arange(round(settings.duration * settings.sample_rate)) / settings.sample_rate
    if scene.off_screen == "narration":
        wave = _narration(rng, times, settings.sample_rate)
    elif scene.off_screen == "music":
        wave = _music(rng, times)
    else:
        drive = pulse_train(times, scene.sound_pulses)
        wave = _tone(rng, timbre=kinds(settings)[scene.kind], drive=drive, rate=settings.sample_rate)
    wave *= rng.uniform(0.3, 0.6) / max(np.abs(wave).max(), 1e-9)
    wave += 0.003 * rng.standard_normal(len(wave))  # the room
    return np.rint(32_767 * np.clip(wave, -1, 1)).astype(np.int16)


def _tone(rng: np.random.Generator, timbre: Timbre, drive: np.ndarray, rate: int) -> np.ndarray:
    """Returns a tone whose loudness and pitch follow `drive` [samples] in [0, 1]."""
    base = rng.uniform(*timbre.pitch)
    pitch = base * 2 ** (timbre.bend * (drive - 0.5))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = np.zeros(len(drive))
    for (ratio, amplitude), start in zip(
        timbre.partials, rng.uniform(0, 2 * np.pi, len(timbre.partials)), strict=True
    ):
        if ratio * base * 2 ** (timbre.bend / 2) < 0.45 * rate:
            wave += amplitude * np.sin(ratio * phase + start)
    low, high, amplitude = timbre.noise
    if amplitude:
        wave += amplitude * _band(rng, samples=len(drive), low=low, high=high, rate=rate)
    return wave * (0.1 + 0.9 * drive)


def _band(rng: np.random.Generator, samples: int, low: float, high: float, rate: int) -> np.ndarray:
    """Returns noise between two frequencies, of deviation 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / rate)
    spectrum[(frequency < low) | (frequency > high)] = 0
    noise = np.fft.irfft(spectrum, samples)
    return noise / max(noise.std(), 1e-9)


def _narration(rng: np.random.Generator, times: np.ndarray, rate: int) -> np.ndarray:
    """Returns babble: a voice that glides between vowels, with syllables of 150 to 300 ms."""
    ends = np.cumsum(rng.uniform(0.15, 0.3, int(times[-1] / 0.15) + 2))
    middles = ends - np.diff(ends, prepend=0) / 2
    vowels = _FORMANTS[rng.integers(len(_FORMANTS), size=len(ends))] * rng.uniform(0.9, 1.2)
    formants = np.stack([np.interp(times, middles, vowels[:, k]) for k in range(3)])
    pitch = rng.uniform(100, 220) * np.exp(np.interp(times, middles, rng.uniform(-0.15, 0.15, len(ends))))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    loudness = np.interp(times, np.sort(np.r_[0, ends, middles]), [0.1, *[1.0, 0.1] * len(ends)])
    wave = np.zeros(len(times))
    for k in range(1, 25):
        envelope = sum(
            w * np.exp(-(((k * pitch - f) / 160) ** 2)) for w, f in zip((1, 0.6, 0.3), formants, strict=True)
        )
        wave += (0.03 + envelope) * np.sin(k * phase)
    return wave * loudness


def _music(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Returns a plucked pentatonic melody over a held fifth."""
    root = rng.uniform(196, 294)
    wave = 0.15 * (np.sin(np.pi * root * times) + np.sin(1.5 * np.pi * root * times))
    beat = rng.uniform(0.16, 0.3)
    for start in np.arange(0, times[-1], beat):
        pitch = root * 2 ** (rng.choice(_SCALE) / 12)
        after = times[times >= start] - start
        note = sum(np.sin(2 * np.pi * k * pitch * after) / k for k in (1, 2, 3))
        wave[len(times) - len(after) :] += note * np.exp(-after / 0.25) * np.minimum(after / 0.005, 1)
    return wave
