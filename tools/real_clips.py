"""Measures how far maps on real clips, for which there is no gaze, follow what moves; and shows them.

python tools/real_clips.py CLIP ... [--model checkpoints/avsal-mini] [--picture FILE.jpg]
python tools/real_clips.py tests/media/big_buck_bunny_5s.mp4 --pair docs/overlay.jpg --frame 60

Per frame, Pearson's correlation of the model's map, and of the centre prior, with the motion-energy map of
the same frames at the model's size. Frames next to each other are alike, so intervals are bootstrapped over
the means of whole seconds. This is no measure of where people look. `--pair` makes the picture of the README:
a frame of the first clip beside its overlay.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image

from avsal_jax import load_model, metrics
from avsal_jax.evaluation.compare import bootstrap_interval
from avsal_jax.inference.inputs import open_source
from avsal_jax.media.cues import centre_map, luminance, motion_maps
from avsal_jax.media.fitting import resize_frame
from avsal_jax.pictures import overlay, resize_map, shrink, to_grey

FRAMES, WIDTH, GAP = 4, 240, 3  # of the picture: frames per clip, pixels


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", type=pathlib.Path)
    parser.add_argument("--model", default="checkpoints/avsal-mini")
    parser.add_argument("--picture", type=pathlib.Path)
    parser.add_argument("--pair", type=pathlib.Path)
    parser.add_argument("--frame", type=int, default=0, help="of the pair, from 0")
    args = parser.parse_args()
    model = load_model(args.model)
    if args.pair is not None:
        Image.fromarray(pair(model, args.clips[0], args.frame)).save(args.pair, quality=85)
        return
    print(real_clips(model, args.clips, args.picture))


def real_clips(model, clips, picture=None):
    """Returns Markdown: a row per clip; writes `picture` where it is named."""
    lines = [
        "| correlation with motion energy | maps of the model | centre prior | difference |",
        "|---" * 4 + "|",
    ]
    strips = []
    for path in clips:
        source = open_source(path)
        size = model.spec.height, model.spec.width
        pairs = [(shrink(frame.image, WIDTH), resize_frame(frame.image, *size)) for frame in source]
        frames, seen = zip(*pairs, strict=True)
        maps = np.stack([saliency for _, saliency in model.iter_frames(seen)])
        moving = motion_maps(luminance(np.stack(seen)))
        ours = metrics.cc(maps.astype(np.float64), moving)
        centre = metrics.cc(np.broadcast_to(centre_map(*size), maps.shape), moving)
        rate = round(float(source.info.rate))
        words = [told(by_second(values, rate)) for values in (ours, centre, ours - centre)]
        lines.append(f"| {path.name}, {len(frames)} frames | {' | '.join(words)} |")
        strips.append(strip(frames, maps, moving))
    if picture is not None:
        Image.fromarray(np.concatenate(strips)).save(picture, quality=85)
    return "\n".join([*lines, "", "Means of seconds, with 95 % bootstrap intervals over seconds."])


def pair(model, path, index):
    """Returns uint8 [h, w, 3]: a frame, and to its right the same under heat colours."""
    frames = [frame.image for frame, _ in zip(open_source(path), range(index + 1), strict=False)]
    image = shrink(frames[index], 640)
    saliency = dict(model.iter_frames(frames))[index]
    gap = np.full((image.shape[0], 10, 3), 255, np.uint8)
    return np.concatenate([image, gap, overlay(image, to_grey(resize_map(saliency, *image.shape[:2])))], 1)


def by_second(values, rate):
    """Returns the means of whole seconds; a still second, of which no correlation is known, is left out."""
    means = np.array([np.nanmean(values[k : k + rate]) for k in range(0, len(values) - rate // 2, rate)])
    return means[~np.isnan(means)]


def told(values):
    low, high = bootstrap_interval(values)
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def strip(frames, maps, moving):
    """Returns uint8 [h, w, 3]: frames, under each the model's overlay and that of motion energy."""
    columns = []
    for index in np.linspace(0, len(frames) - 1, FRAMES + 2).round().astype(int)[1:-1]:
        image = frames[index]
        cells = [
            image,
            *(overlay(image, to_grey(resize_map(m[index], *image.shape[:2]))) for m in (maps, moving)),
        ]
        column = np.concatenate(
            [np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for cell in cells]
        )
        columns.append(column)
    return np.concatenate(columns, 1)


if __name__ == "__main__":
    main()
