"""Checkpoints are exact and atomic; the last and the best are kept; every refusal is one line."""

import contextlib
import errno
import gc
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avsal_jax.errors import AvsalError
from avsal_jax.training.checkpointing import Checkpoints, _damage_of

AXIS = jax.sharding.PartitionSpec("batch")
EVERYWHERE = jax.sharding.PartitionSpec()


def sharding(spec):
    return jax.sharding.NamedSharding(jax.sharding.Mesh(jax.devices(), ("batch",)), spec)


def make_state(seed=0, size=32):
    draw = np.random.default_rng(seed)
    kernel = jax.device_put(draw.standard_normal((size, 3)).astype(np.float32), sharding(AXIS))
    params = {"encoder": {"kernel": kernel, "half": jnp.asarray(draw.random(5), jnp.bfloat16)}}
    return {
        "step": jnp.asarray(seed, jnp.int32),
        "params": params,
        "optimizer": optax.adam(1e-3).init(params),
        "key": jax.random.key_data(jax.random.key(seed)),
        "seen": np.int64(2**40 + seed),
        "table": np.float64([0.1, np.nan]),
    }


def abstract(state):
    def leaf(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) if isinstance(x, jax.Array) else x

    return jax.tree.map(leaf, state)


def bits(tree):
    return [
        (np.asarray(x).dtype, np.asarray(x).shape, np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)
    ]


@pytest.fixture
def open_checkpoints(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(folder=tmp_path / "checkpoints", **settings):
            checkpoints = Checkpoints(folder, **settings)
            stack.callback(checkpoints.close)
            return checkpoints

        yield make


def test_a_state_comes_back_bit_by_bit_with_its_types_and_meta(open_checkpoints):
    state = make_state(7)
    meta = {"plateau": {"best": 0.1, "count": 3}, "stopped": False, "why": None}
    writer = open_checkpoints()
    assert writer.latest() is None and writer.best() is None
    assert writer.save(120, state, meta)
    meta["plateau"]["count"] = 4  # the copy that is written is of the call
    writer.close()
    reader = open_checkpoints()
    back = reader.restore(reader.latest(), abstract(state))
    assert bits(back) == bits(state) and jax.tree.structure(back) == jax.tree.structure(state)
    assert type(back["seen"]) is np.int64 and type(back["table"]) is np.ndarray
    assert back["params"]["encoder"]["kernel"].sharding == sharding(AXIS)
    assert reader.meta(120) == {"plateau": {"best": 0.1, "count": 3}, "stopped": False, "why": None}


def test_restore_places_leaves_as_asked(open_checkpoints):
    state = make_state()
    checkpoints = open_checkpoints()
    checkpoints.save(1, state, {})
    like = abstract(state)
    kernel = like["params"]["encoder"]["kernel"]
    for target in (sharding(EVERYWHERE), sharding(AXIS), jax.sharding.SingleDeviceSharding(jax.devices()[1])):
        like["params"]["encoder"]["kernel"] = jax.ShapeDtypeStruct(
            kernel.shape, kernel.dtype, sharding=target
        )
        back = checkpoints.restore(1, like)
        assert back["params"]["encoder"]["kernel"].sharding == target and bits(back) == bits(state)
    like["params"]["encoder"]["kernel"] = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
    back = checkpoints.restore(1, like)
    assert isinstance(back["params"]["encoder"]["kernel"], np.ndarray) and bits(back) == bits(state)


def test_the_last_ones_and_the_best_are_kept(open_checkpoints, tmp_path):
    checkpoints = open_checkpoints(keep=2, metric="cc")
    for step, value in ((10, 0.3), (20, 0.9), (30, float("nan")), (40, 0.9), (50, 0.2), (60, 0.4)):
        checkpoints.save(step, {"x": np.full(3, step)}, {}, {"cc": value, "loss": -value})
    checkpoints.wait()
    names = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert names == {"20", "50", "60"}
    assert (checkpoints.latest(), checkpoints.best()) == (60, 20)
    checkpoints.close()
    # The values of earlier runs count, also those of another metric.
    assert open_checkpoints(keep=2, metric="cc").best() == 20
    assert open_checkpoints(metric="loss", mode="max").best() == 50
    lowest = open_checkpoints(keep=1, metric="loss", mode="min")
    assert lowest.best() == 20
    lowest.save(70, {"x": np.zeros(3)}, {}, {"loss": -2.0})
    lowest.wait()
    assert lowest.best() == 70 and {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"70"}


def test_the_best_of_an_earlier_run_is_kept_among_equals(open_checkpoints, tmp_path):
    """Orbax's `BestN` would keep 30, the last of the equal ones."""
    first = open_checkpoints(keep=1, metric="cc")
    first.save(10, {"x": np.zeros(3)}, {}, {"cc": 0.9})
    first.save(20, {"x": np.zeros(3)}, {}, {"cc": 0.2})
    first.close()
    second = open_checkpoints(keep=1, metric="cc")
    for step, value in ((30, 0.9), (40, 0.3)):
        second.save(step, {"x": np.zeros(3)}, {}, {"cc": value})
    second.wait()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"10", "40"}


@pytest.mark.parametrize("metrics", [{"cc": float("nan")}, {"cc": float("inf")}, {}])
def test_without_a_finite_value_only_the_last_ones_are_kept(open_checkpoints, tmp_path, metrics):
    checkpoints = open_checkpoints(keep=1, metric="cc")
    for step in (1, 2, 3):
        checkpoints.save(step, {"x": np.zeros(3)}, {}, metrics)
    checkpoints.wait()
    assert checkpoints.best() is None
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"3"}


def test_a_step_that_is_there_is_not_saved_again(open_checkpoints):
    checkpoints = open_checkpoints()
    assert checkpoints.save(5, {"x": np.ones(3)}, {"try": 1})
    assert not checkpoints.save(5, {"x": np.zeros(3)}, {"try": 2})
    assert checkpoints.meta(5) == {"try": 1}
    assert checkpoints.save(3, {"x": np.zeros(3)}, {})  # after a return to an older one
    assert checkpoints.latest() == 5


def test_a_mismatch_is_reported_leaf_by_leaf(open_checkpoints):
    checkpoints = open_checkpoints()
    checkpoints.save(
        4, {"a": {str(i): np.zeros(2) for i in range(12)}, "b": np.zeros((2, 3)), "c": np.ones(1)}, {}
    )
    like = {"b": np.zeros((3, 2)), "c": np.ones(1, np.float32), "d": [np.zeros(1), np.zeros(1)]}
    with pytest.raises(AvsalError) as error:
        checkpoints.restore(4, like)
    text = str(error.value)
    assert "does not fit this run" in text and "\n" not in text
    assert "2 missing: d/0, d/1" in text
    assert "12 not known: a/0, a/1, a/10, a/11, a/2, a/3, a/4, a/5 ..." in text and "a/6" not in text
    assert "b is (2, 3, 'float64'), not (3, 2, 'float64')" in text
    assert "c is (1, 'float64'), not (1, 'float32')" in text
    on_device = {"a": {}, "b": jax.ShapeDtypeStruct((2, 3), np.float64, sharding=sharding(EVERYWHERE))}
    with pytest.raises(AvsalError, match="b is .*float64.*not .*float32"):  # a device would round it
        checkpoints.restore(4, on_device)


def test_missing_and_damaged_checkpoints_are_errors(open_checkpoints, tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(AvsalError, match="there is no folder"):
        open_checkpoints(read_only=True)
    assert not folder.exists()
    checkpoints = open_checkpoints()
    with pytest.raises(AvsalError, match="there is no checkpoint 3 in .*; it has no checkpoint"):
        checkpoints.meta(3)
    state = {"x": np.arange(4000.0)}
    for step in (1, 2):
        checkpoints.save(step, state, {})
    with pytest.raises(AvsalError, match="there is no checkpoint 3 in .*; it has 1, 2"):
        checkpoints.restore(3, state)
    for file in (folder / "2" / "state").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AvsalError, match="checkpoint 2 in .* is damaged: .*; remove it"):
        checkpoints.restore(2, state)
    assert bits(checkpoints.restore(1, state)) == bits(state)
    for text, words in (
        ("[1, 2", ""),
        ('"meta"', "its record was not written by avsal"),
        ('{"meta": {}}', "its record was not written by avsal"),
        ('{"meta": {}, "metrics": 3}', "its record was not written by avsal"),
    ):
        (folder / "1" / "record" / "metadata").write_text(text)
        with pytest.raises(AvsalError, match=f"checkpoint 1 in .* is damaged: {words}"):
            open_checkpoints()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AvsalError, match="cannot write checkpoints to .*: "):
        open_checkpoints(tmp_path / "file" / "below")
    with pytest.raises(AvsalError, match="mode max or min; got 3 and 'most'"):
        open_checkpoints(mode="most")


def test_a_save_that_fails_names_the_last_complete_one(open_checkpoints, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space")

    checkpoints, state = open_checkpoints(), {"x": np.zeros(3)}
    for step in (1, 2):
        checkpoints.save(step, state, {})
    checkpoints.wait()
    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(AvsalError, match="step 3 in .*: No space left .*; the last complete .* is step 2"):
        checkpoints.save(3, state, {})


def test_coroutines_that_a_reader_leaves_do_not_warn():
    """As Orbax leaves those of the other leaves; a warning here is an error."""

    async def leaf():
        pass

    def read():
        waiting = leaf()
        raise ValueError(f"no leaf {waiting.__name__}")

    with (
        pytest.raises(AvsalError, match="a checkpoint is damaged: no leaf leaf; remove it"),
        _damage_of("a checkpoint"),
    ):
        read()
    gc.collect()


def test_leftovers_are_removed_and_never_restored(open_checkpoints, tmp_path):
    folder = tmp_path / "checkpoints"
    first = open_checkpoints()
    first.save(1, {"x": np.ones(3)}, {})
    first.close()
    for name in ("2.orbax-checkpoint-tmp", ".dropped"):
        (folder / name / "state").mkdir(parents=True)
    watcher = open_checkpoints(read_only=True)
    with pytest.raises(ValueError, match="opened with read_only"):
        watcher.save(2, {"x": np.ones(3)}, {})
    assert watcher.latest() == 1 and (folder / "2.orbax-checkpoint-tmp").exists()
    writer = open_checkpoints()
    assert writer.latest() == 1
    writer.save(3, {"x": np.ones(3)}, {})
    writer.wait()
    assert {p.name for p in folder.iterdir()} == {"1", "3"}


def test_saving_returns_before_the_file_is_there(open_checkpoints, tmp_path):
    state = {"x": jnp.asarray(np.random.default_rng(0).random((4, 2_000_000), np.float32))}  # 32 MB of noise
    checkpoints = open_checkpoints()
    expected = np.array(state["x"])
    checkpoints.save(0, state, {})
    checkpoints.wait()
    started = time.perf_counter()
    checkpoints.save(1, state, {})
    returned = time.perf_counter() - started
    early = not (tmp_path / "checkpoints" / "1").exists()
    state = jax.jit(lambda s: {"x": s["x"] * 0}, donate_argnums=0)(state)  # the loop continues
    checkpoints.wait()
    waited = time.perf_counter() - started
    assert early and returned < waited
    back = checkpoints.restore(1, abstract(state))
    assert np.array_equal(back["x"], expected)
