"""Trains the quarter-width ViNet on the generated set and compares it with the centre prior and motion.

  python tools/mini_report.py --folder DIR [--config vinet_synthetic:mini]

Makes and prepares the set `experiment` in DIR, trains by the recipe (a rerun goes on where it was), scores
the exported model and both rules with `avsal evaluate` on the test videos and by themselves on the clips of
the validation list, and prints a Markdown table, the share of time spent waiting for data, and CC when batch
norm uses the statistics of the batch instead of the running ones.
"""

import argparse
import json
import pathlib

import jax
import numpy as np
from PIL import Image

from avsal_jax import metrics
from avsal_jax.cli.main import main as avsal
from avsal_jax.data.datasets import open_dataset
from avsal_jax.data.synthetic.gaze import centre_map, luminance, motion_maps
from avsal_jax.metrics import MeanState
from avsal_jax.models.systems import build
from avsal_jax.training import recipes
from avsal_jax.training.metrics_log import read_metrics
from avsal_jax.training.objectives import apply_network
from avsal_jax.training.schema import build_config
from avsal_jax.training.setup import prepare_run, runtime_of


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--config", default="vinet_synthetic:mini")
    args = parser.parse_args()
    folder, root = args.folder, args.folder / "synthetic-source"
    run = folder / "run"
    call("prepare", "--dataset", "synthetic", "--output", folder)
    call("train", "--config", args.config, "--workdir", run, f"--config.data.root={folder}")
    motion = write_motion(root, folder / "motion")
    sides = {
        "ViNet, a quarter of the width": ["--model", run / "model"],
        "motion": ["--predictions", motion],
        "centre prior": ["--model", "centre"],
    }
    scores = {}
    for name, side in sides.items():
        output = folder / f"evaluated-{name.split()[0].rstrip(',')}"
        where = ["--dataset", "synthetic", "--root", root, "--output", output]
        call("evaluate", *where, *side, "--metrics", "cc,sim,nss")
        scores[name] = json.loads((output / "summary.json").read_text())["metrics"]
    held = held_out(args.config, folder, run)
    print("\n| | " + " | ".join(["CC, held-out clips", "CC", "SIM", "NSS"]) + " |\n|---|---|---|---|---|")
    for name, found in scores.items():
        values = [held[name.split()[0].rstrip(",")], *(found[m]["mean"] for m in ("cc", "sim", "nss"))]
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    print(f"\nCC with batch statistics: {held['batch statistics']:.4f}")
    records = [r for r in read_metrics(run / "metrics.jsonl") if "waiting" in r]
    print(f"waiting for data: {100 * np.mean([r['waiting'] for r in records]):.1f} % of the time")


def call(*arguments):
    code = avsal([str(argument) for argument in arguments])
    if code:
        raise SystemExit(code)


def write_motion(root, output):
    """Saves the motion rule's maps of the test videos; returns the folder."""
    for entry in open_dataset("synthetic", root, "test"):
        folder = output / entry.name
        folder.mkdir(parents=True, exist_ok=True)
        light = luminance(np.stack([entry.frame(i) for i in range(entry.frames)]))
        for number, saliency in enumerate(motion_maps(light), 1):
            grey = np.round(255 * saliency / max(saliency.max(), 1e-12)).astype(np.uint8)
            Image.fromarray(grey).save(folder / f"{number:05d}.png")
    return output


def held_out(recipe, folder, workdir) -> dict[str, float]:
    """Returns the mean CC on the validation clips: of the network, twice, and of both rules."""
    config = recipes.config(recipe)
    config.data.root = str(folder)
    run = prepare_run(build_config(config.to_dict()), workdir, lambda line: None)
    network = build(run.preset, runtime_of(run.config.model))
    state = run.parallel.replicate(run.checkpoints.restore(run.checkpoints.best(), run.shapes))

    def with_batch_statistics(batch):
        logits, _ = apply_network(
            network, run.spec, state.params, state.batch_stats, batch, True, jax.random.key(0)
        )
        return jax.nn.sigmoid(logits)

    batched = jax.jit(with_batch_statistics)
    means = {name: MeanState() for name in ("ViNet", "batch statistics", "motion", "centre")}
    for batch in run.feed.validation_batches():
        density, mask = (np.asarray(batch[name]) for name in ("density", "mask"))
        light = luminance(np.asarray(batch["frames"]))
        maps = {
            "ViNet": np.asarray(run.validation_step(state.params, state.batch_stats, batch)[1]),
            "batch statistics": np.asarray(batched(batch)),
            "motion": np.stack([motion_maps(clip)[-1] for clip in light]),
            "centre": np.broadcast_to(centre_map(*density.shape[1:]), density.shape),
        }
        for name, saliency in maps.items():
            means[name] = means[name].add(metrics.cc(saliency.astype(np.float64), density)[mask])
    return {name: mean.mean() for name, mean in means.items()}


if __name__ == "__main__":
    main()
