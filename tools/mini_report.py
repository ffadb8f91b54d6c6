"""Trains a small ViNet on a generated set and compares it with rules, there and on real clips.

  python tools/mini_report.py --folder DIR [--config vinet_synthetic:mini] [--set preset=experiment]
                              [--clips VIDEO ...] [--picture FILE.jpg] [--config.KEY=VALUE ...]

The figures of checkpoints/avsal-mini/README.md:

  python tools/mini_report.py --folder DIR --config vinet_synthetic:avsal_mini --set preset=avsal_mini \\
      --clips tests/media/big_buck_bunny_5s.mp4 tests/media/nasa_13s.mp4 --picture real_clips.jpg

Makes and prepares the set in DIR and trains by the recipe; a rerun resumes. Then scores the exported model,
three rules and the rule that knows the generator with `avsal evaluate` on the test videos. Prints Markdown:
the means with paired differences and their bootstrap intervals; CC on the clips of the validation list, also
with batch norm on the statistics of the batch; the share of time spent waiting for data; and the table of
tools/real_clips.py.
"""

import argparse
import json
import pathlib
import time

import jax
import numpy as np
from PIL import Image
from real_clips import real_clips

from avsal_jax import load_model, metrics
from avsal_jax.cli.main import main as avsal
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.evaluation.compare import compare
from avsal_jax.evaluation.results import read_results
from avsal_jax.media.cues import centre_map, luminance, motion_maps
from avsal_jax.metrics import MeanState
from avsal_jax.models.network import SALIENCY
from avsal_jax.models.systems import build
from avsal_jax.pictures import to_grey
from avsal_jax.synthetic import read_scene, read_settings
from avsal_jax.synthetic.expected import expected_density
from avsal_jax.training import recipes
from avsal_jax.training.objectives import clip_of
from avsal_jax.training.program import runtime_of
from avsal_jax.training.records.metrics_log import read_metrics
from avsal_jax.training.schema import build_config
from avsal_jax.training.train import Trainer

METRICS = ("cc", "sim", "nss")
RULES = {"motion energy": "motion", "spectral residual": "spectral_residual", "centre prior": "centre"}
KNOWING = "rule that knows the generator"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--config", default="vinet_synthetic:mini")
    parser.add_argument("--set", action="append", default=[], help="of the generated set, as avsal prepare")
    parser.add_argument("--clips", nargs="*", default=[], type=pathlib.Path, help="real videos")
    parser.add_argument("--picture", type=pathlib.Path, help="maps on the real videos, as JPEG")
    args, changes = parser.parse_known_args()
    folder, run = args.folder, args.folder / "run"
    settings = [word for pair in args.set for word in ("--set", pair)]
    spec = build_config(recipes.config(args.config).to_dict()).model.preset().input
    size = ["--size", f"{spec.height}x{spec.width}"]
    call("prepare", "--dataset", "synthetic", "--output", folder, *size, *settings)
    began = time.perf_counter()
    call("train", "--config", args.config, "--workdir", run, f"--config.data.root={folder}", *changes)
    seconds = time.perf_counter() - began
    print("\n" + scored(folder, run / "model"))
    print("\nCC on the clips of the validation list:")
    print("; ".join(f"{name} {cc:.4f}" for name, cc in held_out(run).items()))
    records = [r for r in read_metrics(run / "metrics.jsonl") if "waiting" in r]
    waiting = 100 * np.mean([r["waiting"] for r in records])
    print(f"waiting for data: {waiting:.1f} % of the time; avsal train took {seconds:.0f} s in this call")
    if args.clips:
        print("\n" + real_clips(load_model(run / "model"), args.clips, args.picture))


def call(*arguments):
    code = avsal([str(argument) for argument in arguments])
    if code:
        raise SystemExit(code)


def scored(folder, model):
    """Evaluates the model and the rules on the test videos; returns a Markdown table."""
    root = folder / "synthetic-source"
    sides = {"model": ["--model", model]} | {name: ["--model", rule] for name, rule in RULES.items()}
    sides[KNOWING] = ["--predictions", write_expected(root, folder / "expected")]
    results = {}
    for name, side in sides.items():
        output = folder / f"evaluated-{name.replace(' ', '-')}"
        options = ["--dataset", "synthetic", "--root", root, "--output", output, "--label", name]
        call("evaluate", *options, *side, "--metrics", ",".join(METRICS))
        results[name] = read_results(str(output))
    lines = [f"| | {' | '.join(map(str.upper, METRICS))} | CC of the model minus this |", "|---" * 5 + "|"]
    for name, (result,) in results.items():
        words = [name, *(f"{result.metrics[m]:.3f}" for m in METRICS), ""]
        if name != "model":
            (paired,) = (d for d in compare([result, *results["model"]]).differences if d.metric == "cc")
            words[-1] = f"{paired.mean:+.3f} ({paired.low:+.3f} to {paired.high:+.3f})"
        lines.append(f"| {' | '.join(words)} |")
    videos = results["model"][0].videos
    share = results["model"][0].metrics["cc"] / results[KNOWING][0].metrics["cc"]
    note = f"{videos} test videos; means of videos, paired differences, 95 % bootstrap intervals over videos."
    return "\n".join([*lines, "", note, f"The model has {share:.3f} of the CC of the {KNOWING}."])


def write_expected(root, output):
    """Saves the maps of the rule that knows the generator for the test videos; returns the folder."""
    settings = read_settings(root)
    for entry in open_dataset("synthetic", root, "test"):
        folder = output / entry.name
        folder.mkdir(parents=True, exist_ok=True)
        frames = np.stack([entry.frame(i) for i in range(entry.frames)])
        densities = expected_density(settings, read_scene(root, entry.name), frames)
        for number, density in enumerate(densities, 1):
            Image.fromarray(to_grey(density)).save(folder / f"{number:05d}.png")
    return output


def held_out(workdir):
    """Returns the mean CC over the clips of the validation list, of the best checkpoint and of two rules."""
    config = build_config(json.loads((workdir / "config.json").read_text()))
    trainer = Trainer(config, workdir, lambda line: None)
    network = build(trainer.program.preset, runtime_of(trainer.config.model))
    checkpoints = trainer.checkpoints
    state = trainer.parallel.replicate(checkpoints.restore(checkpoints.best(), trainer.program.shapes))

    def with_batch_statistics(batch):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        outputs = network.run(variables, clip_of(batch), train=True, rngs={"dropout": jax.random.key(0)})
        return jax.nn.sigmoid(outputs.logits[SALIENCY])

    batched = jax.jit(with_batch_statistics)
    means = {name: MeanState() for name in ("model", "model with batch statistics", "motion", "centre")}
    for batch in trainer.feed.validation_batches():
        density, mask = (np.asarray(batch[name]) for name in ("density", "mask"))
        light = luminance(np.asarray(batch["frames"]))
        maps = {
            "model": np.asarray(trainer.program.validation_step(state.params, state.batch_stats, batch)[1]),
            "model with batch statistics": np.asarray(batched(batch)),
            "motion": np.stack([motion_maps(clip)[-1] for clip in light]),
            "centre": np.broadcast_to(centre_map(*density.shape[1:]), density.shape),
        }
        for name, saliency in maps.items():
            means[name] = means[name].add(metrics.cc(saliency.astype(np.float64), density)[mask])
    return {name: mean.mean() for name, mean in means.items()}


if __name__ == "__main__":
    main()
