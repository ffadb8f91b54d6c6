"""Multi-scale synergy against Eqs. 9 to 12 in loops; LIP; what each number of pairs works on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.models.importance_pooling import LocalImportancePool
from avsal_jax.models.layers import Runtime
from avsal_jax.models.necks.aspp import ASPP
from avsal_jax.models.necks.synergy import Synergy, SynergyNeck
from tests.models.numpy_layers import conv3d, conv_norm, random_variables, sigmoid, trilinear

DOUBLE = Runtime(dtype=jnp.float64, lowering="direct")
SIZES = {"high": (4, 6, 5), "middle": (2, 3, 3), "low": (1, 2, 1)}


def scales(*present, channels=3):
    rng = np.random.default_rng(0)
    levels = {name: rng.standard_normal((2, *size, channels)) for name, size in SIZES.items()}
    return [levels[name] if name in present else None for name in SIZES]


def conv(variables, name, x):
    """C of the equations."""
    return conv_norm(variables["params"][name], variables["batch_stats"][name], x)


def resized_conv(variables, name, x, like):
    """U or D: resized to `like`, then convolved."""
    return conv(variables, name, trilinear(x, like.shape[1:4]))


@pytest.mark.parametrize("lacking", [(), ("high",), ("low",)], ids=["triple", "no finer", "no coarser"])
def test_equations_9_to_12(lacking):
    h, m, low = scales(*(name for name in SIZES if name not in lacking))
    with jax.enable_x64(True):
        module = Synergy(DOUBLE)
        v = random_variables(module, h, m, low)
        result = np.asarray(jax.jit(module.apply)(v, h, m, low))
    m1 = conv(v, "first_middle", m)
    m2 = conv(v, "second_middle_of_middle", m1)
    m3 = 0
    if h is not None:
        h1 = conv(v, "first_high", h)
        h2 = conv(v, "second_high_of_high", h1) + resized_conv(v, "second_high_of_middle", m1, h)
        m2 = m2 + resized_conv(v, "second_middle_of_high", h1, m)
        m3 = m3 + resized_conv(v, "third_of_high", h2, m)
    if low is not None:
        l1 = conv(v, "first_low", low)
        l2 = conv(v, "second_low_of_low", l1) + resized_conv(v, "second_low_of_middle", m1, low)
        m2 = m2 + resized_conv(v, "second_middle_of_low", l1, m)
        m3 = m3 + resized_conv(v, "third_of_low", l2, m)
    m3 = m3 + conv(v, "third_of_middle", m2)
    np.testing.assert_allclose(result, m3 + m, rtol=0, atol=1e-10)
    assert len(v["params"]) == (8 if lacking else 13)


def test_lip_weighs_by_what_the_frame_shows():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4, 2))
    with jax.enable_x64(True):
        module = LocalImportancePool(runtime=DOUBLE)
        v = random_variables(module, x)
        result = np.asarray(jax.jit(module.apply)(v, x))
    p = v["params"]
    score = conv3d({"zero_kernel": p["zero_kernel"]}, x)
    for b, t, c in np.ndindex(2, 3, 2):  # instance norm over each frame
        frame = score[b, t, :, :, c]
        normal = (frame - frame.mean()) / np.sqrt(((frame - frame.mean()) ** 2).mean() + 1e-5)
        weight = np.exp(12 * sigmoid(normal * p["scale"][c] + p["bias"][c]))
        for i, j in np.ndindex(5, 4):
            near = np.s_[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            mean = (weight[near] * x[b, t, :, :, c][near]).sum() / weight[near].sum()
            np.testing.assert_allclose(result[b, t, i, j, c], mean, rtol=0, atol=1e-10)


def pyramid_of(sizes=((4, 12, 16), (4, 6, 8), (2, 3, 4), (1, 2, 2)), channels=(3, 4, 5, 6)):
    rng = np.random.default_rng(0)
    levels = zip(sizes, channels, strict=True)
    return tuple(rng.standard_normal((1, *size, c)).astype(np.float32) for size, c in levels)


def neck(**fields):
    return SynergyNeck(**{"width": 1 / 32, "runtime": Runtime(lowering="direct"), **fields})


@pytest.mark.parametrize("pairs", range(5))
def test_pairs_read_and_enhance_the_levels_of_table_iv(pairs):
    """What each returned level depends on: an enhanced one on its raw neighbours too, any other on itself.

    Were X^2 enhanced before X^3 reads it, X^3 would depend on X^1.
    """
    pyramid, module = pyramid_of(), neck(pairs=pairs)
    variables = jax.tree.map(np.float32, random_variables(module, pyramid))
    run = jax.jit(lambda levels: module.apply(variables, levels))
    plain = run(pyramid)
    for changed in range(4):
        other = tuple(level + (i == changed) for i, level in enumerate(pyramid))
        differ = [float(np.abs(a - b).max()) > 0 for a, b in zip(run(other), plain, strict=True)]
        assert differ == [abs(i - changed) <= (1 if i < pairs else 0) for i in range(4)]


@pytest.mark.parametrize("pairs", range(5))
def test_fewer_pairs_are_the_same_network_without_their_parameters(pairs):
    pyramid = pyramid_of()
    shapes = jax.eval_shape(lambda: neck(pairs=4).init(jax.random.key(0), pyramid))
    subset = jax.eval_shape(lambda: neck(pairs=pairs).init(jax.random.key(0), pyramid))
    names = (
        {"aspp"}
        | {f"lip{level}" for level in range(4)}
        | {f"synergy{level}" for level in range(4 - pairs, 4)}
    )
    assert set(subset["params"]) == names
    for kind, tree in subset.items():
        assert tree == {k: v for k, v in shapes[kind].items() if k in names}


def test_synergy_is_added_to_the_level_itself():
    """Eq. 12 with all scales at zero: the neck then returns what it returns without pairs."""
    pyramid = pyramid_of()
    variables = jax.tree.map(np.float32, random_variables(neck(pairs=2), pyramid))
    norms = {"scale": 0, "bias": 0}

    def silenced(path, leaf):
        inside = path[1].key.startswith("synergy")
        return leaf * norms.get(path[-1].key, 1) if inside else leaf

    quiet = jax.tree_util.tree_map_with_path(silenced, variables)
    raw = {kind: {k: v for k, v in tree.items() if "synergy" not in k} for kind, tree in variables.items()}
    with_pairs = jax.jit(neck(pairs=2).apply)(quiet, pyramid)
    without = jax.jit(neck(pairs=0).apply)(raw, pyramid)
    for level, reference in zip(with_pairs, without, strict=True):
        np.testing.assert_allclose(level, reference, atol=1e-6)


def test_lip_pools_what_aspp_returns():
    """III-A names them in this order; without pairs they are the whole neck."""
    pyramid, module = pyramid_of(), neck(pairs=0)
    variables = jax.tree.map(np.float32, random_variables(module, pyramid))
    part = {
        name: {kind: tree[name] for kind, tree in variables.items() if name in tree}
        for name in ("aspp", "lip3", "lip2", "lip1", "lip0")
    }
    levels = jax.jit(ASPP(width=1 / 32, runtime=module.runtime).apply)(part["aspp"], pyramid)
    pool = LocalImportancePool(runtime=module.runtime)
    pooled, apply = jax.jit(module.apply)(variables, pyramid), jax.jit(pool.apply)
    for number, (result, level) in enumerate(zip(pooled, levels, strict=True)):
        np.testing.assert_allclose(result, apply(part[f"lip{3 - number}"], level), atol=1e-5)


def test_without_lip_its_parameters_are_gone():
    pyramid = pyramid_of()
    with_it, without = (
        set(jax.eval_shape(lambda f=lip: neck(lip=f).init(jax.random.key(0), pyramid))["params"])
        for lip in (True, False)
    )
    assert with_it - without == {f"lip{level}" for level in range(4)}


def test_pairs_out_of_range_are_refused():
    for pairs in (-1, 5):
        with pytest.raises(AvsalError, match=f"pairs must be a whole number from 0 to 4; got {pairs}"):
            neck(pairs=pairs).init(jax.random.key(0), pyramid_of())
    with pytest.raises(AvsalError, match="neck.pairs must be from 0 to 3; got 4"):
        neck(pairs=4).init(jax.random.key(0), pyramid_of()[:3])
    with pytest.raises(AvsalError, match="neck.lip_size must be an odd number of pixels; got 2"):
        neck(lip_size=2).init(jax.random.key(0), pyramid_of())


def test_aspp_and_the_window_of_lip_can_be_chosen():
    pyramid = pyramid_of()
    plain, other = (
        jax.eval_shape(lambda part=part: part.init_with_output(jax.random.key(0), pyramid))
        for part in (neck(), neck(lip_size=5, branch_channels=64, rates=(2, 4), pooling=False, temporal=3))
    )
    assert [level.shape for level in plain[0]] == [level.shape for level in other[0]]
    level = other[1]["params"]["aspp"]["level1"]
    assert set(level) == {"point", "atrous1", "atrous2", "projection"}
    assert level["atrous1"]["conv"]["kernel"].shape[:3] == (3, 3, 3)
