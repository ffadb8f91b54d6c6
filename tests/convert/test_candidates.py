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


def chosen(*groups, others=(), key=None):
    tensors = tuple(one for group in groups for one in group)
    return choose(Content(tensors, tuple(others)), MARKS, key)


ADAM = [tensor("optimizer.state.0.", "exp_avg"), tensor("optimizer.state.0.", "exp_avg_sq")]
PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "network.", "student."]
PREFIXES += ["module.module.", "_orig_mod.module.", "module._orig_mod.", "model.module._orig_mod.net."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_removed_and_told(prefix):
    found = chosen(state(prefix=prefix))
    assert tuple(found.tensors) == NAMES
    assert found.notes == (f"prefix {prefix} removed from 3 names",)


FOLDERS = ["state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema", "module"]
FOLDERS += ["state.model", "checkpoint.model.state_dict", "0"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_dictionary_is_opened_and_told(folder):
    found = chosen(state(f"{folder}.", value=3.0), ADAM, others=[("", "epoch"), ("optimizer.", "lr")])
    assert tuple(found.tensors) == NAMES and found.notes == (f"read from {folder}",)
    assert np.asarray(found.tensors["base.0.bias"]).tolist() == [3, 3]
    both = chosen(state(f"{folder}.", "module."), ADAM)
    assert both.notes == (f"read from {folder}", "prefix module. removed from 3 names")


def test_plain_names_need_no_word():
    assert chosen(state()).notes == ()
    told = chosen(state(), others=[("", "epoch"), ("optimizer.", "lr")]).notes
    assert told == ("ignored, since they are not tensors: epoch",)


def test_wrappers_inside_names_are_removed():
    """torch.compile or DataParallel around parts of a network."""
    inner = [tensor("", "base._orig_mod.0.weight"), tensor("", "base._orig_mod.0.bias")]
    found = chosen(inner, [tensor("", "decoder.module.last.weight")])
    assert tuple(found.tensors) == NAMES
    assert found.notes == ("module. and _orig_mod. removed from 3 of 3 names",)


def test_two_that_fit_are_asked_about():
    groups = state("model.", value=1.0), state("ema.", "module.", value=2.0), ADAM
    with pytest.raises(AvsalError, match=r"match: ema \(3 tensors\), model \(3 tensors\); .* --key NAME"):
        chosen(*groups)
    for key in ("ema", "ema.module"):
        found = chosen(*groups, key=key)
        assert np.asarray(found.tensors["base.0.weight"]).tolist() == [2, 2]
    assert np.asarray(chosen(*groups, key="model").tensors["base.0.weight"]).tolist() == [1, 1]
    assert chosen(*groups, key="model").notes == ("read from model",)
    with pytest.raises(
        AvsalError, match=r"no entry 'emma'; its entries, .*model \(3\), ema \(3\), optimizer"
    ):
        chosen(*groups, key="emma")
    with pytest.raises(AvsalError, match=r"match: ema \(3 tensors\), net \(3 tensors\)"):
        chosen(state(prefix="net."), state(prefix="ema."))  # prefixes in one dictionary, as in safetensors
    assert tuple(chosen(state(prefix="net."), state(prefix="ema."), key="ema").tensors) == NAMES


def test_a_prefix_that_only_some_names_have_is_not_removed():
    loss = [tensor("state_dict.", "criterion.weight")]
    with pytest.raises(
        AvsalError,
        match=r"3 names begin with state_dict.model., .* 1 in the same entry do not \(state_dict.crit",
    ):
        chosen(state("state_dict.", "model."), loss)
    epoch = [("", "epoch")]
    found = chosen(state("state_dict.", "model."), loss, others=epoch, key="state_dict.model")
    assert tuple(found.tensors) == NAMES and found.notes == ("read from state_dict.model",)
    mixed = [tensor("", "model.base.0.weight"), tensor("", "base.0.bias"), tensor("", "decoder.last.weight")]
    assert set(chosen(mixed).tensors) == {"model.base.0.weight", "base.0.bias", "decoder.last.weight"}


def test_names_that_would_become_one_stay_apart():
    tensors = [tensor("", "module.a.weight", 1.0), tensor("", "a.weight", 2.0)]
    found = choose(Content(tuple(tensors)), ())
    assert {name: np.asarray(one)[0] for name, one in found.tensors.items()} == {
        "module.a.weight": 1,
        "a.weight": 2,
    }
    with pytest.raises(AvsalError, match="two of its tensors have the same full name"):
        choose(Content((tensor("a.", "weight"), tensor("", "a.weight"))), ())
