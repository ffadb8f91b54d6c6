"""A network whose output is not finite says so, names the frame, and leaves no map."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.streaming import check_finite, saliency_of
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import Heads, Network
from avsal_jax.models.systems import Preset
from avsal_jax.spec.input import SIGNED, InputSpec
from avsal_jax.storage import StoredModel


class Brightness(nn.Module):
    """A visual encoder: the mean of each pixel of each frame."""

    def stem(self, frames, train=False):
        return frames.mean(-1, keepdims=True)

    def trunk(self, stem, train=False):
        return (stem,)


class Power(nn.Module):
    """A decoder: the last frame's brightness, from -1 to 1, times `gain`, to the third power.

    White gives gain^3, which is beyond float32 for a gain of 1e13; grey (0.004) does not.
    """

    gain: float
    dtype: type = jnp.float32

    def __call__(self, pyramid, train=False):
        return ((pyramid[0][:, -1, ..., 0] * self.gain) ** 3).astype(self.dtype)


def model(gain=1e13, dtype=jnp.float32):
    spec = InputSpec(8, 32, 32, pixels=SIGNED)
    heads = Heads.of({"saliency": Power(gain, dtype)})
    network = Network(spec, visual_encoder=Brightness(), heads=heads)
    stored = StoredModel(Preset("power", {}, spec), network, {}, {"system": "power"})
    return Model(stored, Runtime(dtype=dtype))


def frames(white=5, count=12):
    """Grey frames; the one with number `white`, from 1, has a white pixel."""
    images = np.full((count, 32, 32, 3), 128, np.uint8)
    images[white - 1, 3, 4] = 255
    return images


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_frame_is_named(dtype):
    with pytest.raises(AvsalError, match=r"output is not finite \(frame 5\)"):
        model(dtype=dtype).predict_frames(frames(), 25)
    stream = model(dtype=dtype).iter_frames(frames())
    assert [next(stream)[0] for _ in range(4)] == [0, 1, 2, 3]  # what comes before it is right
    with pytest.raises(AvsalError, match="frame 5"):
        next(stream)
    assert model(gain=1.0, dtype=dtype).predict_frames(frames(), 25).shape == (12, 32, 32)


@pytest.mark.parametrize("save", [("maps", "report"), ("npz",), ("overlay",)])
def test_predict_leaves_nothing(tmp_path, save):
    (tmp_path / "v").mkdir()
    for number, image in enumerate(frames(), 1):
        Image.fromarray(image).save(tmp_path / "v" / f"{number:03d}.png")
    with pytest.raises(AvsalError, match=r"frame 5\)"):
        predict_file(model(), tmp_path / "v", tmp_path / "out", Settings(save=save))
    assert not (tmp_path / "out").exists()


def test_an_infinite_logit_is_no_map():
    """The sigmoid of infinity is 1, which would look like a map."""
    maps = np.asarray(saliency_of(jnp.array([[0.0, jnp.inf], [-jnp.inf, 800.0]])))
    assert maps[0, 0] == 0.5 and maps[1, 1] == 1 and np.isnan(maps[0, 1]) and np.isnan(maps[1, 0])
    with pytest.raises(AvsalError, match=r"not finite \(frame 3\)"):
        check_finite(maps, "frame 3")
    check_finite(maps[:, :1][:1], "frame 3")
