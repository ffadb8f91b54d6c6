"""Puts a trained model into checkpoints/, and into its manifest.

python tools/bundle.py RUN/model avsal-mini --note "What a reader of its maps must know."

The note goes into model.json, from where `avsal predict` takes it into its report; weights stay as they are.
The card (README.md) is written by hand.
"""

import argparse
import json
import pathlib
import shutil

from avsal_jax.storage import CARD, WEIGHTS, read_model

CHECKPOINTS = pathlib.Path(__file__).parent.parent / "checkpoints"
LARGEST = 10_000_000  # bytes


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("name")
    parser.add_argument("--note", required=True)
    args = parser.parse_args()
    card, target = read_model(args.model).card, CHECKPOINTS / args.name
    if card["weights"]["bytes"] > LARGEST:
        raise SystemExit(f"{card['weights']['bytes']} bytes of weights are too many: at most {LARGEST}")
    target.mkdir(exist_ok=True)
    shutil.copyfile(args.model / WEIGHTS, target / WEIGHTS)
    (target / CARD).write_text(json.dumps({**card, "note": args.note}, indent=2) + "\n", encoding="utf-8")
    path = CHECKPOINTS / "manifest.json"
    others = [one for one in json.loads(path.read_text())["bundled"] if one["name"] != args.name]
    kept = {key: card["weights"][key] for key in ("bytes", "sha256", "parameters")}
    path.write_text(json.dumps({"bundled": [*others, {"name": args.name, **kept}]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
