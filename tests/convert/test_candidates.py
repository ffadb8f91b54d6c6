"""Where in a file the system's tensors are: dictionaries in dictionaries, prefixes, several that fit."""

import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.convert.candidates import Content, StoredTensor, choose

MARKS = ("decoder.last.weight",)
NAMES = ("base.0.weight", "base.0.bias", "decoder.last.weight")


def tensor(folder, name, value=0.0):
    return StoredTensor(folder, name, (2,), "float32", lambda: np.full(2, value, np.float32))


def state(folder="", prefix="", value=0.0):
    return [tensor(folder, prefix + name, value) for name in NAMES]


def choose_from(*groups, entries=(), key=None):
    tensors = tuple(item for group in groups for item in group)
    return choose(Content(tensors, tuple(entries)), MARKS, key)


ADAM = [tensor("optimizer.state.0.", "exp_avg"), tensor("optimizer.state.0.", "exp_avg_sq")]
PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "network.", "student."]
PREFIXES += ["module.module.", "_orig_mod.module.", "module._orig_mod.", "model.module._orig_mod.net."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_removed_and_noted(prefix):
    result = choose_from(state(prefix=prefix))
    assert tuple(result.tensors) == NAMES
    assert result.notes == (f"prefix {prefix} removed from 3 names",)


FOLDERS = ["state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema", "module"]
FOLDERS += ["state.model", "checkpoint.model.state_dict", "0"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_dictionary_is_opened_and_noted(folder):
    result = choose_from(state(f"{folder}.", value=3.0), ADAM, entries=[("", "epoch"), ("optimizer.", "lr")])
    assert tuple(result.tensors) == NAMES and result.notes == (f"read from {folder}",)
    assert np.asarray(result.tensors["base.0.bias"]).tolist() == [3, 3]
    nested = choose_from(state(f"{folder}.", "module."), ADAM)
    assert nested.notes == (f"read from {folder}", "prefix module. removed from 3 names")


def test_plain_names_need_no_note():
    assert choose_from(state()).notes == ()
    notes = choose_from(state(), entries=[("", "epoch"), ("optimizer.", "lr")]).notes
    assert notes == ("ignored, since they are not tensors: epoch",)


def test_wrappers_inside_names_are_removed():
    """torch.compile or DataParallel around parts of a network."""
    inner = [tensor("", "base._orig_mod.0.weight"), tensor("", "base._orig_mod.0.bias")]
    result = choose_from(inner, [tensor("", "decoder.module.last.weight")])
    assert tuple(result.tensors) == NAMES
    assert result.notes == ("module. and _orig_mod. removed from 3 of 3 names",)


def test_two_that_fit_are_asked_about():
    groups = state("model.", value=1.0), state("ema.", "module.", value=2.0), ADAM
    with pytest.raises(AvsalError, match=r"match: ema \(3 tensors\), model \(3 tensors\); .* --key NAME"):
        choose_from(*groups)
    for key in ("ema", "ema.module"):
        result = choose_from(*groups, key=key)
        assert np.asarray(result.tensors["base.0.weight"]).tolist() == [2, 2]
    assert np.asarray(choose_from(*groups, key="model").tensors["base.0.weight"]).tolist() == [1, 1]
    assert choose_from(*groups, key="model").notes == ("read from model",)
    with pytest.raises(
        AvsalError, match=r"no entry 'emma'; its entries, .*model \(3\), ema \(3\), optimizer"
    ):
        choose_from(*groups, key="emma")
    with pytest.raises(AvsalError, match=r"match: ema \(3 tensors\), net \(3 tensors\)"):
        # Prefixes in one dictionary, as in safetensors.
        choose_from(state(prefix="net."), state(prefix="ema."))
    assert tuple(choose_from(state(prefix="net."), state(prefix="ema."), key="ema").tensors) == NAMES


def test_a_prefix_that_only_some_names_have_is_not_removed():
    loss = [tensor("state_dict.", "criterion.weight")]
    with pytest.raises(
        AvsalError,
        match=r"3 names begin with state_dict.model., .* 1 in the same entry do not \(state_dict.crit",
    ):
        choose_from(state("state_dict.", "model."), loss)
    epoch = [("", "epoch")]
    result = choose_from(state("state_dict.", "model."), loss, entries=epoch, key="state_dict.model")
    assert tuple(result.tensors) == NAMES and result.notes == ("read from state_dict.model",)
    mixed = [tensor("", "model.base.0.weight"), tensor("", "base.0.bias"), tensor("", "decoder.last.weight")]
    assert set(choose_from(mixed).tensors) == {"model.base.0.weight", "base.0.bias", "decoder.last.weight"}


def test_a_prefix_is_kept_where_names_would_collide():
    tensors = [tensor("", "module.a.weight", 1.0), tensor("", "a.weight", 2.0)]
    result = choose(Content(tuple(tensors)), ())
    assert {name: np.asarray(value)[0] for name, value in result.tensors.items()} == {
        "module.a.weight": 1,
        "a.weight": 2,
    }
    with pytest.raises(AvsalError, match="two of its tensors have the same full name"):
        choose(Content((tensor("a.", "weight"), tensor("", "a.weight"))), ())
