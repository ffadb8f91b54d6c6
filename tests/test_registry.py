"""Registration: one table for each kind, filled when it is read, with errors that say who has a name."""

import ast
import subprocess
import sys

import pytest

from avsal_jax import AvsalError, registry
from avsal_jax.metrics import Metric
from avsal_jax.models import Fusion
from avsal_jax.registry import register


@pytest.fixture(autouse=True)
def restored():
    with registry.restored():
        yield


class Untouched(Fusion):
    """Leaves the picture as it is.

    More about it.
    """

    def __call__(self, pyramid, tokens, train=False):
        return pyramid


def test_a_registered_class_is_returned_and_known_by_its_name():
    assert register("fusion", "same")(Untouched) is Untouched
    assert registry.find("fusion", "same") is Untouched
    assert registry.name_of("fusion", Untouched) == "same"
    (entry,) = (entry for entry in registry.entries("fusion") if entry.name == "same")
    assert entry.about == "Leaves the picture as it is."
    assert entry.origin.name == __name__.partition(".")[0]


def test_names_of_the_package_come_first():
    register("fusion", "aaa")(Untouched)
    assert list(registry.table("fusion"))[-1] == "aaa"


def test_the_order_does_not_depend_on_what_was_imported_first():
    code = (
        "import avsal_jax.models.fusion.ravf, avsal_jax.synthetic.generated_set\n"
        "from avsal_jax import registry\n"
        "print([list(registry.table(kind)) for kind in ('fusion', 'dataset')])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    fusions, datasets = ast.literal_eval(process.stdout)
    assert fusions == sorted(fusions) and datasets[-1] == "synthetic" and datasets[0] == "dhf1k"


def test_a_name_that_exists_is_refused_with_its_owner():
    with pytest.raises(AvsalError, match="registers the fusion 'ravf', which avsal_jax has registered"):
        register("fusion", "ravf")(Untouched)
    register("fusion", "same")(Untouched)
    with pytest.raises(AvsalError, match="'same', which tests has registered; choose another name"):
        register("fusion", "same")(Untouched)


@pytest.mark.parametrize("name", ["", "Ravf", "my fusion", "a,b", "a.b", "--x", 3, None])
def test_names_that_no_flag_or_config_could_hold_are_refused(name):
    with pytest.raises(AvsalError, match="cannot be the name of a fusion: use lower-case letters"):
        register("fusion", name)


def test_unknown_kinds_and_names_say_what_exists():
    with pytest.raises(AvsalError, match=r"kind 'fusoin' \(did you mean 'fusion'\?\); kinds are system"):
        register("fusoin", "same")
    with pytest.raises(AvsalError, match=r"neck 'asp' \(did you mean 'aspp'\?\); there are aspp, synergy"):
        registry.find("neck", "asp")


@pytest.mark.parametrize(
    ("kind", "thing"), [("fusion", object), ("neck", print), ("front_end", Untouched), ("metric", Metric)]
)
def test_a_thing_of_another_form_is_refused(kind, thing):
    with pytest.raises(AvsalError, match=f"registers the {kind} 'odd', which must be a "):
        register(kind, "odd")(thing)


def test_what_is_registered_within_restored_is_gone_after_it():
    with registry.restored():
        register("fusion", "same")(Untouched)
    assert "same" not in registry.table("fusion") and "ravf" in registry.table("fusion")


def test_a_table_is_read_only():
    with pytest.raises(TypeError):
        registry.table("fusion")["same"] = Untouched


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_kind_has_things_with_one_line_about_each(kind):
    form = registry.KINDS[kind].base()
    assert registry.entries(kind)
    for entry in registry.entries(kind):
        assert 10 < len(entry.about) < 300, f"{kind} {entry.name}: {entry.about!r}"
        if registry.KINDS[kind].are_classes:
            assert issubclass(entry.thing, form)
        else:
            assert isinstance(entry.thing, form)


def test_importing_the_package_fills_no_table():
    code = (
        "import avsal_jax, sys; avsal_jax.register\n"
        "print([n for n in sys.modules if n.startswith('avsal_jax.models') or n in ('jax', 'numpy')])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert process.stdout.strip() == "[]"
