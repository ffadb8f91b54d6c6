"""Names of registered things are in their own modules alone: whoever needs them reads the table."""

import ast
import functools
import pathlib
import sys

import pytest

import avsal_jax
from avsal_jax import registry

ROOT = pathlib.Path(avsal_jax.__file__).parent
KINDS = ("metric", "output", "objective", "dataset", "optimizer")
# (kind, name, file): why the text is something else than the name of that thing, or must be there.
ALLOWED: dict[tuple[str, str, str], str] = {
    **{
        ("metric", name, "metrics/__init__.py"): "the function that computes it, in the table of contents"
        for name in ("cc", "sim", "nss", "kl", "auc_judd", "auc_shuffled", "auc_borji", "information_gain")
    },
    **{
        ("metric", name, "losses.py"): "the training loss of that name" for name in ("cc", "sim", "nss", "kl")
    },
    ("dataset", "dhf1k", "data/sets/packagings/split_folders.py"): "the packaging of that name",
    ("dataset", "dhf1k", "evaluation/protocols.py"): "the protocol of that name",
    ("metric", "cc", "training/recipes.py"): "the recipes `smoke` and `mini` choose it, as users do",
    ("output", "features", "convert/convert.py"): "an argument of Network.run",
    ("output", "features", "data/prepared/feature_cache.py"): "a folder of prepared data",
    ("output", "features", "inference/output.py"): "what an output can need",
    ("output", "features", "inference/predictor.py"): "an argument of Network.run",
    ("output", "features", "inference/report_page.py"): "a field of the settings",
    ("output", "maps", "cli/running.py"): "the number of maps in a summary, and a word",
    ("output", "maps", "data/truth/grey_maps.py"): "the array of any npz with maps",
    ("output", "maps", "data/sets/packagings/split_folders.py"): "folders of published data sets",
    ("output", "maps", "data/sets/packagings/stavis.py"): "folders of published data sets",
    ("output", "maps", "synthetic/layout.py"): "a folder of that data set",
    ("output", "maps", "evaluation/saved_maps.py"): "a folder of maps, by whatever program",
    ("output", "maps", "inference/features.py"): "the number of maps in a summary",
    ("output", "maps", "inference/predict.py"): "the number of maps in a summary",
    ("output", "maps", "inference/report_page.py"): "the number of maps in a summary, and a word",
    ("output", "maps", "inference/stills.py"): "the number of maps in a summary",
    ("output", "maps", "metrics/resizing.py"): "the name of an argument",
    ("output", "overlay", "inference/report_page.py"): "the heading of a column of pictures",
    ("output", "report", "cli/prepare.py"): "the report of preparing a data set",
    ("output", "report", "data/prepared/prepare.py"): "the report of preparing a data set",
}


@functools.cache
def constants() -> dict[str, list[tuple[str, int]]]:
    """Returns {text: (file, line)} of all string constants of the package."""
    texts: dict[str, list[tuple[str, int]]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.setdefault(node.value, []).append((path.relative_to(ROOT).as_posix(), node.lineno))
    return texts


def file_of(entry) -> str:
    return pathlib.Path(sys.modules[entry.module].__file__).relative_to(ROOT).as_posix()


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_stands_in_its_own_module_alone(kind):
    places = [
        f"{file}:{line} {entry.name!r}"
        for entry in registry.entries(kind)
        if entry.origin == registry.PACKAGE
        for file, line in constants().get(entry.name, ())
        if file != file_of(entry) and not file.startswith("testing/")
        if (kind, entry.name, file) not in ALLOWED
    ]
    assert not places, "\n".join(places)


def test_every_exception_is_needed():
    for _, name, file in ALLOWED:
        assert file in {place for place, _ in constants().get(name, ())}, (name, file)
