"""Measures avsal_jax against PyTorch in the same run: forward, training step, predict; and on its own the
video chain and CASP-Net's audio-visual interaction.

  python tools/benchmark.py forward|train|predict|chain|interaction [--output DIR] ...

Runs are interleaved; medians, and the ratio pair by pair with its smallest and largest value, go to the
terminal as a Markdown table and to DIR/NAME.json. Without torch its column is left out. `forward`, `train`
and `predict` first check that both give the same output.
"""

import argparse
import functools
import json
import pathlib
import platform
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import abstract_variables, forward, init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import StoredModel, flatten
from avsal_jax.types import Clip

CLIP = pathlib.Path(__file__).parent.parent / "tests" / "media" / "big_buck_bunny_5s.mp4"
FRAMES = 32


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
    parser.add_argument("--video", type=pathlib.Path, default=CLIP)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    report = {
        "what": args.what,
        "machine": _machine(),
        "arguments": {k: str(v) for k, v in vars(args).items()},
    }
    report |= WHATS[args.what](args)
    print(_table(report))
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / f"{args.what}.json").write_text(json.dumps(report, indent=2) + "\n")


def _torch(args):
    if args.no_torch:
        return None
    try:
        import torch
    except ImportError:
        return None
    return torch


def _peer(torch, args):
    """A seeded PyTorch ViNet with statistics that are not neutral, on the device that jax uses."""
    from torch_vinet import ViNet

    torch.manual_seed(0)
    net = ViNet().eval()
    with torch.no_grad():
        for name, value in net.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    return net.to(device, getattr(torch, args.dtype) if args.dtype == "bfloat16" else torch.float32)


def _ours(args, peer):
    """Our ViNet with the same weights, or seeded ones."""
    from avsal_jax.convert import rules, vinet

    settings = {"frames": FRAMES, "height": args.height, "width": args.width}
    preset = resolve("vinet", settings)
    network = build(preset, Runtime(dtype=jnp.dtype(args.dtype)))
    if peer is None:
        return preset, network, init_variables(network, preset.input, 0)
    from flax import traverse_util

    tensors = {k: v.float().cpu().numpy() for k, v in peer.state_dict().items()}
    expected = {k: v.shape for k, v in flatten(abstract_variables(network, preset.input)).items()}
    rows = vinet.table(vinet.recognise(tensors), tensors)
    flat = rules.apply_table(tensors, rows, vinet.IGNORED, expected)
    return preset, network, traverse_util.unflatten_dict(flat, sep="/")


def _inputs(args):
    shape = (args.batch, FRAMES, args.height, args.width, 3)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _formats(torch, peer):
    """The peer in both memory formats, as (name, network, format)."""
    import copy

    for name, layout in (("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last_3d)):
        yield name, copy.deepcopy(peer).to(memory_format=layout), layout


def _agree(ours, theirs, dtype):
    worst = float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())
    if worst > (1e-4 if dtype == "float32" else 0.1):
        sys.exit(f"the two implementations disagree by {worst:.2g} of the largest value")
    return worst


def _synchronised(torch, value):
    if value.is_cuda:
        torch.cuda.synchronize()
    return value


def _forward(args):
    torch = _torch(args)
    peer = _peer(torch, args) if torch else None
    preset, network, variables = _ours(args, peer)
    x = _inputs(args)
    variables, device_x = jax.device_put((variables, x))
    run = jax.jit(lambda v, c: forward(network, preset.input, v, c).logits)
    clip = Clip(device_x, normalized=True)
    sides = {"avsal_jax": lambda: run(variables, clip).block_until_ready()}
    result = {}
    if torch:
        first = next(peer.parameters())
        y = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).to(first.device, first.dtype)
        for name, net, layout in _formats(torch, peer):
            sides[f"torch, {name}"] = _torch_forward(torch, net, y.to(memory_format=layout))
        theirs = sides["torch, contiguous"]().float().cpu().numpy()
        result["disagreement"] = _agree(sides["avsal_jax"](), theirs, args.dtype)
    return result | _compare(sides, args.repeats)


def _torch_forward(torch, net, x):
    def run():
        with torch.inference_mode():
            return _synchronised(torch, net(x))

    return run


def _train(args):
    """Forward with batch statistics, KL divergence of maps that sum to 1, backward, Adam."""
    import optax

    torch = _torch(args)
    peer = _peer(torch, args) if torch else None
    _, network, variables = _ours(args, peer)
    x = _inputs(args)
    target = np.random.default_rng(1).uniform(size=(args.batch, args.height, args.width)).astype(np.float32)
    target /= target.sum((1, 2), keepdims=True)
    optimizer = optax.adam(1e-4)

    def loss(params, stats, frames, goal):
        logits, state = network.apply(
            {"params": params, "batch_stats": stats}, frames, None, True, mutable=["batch_stats"]
        )
        p = jax.nn.sigmoid(logits)
        p = p / p.sum((1, 2), keepdims=True)
        return (goal * jnp.log(goal / p)).sum((1, 2)).mean(), state["batch_stats"]

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, frames, goal):
        params, stats, moments = state
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats, frames, goal)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, updates), stats, moments), value

    state = jax.device_put(
        (variables["params"], variables["batch_stats"], optimizer.init(variables["params"]))
    )
    frames, goal = jax.device_put((x, target))
    box = {"state": state}

    def ours():
        box["state"], value = step(box["state"], frames, goal)
        return float(value)

    sides, result = {"avsal_jax": ours}, {}
    if torch:
        first = next(peer.parameters())
        y = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).to(first.device, first.dtype)
        z = torch.from_numpy(target).to(first.device)
        for name, net, layout in _formats(torch, peer):
            sides[f"torch, {name}"] = _torch_step(torch, net, y.to(memory_format=layout), z)
        values = [side() for side in sides.values()]  # the loss before the first update
        result["first losses"] = values
        if abs(values[0] - values[1]) > (1e-3 if args.dtype == "float32" else 0.1) * abs(values[1]):
            sys.exit(f"the two implementations disagree: losses {values}")
    return result | _compare(sides, args.repeats)


def _torch_step(torch, net, x, target):
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)

    def run():
        optimizer.zero_grad()
        p = torch.sigmoid(net(x).float())
        p = p / p.sum((1, 2), keepdim=True)
        value = (target * torch.log(target / p)).sum((1, 2)).mean()
        value.backward()
        optimizer.step()
        return float(value.detach())

    return run


def _predict(args):
    """Maps of the first frames of a clip: our stream, and a PyTorch loop that runs every window whole.

    The peer decodes, resizes and normalises each frame once, and works in its faster memory format.
    """
    from avsal_jax.data.video import Video, resize_frame
    from avsal_jax.inference.predictor import Model
    from avsal_jax.inference.windows import window
    from avsal_jax.ops.pixels import normalize_pixels

    torch = _torch(args)
    peer = _peer(torch, args) if torch else None
    preset, network, variables = _ours(args, peer)
    runtime = Runtime(dtype=jnp.dtype(args.dtype))
    model = Model(StoredModel(preset, network, variables, {"system": "vinet"}), runtime)
    compile_seconds = model.engine(args.batch).compile_seconds

    def ours():
        stream = model.iter_video(args.video, batch=args.batch)
        maps = [next(stream)[1] for _ in range(args.maps)]
        stream.close()
        return np.stack(maps)

    sides, result = {"avsal_jax": ours}, {"compile_seconds": compile_seconds, "maps": args.maps}
    if torch:
        first = next(peer.parameters())
        spec = preset.input

        def loop(net, layout):
            frames, needed = [], 2 * FRAMES - 1
            for frame in Video(args.video):
                small = resize_frame(frame.image, spec.height, spec.width)
                frames.append(np.moveaxis(np.asarray(normalize_pixels(small, spec.pixel_norm)), -1, 0))
                if len(frames) == needed:
                    break
            maps = []
            for index in range(args.maps):
                picked = np.stack([frames[i] for i in window(index, None, FRAMES, "last")], 1)[None]
                x = torch.from_numpy(picked).to(first.device, first.dtype).to(memory_format=layout)
                with torch.inference_mode():
                    maps.append(torch.sigmoid(net(x).float()).cpu().numpy()[0])
            return np.stack(maps)

        for name, net, layout in _formats(torch, peer):
            sides[f"torch, {name}"] = functools.partial(loop, net, layout)
        result["disagreement"] = _agree(ours(), sides["torch, contiguous"](), args.dtype)
    return result | _compare(sides, args.repeats)


def _chain(args):
    from chain import measure_chain

    return measure_chain(args.video, args.repeats)


def _interaction(args):
    from interaction import measure_interaction

    return measure_interaction(args.repeats)


def _compare(sides, repeats):
    """Times the sides in turn; the ratio of each pair is against the faster peer by median."""
    for run in sides.values():
        run()  # compile, warm up
    seconds = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {"seconds": seconds, "medians": medians}
    peers = {name: value for name, value in medians.items() if name != "avsal_jax"}
    if peers:
        best = min(peers, key=peers.get)
        pairs = [b / a for a, b in zip(seconds["avsal_jax"], seconds[best], strict=True)]
        result["ratio"] = {
            "against": best,
            "median": statistics.median(pairs),
            "smallest": min(pairs),
            "largest": max(pairs),
        }
    return result


def _table(report):
    lines = [f"{report['what']} on {report['machine']['device']}, jax {report['machine']['jax']}", ""]
    if "rows" in report:
        from interaction import table

        return "\n".join([*lines, *table(report["rows"])])
    if "stages" in report:
        lines += ["| stage | frames a second |", "|---|---|"]
        lines += [f"| {name} | {value:.1f} |" for name, value in report["stages"].items()]
        return "\n".join([*lines, f"| idle share of a 10 ms model, npz only | {report['idle_share']:.3f} |"])
    lines += ["| implementation | median s | smallest | largest |", "|---|---|---|---|"]
    for name, values in report["seconds"].items():
        median = report["medians"][name]
        lines.append(f"| {name} | {median:.3f} | {min(values):.3f} | {max(values):.3f} |")
    if "ratio" in report:
        r = report["ratio"]
        lines.append(
            f"\n{r['median']:.2f}x {r['against']} (pairs from {r['smallest']:.2f} to {r['largest']:.2f})"
        )
    for key in ("disagreement", "compile_seconds", "maps"):
        if key in report:
            lines.append(f"{key}: {report[key]:.3g}")
    return "\n".join(lines)


def _machine():
    import os

    return {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


WHATS = {
    "forward": _forward,
    "train": _train,
    "predict": _predict,
    "chain": _chain,
    "interaction": _interaction,
}

if __name__ == "__main__":
    main()
