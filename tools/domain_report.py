"""Measures the effect of domain adaptation: how well features separate the domains, and CC in each domain.

  python tools/domain_report.py --model DIR --source prepared/avad --target prepared/diem --fold 1
  python tools/domain_report.py --model DIR --source prepared --source-list social.txt
      --target prepared --target-list domain:nature_train,domain:nature_test

For each frozen feature of the model, a fresh discriminator is trained on the training lists of the two
domains. The report prints its balanced accuracy on the test lists; 50 % means that it cannot separate the
domains. The accuracy on its training clips is printed too: a discriminator that learnt nothing and a
discriminator that overfitted both fail on the test lists. The report also prints CC of clips that do not
overlap, averaged over the clips of a video and then over the videos of a test list.

A domain can also be a list of videos, one `set video` per line, in a folder of prepared sets. Two lists are
for training and test. From a single list, the tenth that `data.validation=holdout` selects is the test list.
"""

import argparse
import pathlib

import numpy as np
import tqdm

from avsal_jax import load_model, metrics
from avsal_jax.data.prepared.pipeline import clip_batches, numpy_batches
from avsal_jax.data.prepared.sampling import Sampler, Sampling
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.data.prepared.videos import PreparedVideo
from avsal_jax.errors import AvsalError
from avsal_jax.evaluation.compare import bootstrap_interval
from avsal_jax.evaluation.domains import STEPS, separability
from avsal_jax.models.domain import CHANNELS
from avsal_jax.runtime.compile_cache import use_compile_cache
from avsal_jax.types import Clip

BATCH = 8


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=pathlib.Path)
    for side in ("source", "target"):
        parser.add_argument(f"--{side}", required=True, type=pathlib.Path)
        parser.add_argument(
            f"--{side}-list", type=lambda text: text.split(","), default=[], metavar="TRAIN[,TEST]"
        )
    parser.add_argument("--fold", type=int, help="of sets that have folds")
    parser.add_argument("--features", default="audio,fused")
    parser.add_argument("--seeds", type=int, default=3, help="of the fresh discriminators")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training, per discriminator")
    args = parser.parse_args()
    use_compile_cache()
    model, features = load_model(args.model), args.features.split(",")
    sides = {
        "source": videos_of(args.source, args.source_list, args.fold),
        "target": videos_of(args.target, args.target_list, args.fold),
    }
    clips = {
        (side, split): read(model, videos, f"{side}, {split}", features)
        for side, splits in sides.items()
        for split, videos in splits.items()
    }
    print("| | |\n|---|---|")
    for side in sides:
        values = clips[side, "test"]["cc"]
        low, high = bootstrap_interval(values)
        print(f"| CC, {side}, {len(values)} videos | {np.mean(values):.3f} ({low:.3f} to {high:.3f}) |")
    for name in features:
        train, test = (
            tuple(clips[side, split][name] for side in ("source", "target")) for split in ("train", "test")
        )
        channels = CHANNELS.get(name, CHANNELS["fused"])
        seeds = tqdm.trange(args.seeds, desc=f"discriminators of {name}")
        accuracies = [separability(train, test, channels, args.steps, seed=seed) for seed in seeds]
        on_test, on_train = zip(*accuracies, strict=True)
        by_seed = ", ".join(f"{100 * value:.1f}" for value in on_test)
        print(
            f"| a fresh discriminator separates the domains by `{name}` | {100 * np.mean(on_test):.1f} % "
            f"({by_seed}); {100 * np.mean(on_train):.1f} % on its training clips |"
        )


def videos_of(folder: pathlib.Path, lists: list[str], fold: int | None) -> dict[str, list[PreparedVideo]]:
    """Returns the videos of a domain for `train` and `test`.

    Args:
      folder: a prepared set; with lists, the folder of prepared sets.
      lists: names as in data.sources: none, one, or one for training and one for test.
      fold: of a prepared set with folds.

    Raises:
      AvsalError: as `PreparedSources`; more than two lists; a video for training and for test.
    """
    if not lists:
        sources = PreparedSources(folder.parent)
        return {split: sources.videos([(folder.name, fold)], split) for split in ("train", "test")}
    sources = PreparedSources(folder)
    if len(lists) == 1:
        train, test, _ = sources.split(lists, validation="holdout")
        return {"train": train, "test": test}
    if len(lists) > 2:
        raise AvsalError(f"a domain has a list for training and one for test; got {', '.join(lists)}")
    train, test = (sources.videos([name], "train") for name in lists)
    names = {(video.dataset, video.name) for video in train}
    if shared := [video for video in test if (video.dataset, video.name) in names]:
        raise AvsalError(f"{shared[0].dataset} {shared[0].name} is in both lists, {' and '.join(lists)}")
    return {"train": train, "test": test}


def read(model, videos, title: str, features) -> dict[str, np.ndarray]:
    """Returns the features [clips, N, C] of clips that do not overlap, and `cc` [videos]."""
    sampling = Sampling("all_windows", stride=model.spec.frames, shuffle=False)
    batches = clip_batches(videos, model.spec, BATCH, sampling, one_pass=True)
    clips, scores = {name: [] for name in features}, {}
    total = Sampler(videos, model.spec, sampling, 0).clips_per_epoch
    for batch in tqdm.tqdm(numpy_batches(batches), title, -(-total // BATCH)):
        prediction = model(Clip(batch["frames"], batch.get("audio")), features=tuple(features))
        values = metrics.cc(np.asarray(prediction.saliency, np.float64), batch["density"])
        for video, value, counts in zip(batch["video"], values, batch["mask"], strict=True):
            if counts and np.isfinite(value):
                scores.setdefault(int(video), []).append(value)
        for name in features:
            clips[name].append(np.asarray(prediction.features[name])[batch["row"] < total])
    means = np.array([np.mean(values) for values in scores.values()])
    return {**{name: np.concatenate(parts) for name, parts in clips.items()}, "cc": means}


if __name__ == "__main__":
    main()
