"""Measures avsal_jax against PyTorch in the same run: forward, training step, predict, image encoder; and on
its own the video chain and CASP-Net's audio-visual interaction.

  python tools/benchmark.py forward|train|predict|encoder|chain|interaction [--output DIR] ...

Runs are interleaved; medians, and the ratio pair by pair with its interval, go to the
terminal as a Markdown table and to DIR/NAME.json. Without torch its column is left out. `forward`, `train`,
`predict` and `encoder` first check that both give the same output.
"""

import argparse
import functools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import peers
from measure import compare, machine, ratio_text, time_in_turn

from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import SALIENCY
from avsal_jax.storage import StoredModel
from avsal_jax.testing.training import random_clips
from avsal_jax.types import Clip

CLIP = pathlib.Path(__file__).parent.parent / "tests" / "media" / "big_buck_bunny_5s.mp4"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=tuple(WHATS))
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=7, help="counted runs of each side")
    parser.add_argument("--maps", type=int, default=8, help="of `predict`")
    parser.add_argument("--gradient", action="store_true", help="of `encoder`: the gradient too")
    parser.add_argument("--video", type=pathlib.Path, default=CLIP)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    report = {"what": args.what, "arguments": {k: str(v) for k, v in vars(args).items()}}
    report |= WHATS[args.what](args)
    report["machine"] = machine()  # at the end: it names the PyTorch that was loaded
    print(_table(report))
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / f"{args.what}.json").write_text(json.dumps(report, indent=2) + "\n")


class _Pair(peers.Pair):
    """With the clips that both are given."""

    def __init__(self, args):
        self.dtype, self.runtime = args.dtype, Runtime(dtype=jnp.dtype(args.dtype))
        torch = None if args.no_torch else peers.import_torch()
        super().__init__(peers.vinet_preset(args.height, args.width), self.runtime, torch)
        self.clips = random_clips(self.spec, args.batch)

    def forms(self):
        """Yields (name, network, clips) of PyTorch."""
        if self.torch is not None:
            clips = peers.torch_clips(self.torch, self.peer, self.spec, self.clips["frames"])
            for name, net, place in peers.torch_forms(self.torch, self.peer):
                yield name, net, place(clips)

    def check(self, values, reference) -> dict:
        worst = peers.disagreement(values, reference)
        if worst > (1e-4 if self.dtype == "float32" else 0.1):
            sys.exit(f"the two implementations disagree by {worst:.2g} of the largest value")
        return {"disagreement": worst}


def _forward(args):
    pair = _Pair(args)
    variables, clip = jax.device_put((pair.variables, Clip(pair.clips["frames"])))
    run = jax.jit(lambda v, c: pair.network.run(v, c).logits[SALIENCY])
    sides, result = {"avsal_jax": lambda: run(variables, clip)}, {}
    for name, net, clips in pair.forms():
        sides[name] = peers.torch_forward(pair.torch, net, clips, args.dtype)
        result = pair.check(sides["avsal_jax"](), sides[name]().float().cpu())
    return result | compare(time_in_turn(sides, args.repeats, wait=peers.wait), "avsal_jax")


def _train(args):
    """Forward with batch statistics, KL divergence, backward, Adam: the step of `avsal train`."""
    pair = _Pair(args)
    step, first_state = peers.training_step(pair.network, pair.variables)
    step, state = jax.jit(step, donate_argnums=0), first_state()
    batches = jax.device_put({"labelled": pair.clips})

    def training_step():
        nonlocal state
        state, values = step(state, batches, 1.0)
        return values["loss"]

    sides, result = {"avsal_jax": training_step}, {}
    for name, net, clips in pair.forms():
        sides[name] = peers.torch_step(pair.torch, net, clips, pair.clips["density"], args.dtype)
    if pair.torch is not None:
        values = [float(side()) for side in sides.values()]  # the loss before the first update
        result["first losses"] = values
        if abs(values[0] - values[1]) > (1e-3 if args.dtype == "float32" else 0.1) * abs(values[1]):
            sys.exit(f"the two implementations disagree: losses {values}")
    return result | compare(time_in_turn(sides, args.repeats, wait=peers.wait), "avsal_jax")


def _predict(args):
    """Maps of the first frames of a clip: our stream, and a PyTorch loop that runs every window whole.

    The peer decodes, resizes and normalises each frame once, and works in its faster memory format.
    """
    from avsal_jax.inference.predictor import Model

    pair = _Pair(args)
    model = Model(StoredModel(pair.preset, pair.network, pair.variables, {}), pair.runtime)
    compile_seconds = model.engine(args.batch).compile_seconds

    def stream_maps():
        stream = model.iter_video(args.video, batch=args.batch)
        maps = [next(stream)[1] for _ in range(args.maps)]
        stream.close()
        return np.stack(maps)

    sides, result = {"avsal_jax": stream_maps}, {"compile_seconds": compile_seconds, "maps": args.maps}
    if pair.torch is not None:
        for name, net, place in peers.torch_forms(pair.torch, pair.peer):
            sides[name] = functools.partial(_torch_maps, pair, net, place, args)
        result |= pair.check(stream_maps(), sides["torch, contiguous"]())
    return result | compare(time_in_turn(sides, args.repeats, wait=peers.wait), "avsal_jax")


def _torch_maps(pair, net, place, args):
    from avsal_jax.inference.windows import window
    from avsal_jax.media.fitting import resize_frame
    from avsal_jax.media.video import Video
    from avsal_jax.ops.pixels import normalize_pixels

    frames, length = [], pair.spec.frames
    for frame in Video(args.video):
        small = resize_frame(frame.image, pair.spec.height, pair.spec.width)
        frames.append(np.moveaxis(np.asarray(normalize_pixels(small, pair.spec.pixels)), -1, 0))
        if len(frames) == 2 * length - 1:
            break
    maps, device = [], next(net.parameters()).device
    for index in range(args.maps):
        frames_of_map = np.stack([frames[i] for i in window(index, None, length, "last")], 1)[None]
        clips = place(pair.torch.from_numpy(frames_of_map).to(device))
        logits = peers.torch_forward(pair.torch, net, clips, args.dtype)()
        maps.append(pair.torch.sigmoid(logits.float()).cpu().numpy()[0])
    return np.stack(maps)


def _chain(args):
    from chain import measure_chain

    return measure_chain(args.video, args.repeats)


def _encoder(args):
    from encoder import measure_encoder

    return measure_encoder(
        args.height,
        width=args.width,
        batch=args.batch,
        repeats=args.repeats,
        with_torch=not args.no_torch,
        train=args.gradient,
    )


def _interaction(args):
    from interaction import measure_interaction

    return measure_interaction(args.repeats)


def _table(report):
    lines = [f"{report['what']} on {report['machine']['device']}, jax {report['machine']['jax']}", ""]
    if "rows" in report:
        from interaction import table

        return "\n".join([*lines, *table(report["rows"])])
    if "stages" in report:
        lines += ["| stage | frames per second |", "|---|---|"]
        lines += [f"| {name} | {value:.1f} |" for name, value in report["stages"].items()]
        return "\n".join([*lines, f"| idle share of a 10 ms model, npz only | {report['idle_share']:.3f} |"])
    lines += ["| implementation | median s | smallest | largest |", "|---|---|---|---|"]
    for name, values in report["seconds"].items():
        median = report["medians"][name]
        lines.append(f"| {name} | {median:#.4g} | {min(values):#.4g} | {max(values):#.4g} |")
    if "ratio" in report:
        lines.append(f"\n{ratio_text(report['ratio'])}")
    for key in ("disagreement", "compile_seconds", "maps"):
        if key in report:
            lines.append(f"{key}: {report[key]:.3g}")
    return "\n".join(lines)


WHATS = {
    "forward": _forward,
    "train": _train,
    "predict": _predict,
    "encoder": _encoder,
    "chain": _chain,
    "interaction": _interaction,
}

if __name__ == "__main__":
    main()
