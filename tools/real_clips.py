"""Measures how far maps follow motion on real clips, which have no recorded gaze, and draws the maps.

python tools/real_clips.py CLIP ... [--model checkpoints/avsal-mini] [--picture FILE.jpg]
python tools/real_clips.py tests/media/big_buck_bunny_5s.mp4 --pair docs/overlay.jpg --frame 60

For each frame, computes Pearson's correlation of the model's map, and of the centre prior, with the
motion-energy map at the model's size. Adjacent frames are similar, so intervals are bootstrapped over the
means of whole seconds. These figures do not measure where people look. `--pair` draws the picture of the
README: a frame of the first clip next to its overlay.
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
    """Returns a Markdown table with a row per clip; writes `picture` unless it is None."""
    lines = [
        "| correlation with motion energy | maps of the model | centre prior | difference |",
        "|---" * 4 + "|",
    ]
    strips = []
    for path in clips:
        source = open_source(path)
        size = model.spec.height, model.spec.width
        pairs = [(shrink(frame.image, WIDTH), resize_frame(frame.image, *size)) for frame in source]
        frames, inputs = zip(*pairs, strict=True)
        maps = np.stack([saliency for _, saliency in model.iter_frames(inputs)])
        moving = motion_maps(luminance(np.stack(inputs)))
        correlation = metrics.cc(maps.astype(np.float64), moving)
        centre = metrics.cc(np.broadcast_to(centre_map(*size), maps.shape), moving)
        rate = round(float(source.info.rate))
        columns = (correlation, centre, correlation - centre)
        cells = [mean_and_interval(by_second(values, rate)) for values in columns]
        lines.append(f"| {path.name}, {len(frames)} frames | {' | '.join(cells)} |")
        strips.append(strip(frames, maps, moving))
    if picture is not None:
        Image.fromarray(np.concatenate(strips)).save(picture, quality=85)
    return "\n".join([*lines, "", "Means of seconds, with 95 % bootstrap intervals over seconds."])


def pair(model, path, index):
    """Returns uint8 [h, w, 3]: a frame, and to its right the same frame with its map as heat colours."""
    frames = [frame.image for frame, _ in zip(open_source(path), range(index + 1), strict=False)]
    image = shrink(frames[index], 640)
    saliency = dict(model.iter_frames(frames))[index]
    gap = np.full((image.shape[0], 10, 3), 255, np.uint8)
    return np.concatenate([image, gap, overlay(image, to_grey(resize_map(saliency, *image.shape[:2])))], 1)


def by_second(values, rate):
    """Returns the means of whole seconds, without seconds in which nothing moves."""
    means = np.array([np.nanmean(values[k : k + rate]) for k in range(0, len(values) - rate // 2, rate)])
    return means[~np.isnan(means)]


def mean_and_interval(values):
    low, high = bootstrap_interval(values)
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def strip(frames, maps, moving):
    """Returns uint8 [h, w, 3]: a column per frame with the frame, its map and its motion energy."""
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
