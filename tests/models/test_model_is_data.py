"""A model is nested data, and no code outside its package asks which class a part is."""

import ast
import pathlib
import re

import pytest

import avsal_jax
from avsal_jax import registry
from avsal_jax.models.slots import PART_KINDS

ROOT = pathlib.Path(avsal_jax.__file__).parents[1]
# Two settings of a model joined by a comma, as `fusion=ravf,fusion.heads=8`.
SETTINGS = "visual_encoder|neck|audio_encoder|fusion|regulator|heads|decoder|frames|height|width|audio"
JOINED = re.compile(rf"\b(?:{SETTINGS})(?:\.[a-z_.]+)?=[^\s,=\"'`()]+,\s?(?:{SETTINGS})(?:\.[a-z_.]+)?=[^=]")


def texts():
    for folder in ("avsal_jax", "configs", "tools", "docs", "checkpoints"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".json"))
    yield ROOT / "README.md"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ('"fusion=ravf,fusion.heads=8"', True),
        ("frames=8,height=64,width=96", True),
        ('model.set="decoder=sal, neck.width=0.5"', True),
        ("resolve(system, frames=16, height=64)", False),
        ("--config.model.fusion=ravf --config.model.frames=16", False),
    ],
)
def test_a_model_in_a_text_would_be_noticed(text, is_one):
    assert bool(JOINED.search(_without_calls(text))) == is_one


def test_no_text_describes_a_model():
    """Docstrings of what earlier versions wrote are in `earlier_configs`, which reads it."""
    allowed = {ROOT / "avsal_jax" / "training" / "earlier_configs.py"}
    for path in texts():
        text = path.read_text(encoding="utf-8")
        python_code = re.compile(r"```python.*?```", re.DOTALL)
        for string in _strings(text) if path.suffix == ".py" else [python_code.sub("", text)]:
            assert path in allowed or not JOINED.findall(_without_calls(string)), path


def _strings(code: str) -> list[str]:
    nodes = ast.walk(ast.parse(code))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _without_calls(text: str) -> str:
    """Keyword arguments of calls have the same form: `update(frames=8, height=64)`."""
    return re.sub(r"\w\([^()]*\)", "()", text)


def test_parts_are_not_asked_for_their_class():
    names = {cls.__name__ for kind in PART_KINDS for cls in registry.table(kind).values()} | {
        "Part",
        "Fusion",
    }
    for path in (ROOT / "avsal_jax").rglob("*.py"):
        if (ROOT / "avsal_jax" / "models") in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
                classes = set(re.findall(r"\w+", ast.unparse(node.args[1])))
                assert not classes & names, f"{path}:{node.lineno}"
