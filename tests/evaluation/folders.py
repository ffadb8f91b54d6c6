"""Result folders written by hand, as `avsal evaluate` leaves them."""

import json

import numpy as np
from PIL import Image


def write_result(folder, values, method="ours", dataset="diem", frames=None, **about):
    """Writes a result folder.

    Args:
      values: metric -> video -> value (None: dropped).
      frames: metric -> video -> values of frames 1, 2, ...
      about: other entries of summary.json.
    """
    folder.mkdir(parents=True)
    videos = list(next(iter(values.values())))
    summary = {
        "format": "avsal_jax evaluation 1",
        "method": method,
        "dataset": dataset,
        "split": "test",
        "fold": None,
        "protocol": "stavis",
        "videos": len(videos),
        "frames": 10 * len(videos),
        "metrics": {
            m: {"mean": mean(v.values()), "videos": len(videos), "dropped": 0} for m, v in values.items()
        },
        "source": {"root": "/data", "dataset": dataset, "split": "test", "fold": None, "list": None},
        **about,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = [["video", "frames", *values]] + [
        [v, "10", *(cell(values[m][v]) for m in values)] for v in videos
    ]
    (folder / "videos.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    lines = [["video", "frame", *(frames or values)]]
    for video in videos if frames else []:
        for number in range(len(next(iter(frames.values()))[video])):
            lines.append([video, str(number + 1), *(cell(frames[m][video][number]) for m in frames)])
    (folder / "frames.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    return folder


def mean(values):
    numbers = [v for v in values if v is not None]
    return sum(numbers) / len(numbers) if numbers else None


def cell(value):
    return "" if value is None else repr(value)


def write_example(folder, video, number, level, size=(240, 320)):
    """Writes a frame, its truth, its fixations and a map that is `level` everywhere."""
    stem = folder / "examples" / video / f"{number:06d}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 60, np.uint8)).save(f"{stem}_frame.jpg")
    Image.fromarray(np.full(size, 10, np.uint8)).save(f"{stem}_truth.png")
    Image.fromarray(np.full(size, level, np.uint8)).save(f"{stem}.png")
    points = {"size": list(size), "fixations": [[size[0] // 2, size[1] // 4], [999, 0]]}
    (stem.parent / f"{number:06d}_fixations.json").write_text(json.dumps(points))
