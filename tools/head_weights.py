"""How much weight Eq. 6 of RAVF gives to each head at full size, before training and after some steps.

  python tools/head_weights.py [--clips 8] [--steps 100] [--seed 0]

The encoders and the neck of AVRSP, with fresh weights, give the visual tokens (336 of 224x384 pixels and 32
frames) and the tokens of the sound of generated scenes, once. Then RAVF and a linear readout are trained on
them, with and without `head_norm`: from the start that RAVF has, and from one in which the last layer of the
scores has random values like other layers.
"""

import argparse
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from avsal_jax.models.fusion.ravf import RAVF
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.synthetic.observers import densities, look
from avsal_jax.synthetic.picture import render
from avsal_jax.synthetic.scene import make_scene
from avsal_jax.synthetic.settings import SyntheticSettings
from avsal_jax.synthetic.sound import make_sound
from avsal_jax.types import Clip

LEARNING_RATE = 1e-4  # of AVRSP's recipe
BATCH = 4


def cached(clips: int, seed: int):
    """Returns visual tokens [N, T, H, W, C], tokens of sound [N, S, A] and densities [N, H * W]."""
    preset = resolve("avrsp")
    network, spec = build(preset), preset.input
    variables = init_variables(network, seed)
    settings = SyntheticSettings(height=spec.height, width=spec.width, frames=spec.frames, seed=seed)

    @jax.jit
    def features(variables, clip):
        outputs = network.run(variables, clip, features=("taps", "audio"))
        return outputs.features["taps"][-1], outputs.features["audio"]

    rows = []
    for number in range(clips):
        scene = make_scene(settings, number)
        frames = render(settings, number, scene)
        sound = np.zeros(spec.audio.samples, np.float32)
        samples = make_sound(settings, number, scene)
        start = (len(sound) - len(samples)) // 2
        sound[start : start + len(samples)] = 256 * samples * np.hanning(len(samples))
        visual, tokens = features(variables, Clip(frames[None], sound[None]))
        truth, _ = densities(look(settings, number, scene, frames), spec.height, spec.width)
        places = visual.shape[2:4]
        cells = truth[-1].reshape(places[0], spec.height // places[0], places[1], -1).mean((1, 3)).ravel()
        rows.append((np.asarray(visual[0]), np.asarray(tokens[0]), cells / cells.sum()))
    return tuple(np.stack(column).astype(np.float32) for column in zip(*rows, strict=True))


class Readout(nn.Module):
    """RAVF, then one number for each place, averaged over time: logits [B, H * W]."""

    head_norm: bool

    @nn.compact
    def __call__(self, visual, tokens):
        (fused,) = RAVF(head_norm=self.head_norm, name="ravf")((visual,), tokens)
        return nn.Dense(1)(fused)[..., 0].mean(1).reshape(len(visual), -1)


def random_scores(variables: dict, seed: int) -> dict:
    """Returns the variables with the last layers of the scores random, with variance 1 / fan-in."""
    rng = np.random.default_rng(seed)

    def value(path, leaf):
        names = [part.key for part in path]
        if names[-2:] != ["head_score", "projection"]:
            return leaf
        return (rng.standard_normal(leaf.shape) / np.sqrt(leaf.shape[0])).astype(np.float32)

    return jax.tree_util.tree_map_with_path(value, variables)


def head_weights(module, variables, visual, tokens) -> np.ndarray:
    """Returns the mean over clips, [blocks, heads]."""
    _, state = jax.jit(functools.partial(module.apply, mutable="intermediates"))(variables, visual, tokens)
    return np.asarray(state["intermediates"]["ravf"]["head_weights"][0]).mean(0)


def train(module, variables, rows, steps: int):
    """Returns the trained variables, and the losses of the first and of the last step."""
    optimizer = optax.adam(LEARNING_RATE)

    @jax.jit
    def step(variables, state, visual, tokens, density):
        def loss(variables):
            logits = jax.nn.log_softmax(module.apply(variables, visual, tokens))
            return (density * (jnp.log(density + 1e-9) - logits)).sum(-1).mean()

        value, gradients = jax.value_and_grad(loss)(variables)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(variables, updates), state, value

    state, losses = optimizer.init(variables), []
    for number in range(steps):
        batch = [column[(BATCH * number + np.arange(BATCH)) % len(column)] for column in rows]
        variables, state, value = step(variables, state, *batch)
        losses.append(float(value))
    return variables, losses[0], losses[-1]


def table_row(title: str, weights: np.ndarray, loss: float) -> str:
    largest = ", ".join(f"{value:.3f}" for value in weights.max(-1))
    alive = ", ".join(str(int((row > 1e-3).sum())) for row in weights)
    return f"| {title} | {largest} | {alive} | {loss:.3f} |"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = cached(args.clips, args.seed)
    print(f"{args.clips} clips: {rows[0][0].shape} visual and {rows[1][0].shape} tokens of sound")
    print("| head_norm | start, step | largest weight of a head, by block | heads above .001 | loss |")
    print("|---|---|---|---|---|")
    for norm in (False, True):
        module = Readout(norm)
        fresh = module.init(jax.random.key(args.seed), *[column[:1] for column in rows[:2]])
        for title, variables in (("zero", fresh), ("random", random_scores(fresh, args.seed))):
            before = head_weights(module, variables, *rows[:2])
            trained, first, last = train(module, variables, rows, args.steps)
            after = head_weights(module, trained, *rows[:2])
            print(table_row(f"{norm} | {title}, 0", before, first))
            print(table_row(f"{norm} | {title}, {args.steps}", after, last), flush=True)


if __name__ == "__main__":
    main()
