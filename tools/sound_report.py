"""Measures whether a model uses the sound of a generated set of the grade `identity`.

  python tools/sound_report.py --model DIR --root SET [--split test] [--every 4] [--bfloat16]

SET is the folder with synthetic.json. Prints a Markdown table with bootstrap intervals over videos:

- CC with the true sound, with silence, and with the sound of another video that identifies a silent object;
- the share of such pairs in which the mass at the silent object rises with the other sound
  (`evaluation.swap`);
- CC of videos with music or narration, which `--set inconsistent=0.2` puts into a set, with it and with
  silence;
- for a network with RAVF: the means of Ret_A and its absolute value over videos whose sound is of the scene,
  and over those with music or narration;
- with --bfloat16: CC of the maps in bfloat16 with those in float32.
"""

import argparse
import collections
import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import tqdm

from avsal_jax import load_model, metrics
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.compare import bootstrap_interval
from avsal_jax.evaluation.swap import swap_measure, swap_pairs
from avsal_jax.media.audio import read_sound
from avsal_jax.media.clip_sound import ClipSound
from avsal_jax.media.fitting import fitted_frame
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import feature_shapes
from avsal_jax.runtime.compile_cache import use_compile_cache
from avsal_jax.synthetic import read_scene, read_settings
from avsal_jax.types import Clip

SILENCE = -1


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--root", required=True, type=pathlib.Path, help="of the generated set")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--every", type=int, default=4, help="frames between the scored maps")
    parser.add_argument("--bfloat16", action="store_true")
    args = parser.parse_args()
    use_compile_cache()
    options = args.root, args.split, args.every
    half = None
    if args.bfloat16:
        half = Maps(load_model(args.model, Runtime(dtype=jnp.bfloat16)), *options)
    print(report(Maps(load_model(args.model), *options), half))


class Maps:
    """Maps of every k-th frame of the videos of a split, with any sound.

    Attributes:
      scenes: the scene of each video.
      size: height and width of the pictures whose pixels are the scenes' unit.
      frames: indices of the frames with a map.
      hears: whether the model takes audio.
      recorded: names of the model's features, without paths.
    """

    def __init__(self, model, root, split, every):
        settings = read_settings(root)
        if settings is None:
            raise AvsalError(f"{root} is not a generated set: it has no synthetic.json")
        self._model, self._spec = model, model.spec
        self._entries = list(open_dataset("synthetic", root, split))
        self.scenes = [read_scene(root, entry.name) for entry in self._entries]
        self.size, self.hears = (settings.height, settings.width), model.spec.audio is not None
        starts = range(0, settings.frames - model.spec.frames + 1, every)
        self._windows = [list(range(start, start + model.spec.frames)) for start in starts]
        self.frames = [window[model.spec.label_index] for window in self._windows]
        self._pictures = functools.lru_cache(maxsize=2)(self._read_pictures)
        self._maps = functools.cache(self._compute)  # several lines of the report use the same maps
        self._progress = tqdm.tqdm(desc="pairs of video and sound", unit="")

    def __call__(self, picture: int, sound: int) -> np.ndarray:
        """Returns float [frames, H, W] of the picture of one video with the sound of another."""
        return self._maps(picture, sound)

    def _compute(self, picture, sound):
        saliency = np.asarray(self._model(self._clip(picture, sound)).saliency)
        self._progress.update()
        return saliency

    @functools.cached_property
    def recorded(self) -> set[str]:
        return {path.rpartition("/")[2] for path in feature_shapes(self._model.network, None)}

    def retention(self, video: int) -> tuple[float, float]:
        """Returns the means of Ret_A and |Ret_A| (AVRSP, Yu et al. 2024, Eq. 2) if the network records it."""
        features = self._model(self._clip(video, video), features=("retention_audio",)).features
        values = np.asarray(features["retention_audio"])
        return float(np.mean(values)), float(np.mean(np.abs(values)))

    def _clip(self, picture, sound):
        frames = self._pictures(picture)
        return Clip(np.stack([frames[window] for window in self._windows]), self._sound(sound))

    def truth(self, picture: int) -> np.ndarray:
        """Returns the densities [frames, h, w]."""
        return np.stack([self._entries[picture].truth(index).density for index in self.frames])

    def _read_pictures(self, picture):
        entry, spec = self._entries[picture], self._spec
        images = [entry.frame(index) for index in range(entry.frames)]
        return np.stack([fitted_frame(image, spec) for image in images])

    def _sound(self, number):
        if not self.hears:
            return None
        if number == SILENCE:
            return np.stack([self._spec.audio.silence] * len(self._windows))
        entry = self._entries[number]
        sound = ClipSound.of(read_sound(entry.sound), self._spec, entry.fps)
        return np.stack([sound.clip(window, entry.frames) for window in self._windows])


def report(maps: Maps, half: Maps | None = None) -> str:
    """Returns a Markdown table; `half` has the maps of the same network in bfloat16."""
    swapped_sounds = {}
    for pair in swap_pairs(maps.scenes):
        swapped_sounds.setdefault(pair.picture, pair.sound)
    sounds = {"true sound": lambda video: video}
    if maps.hears:
        sounds |= {"sound of another object": swapped_sounds.get, "silence": lambda video: SILENCE}
    rows = []
    for name, sound_of in sounds.items():
        values = [mean_cc(maps, video, sound_of(video)) for video in swapped_sounds]
        rows.append((f"CC, {name}", np.mean(values), *bootstrap_interval(values), len(values)))
    if maps.hears:
        rises = collections.defaultdict(list)
        for swap in swap_measure(maps.scenes, maps.size, maps.frames, maps):
            rises[swap.pair.picture].append(swap.rises)
        values = [rise for video_rises in rises.values() for rise in video_rises]
        interval = bootstrap_interval([np.mean(video_rises) for video_rises in rises.values()])
        rows.append(("pairs in which the named object's mass rises", np.mean(values), *interval, len(values)))
    rows += irrelevant_rows(maps) + retention_rows(maps)
    if half is not None:
        values = [mean_cc_of(half(video, video), maps(video, video)) for video in swapped_sounds]
        low, high = bootstrap_interval(values)
        rows.append(("CC of the maps in bfloat16 with these", np.mean(values), low, high, len(values)))
    lines = ["| | mean | 95 % interval | of |", "|---|---|---|---|"]
    lines += [f"| {name} | {mean:.3f} | {low:.3f} to {high:.3f} | {n} |" for name, mean, low, high, n in rows]
    return "\n".join(lines)


def irrelevant_rows(maps: Maps) -> list[tuple]:
    """Returns the rows of CC for each kind of off-screen sound, with it and with silence."""
    videos = collections.defaultdict(list)
    for video, scene in enumerate(maps.scenes):
        if scene.off_screen is not None:
            videos[scene.off_screen].append(video)
    sounds = {"": lambda video: video} | ({", silence instead": lambda video: SILENCE} if maps.hears else {})
    rows = []
    for kind, numbers in sorted(videos.items()):
        for words, sound_of in sounds.items():
            values = [mean_cc(maps, video, sound_of(video)) for video in numbers]
            rows.append((f"CC, {kind}{words}", np.mean(values), *bootstrap_interval(values), len(values)))
    return rows


def retention_rows(maps: Maps) -> list[tuple]:
    """Returns the rows of mean Ret_A and |Ret_A| for each kind of sound; [] for a network without Ret_A."""
    if "retention_audio" not in maps.recorded:
        return []
    retention = collections.defaultdict(list)
    for video, scene in enumerate(tqdm.tqdm(maps.scenes, "Ret_A")):
        retention[scene.off_screen or "a sound of the scene"].append(maps.retention(video))
    return [
        (f"{name}, {kind}", np.mean(values), *bootstrap_interval(values), len(values))
        for kind, pairs in sorted(retention.items())
        for name, values in zip(("Ret_A", "absolute Ret_A"), zip(*pairs, strict=True), strict=True)
    ]


def mean_cc(maps: Maps, video: int, sound: int) -> float:
    """Returns the mean CC with the truth over the frames of a video."""
    return mean_cc_of(maps(video, sound), maps.truth(video))


def mean_cc_of(saliency: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean CC of maps [frames, H, W] over the frames."""
    return float(np.nanmean(metrics.cc(saliency.astype(np.float64), truth.astype(np.float64))))


if __name__ == "__main__":
    main()
