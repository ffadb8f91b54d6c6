"""Trains SoundNet or VGGish on the classes of sound of generated sets' training lists, to start from.

  python tools/pretrain_sound.py --root SET [SET ...] --output DIR [--encoder vggish] [--frames 8]
      [--steps 600] [--pitch OCTAVES]

SET is the folder that holds synthetic.json; the classes of several sets are told apart from one another, as
nobody says which belong together. A softmax on the mean of the tokens tells the class (`kind` of scene.json)
of a random clip's sound; it is thrown away. DIR becomes a model of the encoder alone, for
--config.init.sound.path=DIR --config.init.sound.slot=audio_encoder. Only the training list is used for
training; the accuracy over the clips of the validation list is printed. Clips have the frames and buffer of
the network that it is for.
With --pitch each video is heard at eight pitches, drawn from so many octaves below to as many above its own,
so that the pitch tells no class: the encoders of the papers have heard more than one instrument of a kind.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

import avsal_jax
from avsal_jax.compile_cache import use_compile_cache
from avsal_jax.data.audio import read_sound
from avsal_jax.data.clip_sound import ClipSound, Sound, resample
from avsal_jax.data.datasets import open_dataset
from avsal_jax.data.synthetic import read_scene
from avsal_jax.data.synthetic.settings import CLASSES
from avsal_jax.errors import AvsalError
from avsal_jax.models.network import init_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import write_model
from avsal_jax.types import Clip

BATCH, RATE = 32, 1e-3
PITCHES = 8  # of a video, with --pitch


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, nargs="+", type=pathlib.Path)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--encoder", default="soundnet", choices=("soundnet", "vggish"))
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--samples", type=int, default=12_766, help="of the buffer; SoundNet's")
    parser.add_argument("--frames", type=int, default=8, help="of a clip")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--pitch", type=float, default=0.0, metavar="OCTAVES", help="up to 3; 0: its own")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not 0 <= args.pitch <= 3:
        raise AvsalError(f"--pitch must be a number of octaves in [0, 3]; got {args.pitch:g}")
    use_compile_cache()
    settings = {"audio_encoder.width": args.width, "frames": args.frames}
    settings |= {"audio.samples": args.samples} if args.encoder == "soundnet" else {}
    preset = resolve(args.encoder, settings)
    train = Sounds(args.root, "train", preset.input, args.pitch, args.seed)
    held = Sounds(args.root, "val", preset.input)
    variables = pretrain(preset, train, args.steps, args.seed)
    told = accuracy(preset, variables, held)
    print(f"{100 * told:.1f} % of the clips of {len(held.names)} validation videos told right")
    slots = {name: {"audio_encoder": tree["audio_encoder"]} for name, tree in variables.items() if tree}
    provenance = {
        "by": f"avsal_jax {avsal_jax.__version__}, tools/pretrain_sound.py",
        "trained on": f"the {train.classes} classes of sound of {len(train.names)} training videos of "
        + ("a synthetic set" if len(args.root) == 1 else f"{len(args.root)} synthetic sets"),
        "octaves of pitch": args.pitch,
        "steps": args.steps,
        "seed": args.seed,
        "told right on the validation list": told,
    }
    print(f"the model is {write_model(args.output, preset, slots, provenance)}")


class Sounds:
    """The sounds of the videos of a split of sets, with their classes; a video without one is left out.

    With `pitch`, octaves, each is here PITCHES times, at pitches drawn up to so far from its own.
    """

    def __init__(self, roots, split, spec, pitch=0.0, seed=0):
        draws = np.random.RandomState(seed)
        self.classes = CLASSES * len(roots)
        self._frames = spec.frames
        self._videos, self.names = [], []
        for number, root in enumerate(roots):
            before = len(self._videos)
            for entry in open_dataset("synthetic", root, split):
                kind = read_scene(root, entry.name).kind
                if kind is None:
                    continue
                self.names.append(entry.name)
                sound, label = read_sound(entry.sound), CLASSES * number + kind
                for factor in 2.0 ** draws.uniform(-pitch, pitch, PITCHES if pitch else 1):
                    heard = ClipSound(transposed(sound, factor), spec.audio, spec.frames, entry.fps)
                    self._videos.append((heard, int(entry.frames / factor), label))
            if len(self._videos) == before:
                raise AvsalError(f"no video of the split {split} in {root} has a sound of a class")

    def __len__(self):
        return len(self._videos)

    def clip(self, video: int, place: float) -> tuple[np.ndarray, int]:
        """Returns (sound, class) of the clip at a place in [0, 1) among those of a video."""
        sound, frames, kind = self._videos[video]
        first = int(place * max(1, frames - self._frames + 1))
        window = [min(first + k, frames - 1) for k in range(self._frames)]
        return sound.clip(window, frames), kind

    def batch(self, draws: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """Returns random clips: sounds [B, ...], classes [B]."""
        videos, places = draws.randint(len(self), size=BATCH), draws.random_sample(BATCH)
        waves, kinds = zip(*map(self.clip, videos, places), strict=True)
        return np.stack(waves), np.array(kinds)


def transposed(sound: Sound, factor: float) -> Sound:
    """Returns a sound as when its record runs `factor` times as fast: its frequencies are so many times."""
    if factor == 1:
        return sound
    # to 50 Hz, so that the rates share a factor: resampling is quick then
    faster = Sound(sound.wave, 50 * round(sound.rate * factor / 50), sound.start / factor)
    return Sound(resample(faster, sound.rate).wave[:], sound.rate, faster.start)


def pretrain(preset, sounds: Sounds, steps: int, seed: int) -> dict:
    """Returns variables of the network, and among `params` the softmax's, `classes`."""
    network = build(preset)
    variables = {"batch_stats": {}, **init_variables(network, seed)}  # VGGish has no statistics
    channels = jax.eval_shape(lambda v: tokens_of(network, v, silent(preset)), variables).shape[-1]
    variables["params"]["classes"] = np.zeros((channels, sounds.classes), np.float32)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    @jax.jit
    def step(variables, state, waves, kinds):
        def loss(params):
            full = {**variables, "params": params}
            outputs = network.run(full, Clip(None, waves), train=True, features=("audio",))
            scores = outputs.features["audio"].mean(1) @ params["classes"]
            entropy = optax.softmax_cross_entropy_with_integer_labels(scores, kinds).mean()
            return entropy, outputs.batch_stats

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(gradients, state)
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, "batch_stats": stats}, state, value

    state, draws = optimizer.init(variables["params"]), np.random.RandomState(seed)
    for number in range(1, steps + 1):
        variables, state, value = step(variables, state, *sounds.batch(draws))
        if number % 100 == 0 or number == steps:
            print(f"step {number}/{steps}  loss {float(value):.3f}", flush=True)
    return jax.tree.map(np.asarray, variables)


def accuracy(preset, variables: dict, sounds: Sounds) -> float:
    """Returns the share of clips told right, four of each video."""
    network = build(preset)
    judge = jax.jit(
        lambda waves: tokens_of(network, variables, waves).mean(1) @ variables["params"]["classes"]
    )
    right = []
    for video in range(len(sounds)):
        waves, kinds = zip(*(sounds.clip(video, k / 4) for k in range(4)), strict=True)
        right += list(np.asarray(judge(np.stack(waves))).argmax(-1) == np.array(kinds))
    return float(np.mean(right))


def tokens_of(network, variables, waves):
    """Returns the tokens [B, S, C] by running statistics."""
    return network.run(variables, Clip(None, waves), features=("audio",)).features["audio"]


def silent(preset):
    return jnp.zeros((1, *preset.input.audio.shape))


if __name__ == "__main__":
    main()
