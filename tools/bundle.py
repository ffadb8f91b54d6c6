"""Puts a trained model into checkpoints/, and into its manifest.

python tools/bundle.py RUN/model avsal-gaze --note "What a reader of its maps must know."

The note goes into model.json, from where `avsal predict` takes it into its report. Weights are stored as
float16; maps of a clip must not differ by more than .002. The card (README.md) is written by hand.
"""

import argparse
import json
import pathlib
import shutil
import tempfile

import jax
import numpy as np

from avsal_jax import load_model
from avsal_jax.storage import CARD, WEIGHTS, StoredModel, read_model, write_model

ROOT = pathlib.Path(__file__).parent.parent
CHECKPOINTS, CLIP = ROOT / "checkpoints", ROOT / "tests" / "media" / "big_buck_bunny_5s.mp4"
LARGEST = 12_000_000  # bytes
LARGEST_DIFFERENCE = 0.002  # of a map, whose values are between 0 and 1


def halved(path: pathlib.Path, stored: StoredModel, folder: pathlib.Path) -> pathlib.Path:
    """Writes the model with float16 weights into `folder`, and returns it; SystemExit if its maps differ."""
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16), stored.variables)
    small = write_model(folder, stored.preset, variables, stored.card["provenance"])
    maps = [load_model(folder).predict_video(CLIP) for folder in (path, small)]
    difference = float(np.abs(maps[0] - maps[1]).max())
    print(f"stored as float16: maps of {CLIP.name} differ by at most {difference:.5f}")
    if difference > LARGEST_DIFFERENCE:
        raise SystemExit(f"maps differ by {difference:.5f}, more than {LARGEST_DIFFERENCE}")
    return small


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("name")
    parser.add_argument("--note", required=True)
    args = parser.parse_args()
    target = CHECKPOINTS / args.name
    with tempfile.TemporaryDirectory() as folder:
        small = halved(args.model, read_model(args.model), pathlib.Path(folder) / "model")
        card = read_model(small).card
        if card["weights"]["bytes"] > LARGEST:
            raise SystemExit(f"{card['weights']['bytes']} bytes of weights are too many: at most {LARGEST}")
        target.mkdir(exist_ok=True)
        shutil.copyfile(small / WEIGHTS, target / WEIGHTS)
    (target / CARD).write_text(json.dumps({**card, "note": args.note}, indent=2) + "\n", encoding="utf-8")
    path = CHECKPOINTS / "manifest.json"
    models = [row for row in json.loads(path.read_text())["bundled"] if row["name"] != args.name]
    facts = {key: card["weights"][key] for key in ("bytes", "sha256", "parameters")}
    path.write_text(json.dumps({"bundled": [*models, {"name": args.name, **facts}]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
