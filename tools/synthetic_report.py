"""Measures that the sound of a synthetic set determines the truth and that the picture does not.

python tools/synthetic_report.py [--videos 400] [--domain a] [--seed 0] [--workers N] [--keep DIR]

For each grade with sound, writes a set of the preset `experiment` and scores rules by CC with the truth of
the test split, averaged over the frames of a video and then over videos. Two further measures use only the
sound. Everything that needs fitting is fitted on the train split. Needs only NumPy; prints Markdown.
"""

import argparse
import contextlib
import itertools
import os
import pathlib
import tempfile
import time

import numpy as np

from avsal_jax import metrics
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.media.audio import read_sound
from avsal_jax.media.clip_sound import resample
from avsal_jax.media.cues import BLUR, centre_map, contrast_maps, luminance, motion_maps
from avsal_jax.spec.log_mel import RATE, log_mel
from avsal_jax.synthetic import GRADES, read_scene, settings_from, write_synthetic
from avsal_jax.synthetic.observers import SPREAD, bump

PICTURE = ("motion", "motion without camera", "contrast", "centre")
MIXED = ("mixed", "mixed with mean map")
WORDS = {
    "probe": "held-out clips whose class of sound a linear probe on mean log-mel recognises",
    "synchrony": "test videos whose sounding object is the one whose flicker follows the loudness",
}
RULES = ("sounding object", *PICTURE, "mean map", *MIXED, "all objects")
CLIP, STEP = 32, 4  # frames of a clip for the probe, and between clips


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", default="400")
    parser.add_argument("--domain", default="a")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--workers", type=int, help="processes that write (default: one per core)")
    parser.add_argument(
        "--keep", type=pathlib.Path, help="write the sets to DIR/<grade> and leave them there"
    )
    args = parser.parse_args()
    reports = {}
    for grade in (name for name in GRADES if name != "visual"):
        pairs = {"videos": args.videos, "domain": args.domain, "seed": args.seed, "grade": grade}
        with contextlib.ExitStack() as stack:
            folder = args.keep or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            wall, cores = time.perf_counter(), _cpu_seconds()
            write_synthetic(folder / grade, settings_from(pairs), workers=args.workers)
            spent = {"wall": time.perf_counter() - wall, "cpu": _cpu_seconds() - cores}
            reports[grade] = {**spent, **measure(folder / grade)}
    print(
        f"{args.videos} videos, domain {args.domain}, seed {args.seed}; {os.cpu_count()} cores, "
        f"numpy {np.__version__}\n"
    )
    print(table(reports))


def table(reports: dict[str, dict]) -> str:
    """Returns Markdown: a column per grade."""
    rows = [("CC of", *reports), ("---",) * (len(reports) + 1)]
    rows += [(name, *(f"{r['cc'][name]:.3f}" for r in reports.values())) for name in RULES]
    rows.append(("**gap to the best picture-only rule**", *(f"**{r['gap']:.3f}**" for r in reports.values())))
    for name in ("probe", "synchrony"):
        rows.append((WORDS[name], *(f"{100 * r[name]:.1f} %" for r in reports.values())))
    for name, words in (("wall", "seconds to generate"), ("cpu", "seconds of one core, workers included")):
        rows.append((words, *(f"{r[name]:.0f}" for r in reports.values())))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def measure(root) -> dict:
    """Returns `cc` of every rule, `gap`, and the shares `probe` and `synchrony` of a set on disk."""
    train, test = (open_dataset("synthetic", root, split) for split in ("train", "test"))
    mean = np.mean([entry.truth(i).density for entry in train for i in range(entry.frames)], 0)
    parts = (*PICTURE, "mean map")
    joints, train_clips = [], []
    for video in (Video(root, entry, mean) for entry in train):  # a complete set would fill the memory
        joints.append(video.joint(parts))
        train_clips += [(clip, video.scene.kind) for clip in video.clips()]
    mixtures = {MIXED[0]: best_mixture(joints, len(PICTURE)), MIXED[1]: best_mixture(joints, len(parts))}
    scores, test_clips, matches = [], [], []
    for video in (Video(root, entry, mean) for entry in test):
        for name, weights in mixtures.items():
            used = zip(weights, parts, strict=False)  # the first has no mean map
            video.rules[name] = sum(weight * video.rules[part] for weight, part in used)
        scores.append([np.nanmean(metrics.cc(video.rules[name], video.truth)) for name in RULES])
        test_clips += [(clip, video.scene.kind) for clip in video.clips()]
        matches.append(video.flickering() == video.scene.sounding)
    cc = dict(zip(RULES, map(float, np.mean(scores, 0)), strict=True))
    gap = cc["sounding object"] - max(cc[name] for name in (*parts, *MIXED))
    shares = {"probe": probe(train_clips, test_clips), "synchrony": float(np.mean(matches))}
    return {"cc": cc, "gap": gap, **shares}


class Video:
    """A video of the set: its truth, and the maps of the rules, each of sum 1."""

    def __init__(self, root, entry, mean):
        self.scene = read_scene(root, entry.name)
        self.sound, self._fps = resample(read_sound(entry.sound), RATE).wave, entry.fps
        self.light = luminance(np.stack([entry.frame(i) for i in range(entry.frames)]))
        self.truth = np.stack([entry.truth(i).density for i in range(entry.frames)])
        size = self.truth.shape[1:]
        sigma = np.hypot(SPREAD * self.scene.radii, BLUR * size[0])
        objects = np.stack(
            [
                [bump(*size, place, s) for place in path]
                for path, s in zip(self.scene.centres, sigma, strict=True)
            ]
        )
        self.rules = {
            "sounding object": _unit(objects[self.scene.sounding]),
            "all objects": _unit(objects.sum(0)),
            "motion": _unit(motion_maps(self.light)),
            "motion without camera": _unit(motion_maps(without_camera(self.light))),
            "contrast": _unit(contrast_maps(self.light)),
            "centre": np.broadcast_to(_unit(centre_map(*size)[None]), self.truth.shape),
            "mean map": np.broadcast_to(_unit(mean[None]), self.truth.shape),
        }

    def joint(self, parts):
        """Returns the covariances [frames, 1 + parts, 1 + parts] of the truth and of rules."""
        maps = np.stack([self.truth, *(self.rules[part] for part in parts)], 1)
        maps = maps.reshape(*maps.shape[:2], -1)
        maps = maps - maps.mean(-1, keepdims=True)
        return maps @ maps.transpose(0, 2, 1)

    def clips(self):
        """Yields the mean log-mel [64] of clips of 32 frames."""
        for first in range(0, len(self.truth) - CLIP + 1, STEP):
            begin, end = (round(k / self._fps * RATE) for k in (first, first + CLIP))
            yield log_mel(self.sound[begin:end]).mean(0)

    def flickering(self) -> int:
        """Returns the object whose brightness correlates best with the loudness; needs their places."""
        edges = np.round(np.arange(len(self.truth) + 1) / self._fps * RATE).astype(int)
        loud = [np.sqrt(np.mean(self.sound[a:b] ** 2)) for a, b in itertools.pairwise(edges)]
        likeness = []
        for path, radius in zip(self.scene.centres, self.scene.radii, strict=True):
            brightness = [
                np.average(light, weights=bump(*light.shape, place, radius / 2))
                for light, place in zip(self.light, path, strict=True)
            ]
            likeness.append(np.corrcoef(brightness, loud)[0, 1])
        return int(np.argmax(likeness))


def without_camera(light):
    """Returns [N, H, W] without the differences that a shift and a zoom of the frame explain.

    Per pair of frames, one step of least squares on the gradient; the differences are summed up again.
    """
    y, x = (np.arange(n) - n / 2 for n in light.shape[1:])
    left = [np.zeros_like(light[0])]
    for before, after in itertools.pairwise(light):
        down, right = np.gradient((before + after) / 2)
        terms = np.stack([down, right, down * y[:, None] + right * x[None, :]], -1).reshape(-1, 3)
        change = (after - before).ravel()
        explained = terms @ np.linalg.lstsq(terms, change, rcond=None)[0]
        left.append((change - explained).reshape(before.shape))
    return np.cumsum(left, 0)


def best_mixture(joints, parts, step=0.1):
    """Returns the convex weights of the first `parts` rules with the highest mean CC over `joints`."""
    steps = round(1 / step)
    grid = [g for g in itertools.product(range(steps + 1), repeat=parts) if sum(g) == steps]
    grid = np.array(grid, np.float64) / steps
    scores = []
    for joint in joints:
        with np.errstate(invalid="ignore", divide="ignore"):  # a frame without fixations
            rules = joint[:, 1 : parts + 1, 1 : parts + 1]
            norm = np.sqrt(np.einsum("gp,fpq,gq->gf", grid, rules, grid) * joint[:, 0, 0])
            scores.append(np.nanmean(grid @ joint[:, 0, 1 : parts + 1].T / norm, 1))
    return grid[int(np.argmax(np.mean(scores, 0)))]


def probe(train, test, ridge=1.0) -> float:
    """Returns the share of (clip, class) pairs of `test` that a ridge regression on `train` classifies."""
    (x, labels), (z, test_labels) = (map(np.array, zip(*part, strict=True)) for part in (train, test))
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, z = ((features - mean) / deviation for features in (x, z))
    targets = np.eye(labels.max() + 1)[labels]
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (targets - targets.mean(0)))
    return float(np.mean((z @ weights + targets.mean(0)).argmax(1) == test_labels))


def _cpu_seconds():
    """Returns the processor time of this process and of its workers that have ended."""
    return sum(os.times()[:4])


def _unit(maps):
    return maps / np.maximum(maps.sum((1, 2), keepdims=True), 1e-12)


if __name__ == "__main__":
    main()
