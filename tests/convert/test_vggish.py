"""VGGish agrees with the public PyTorch port through the real path, with and without its last ReLU."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError, Clip
from avsal_jax.cli.main import main
from avsal_jax.storage import read_model
from avsal_jax.testing import golden
from tests.convert.test_convert import golden_file, golden_weights


def convert(tests_dir, tmp_path, *flags, change=lambda tensors: None):
    tensors = golden_weights(golden_file(tests_dir, "vggish")["keys"])
    change(tensors)
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "vggish.safetensors"
    safetensors.numpy.save_file(tensors, source)
    output = tmp_path / "m"
    arguments = ["--system", "vggish", "--input", str(source), "--output", str(output), *flags]
    return main(["convert", *arguments]), output


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "none"])
def test_vggish_agrees_with_the_public_code(tests_dir, tmp_path, activation, capsys, optimised):
    flags = ("--set", f"audio_encoder.activation={activation}", "--verify")
    code, output = convert(tests_dir, tmp_path, *flags)
    assert code == 0 and "verified: 18 tensors equal their source" in capsys.readouterr().out
    stored = read_model(output)
    assert sum(leaf.size for leaf in jax.tree.leaves(stored.variables)) == 72_141_184  # of the public code
    patches = (np.random.RandomState(1).standard_normal((2, 1, 96, 64)) * 0.8).astype(np.float32)
    names = ("audio", "vggish_maps")
    run = jax.jit(lambda v, x: stored.network.run(v, Clip(None, x), features=names))
    oracle = golden_file(tests_dir, "vggish")["outputs"]
    embedding = oracle["embedding" if activation == "relu" else "embedding_before_relu"]
    for layout in ((2, 1), (1, 2)):  # two clips of a patch, a clip of two patches
        features = run(stored.variables, patches.reshape(*layout, 96, 64)).features
        maps = np.asarray(features["vggish_maps"]).reshape(2, 6, 4, 512)
        assert golden.disagreement(np.moveaxis(maps, -1, 1), oracle["features"]) <= 1e-4
        assert features["audio"].shape == (*layout, 128)
        assert golden.disagreement(np.asarray(features["audio"]).reshape(2, 128), embedding) <= 1e-4


@pytest.mark.slow
def test_a_file_with_its_post_processing_is_read_and_another_refused(tests_dir, tmp_path, capsys):
    def surplus(tensors):
        tensors["pproc.pca_eigen_vectors"] = np.zeros((128, 128), np.float32)

    def transposed(tensors):
        tensors["embeddings.0.weight"] = np.ascontiguousarray(tensors["embeddings.0.weight"].T)

    assert convert(tests_dir, tmp_path / "a", change=surplus) == (0, tmp_path / "a" / "m")
    assert convert(tests_dir, tmp_path / "b", change=transposed)[0] == 2
    assert "embeddings.0.weight has shape (12288, 4096), not (4096, 12288)" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(1, 0, 96, 64), (96, 64), (1, 96, 64), (1, 1, 64, 96)])
def test_other_shapes_and_no_patch_are_refused(shape):
    from avsal_jax.models.encoders.vggish import VGGish

    with pytest.raises(AvsalError, match=r"patches \[B, P, 96, 64\] with P at least 1; got \("):
        jax.eval_shape(VGGish().init, jax.random.key(0), jax.ShapeDtypeStruct(shape, np.float32))


def test_an_unknown_activation_is_told():
    from avsal_jax.models.encoders.vggish import VGGish

    patches = jax.ShapeDtypeStruct((1, 1, 96, 64), np.float32)
    with pytest.raises(AvsalError, match="activation 'gelu' is not one of relu, none"):
        jax.eval_shape(VGGish(activation="gelu").init, jax.random.key(0), patches)
