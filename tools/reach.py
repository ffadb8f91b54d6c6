"""How near tests are to a module: by name, or by how many imports lie between them."""

from __future__ import annotations

import ast
import pathlib

FAR = 99


class Imports:
    """The imports of the package and its tests, read from their text.

    Args:
      root: the checkout.
    """

    def __init__(self, root: pathlib.Path):
        paths = [*(root / "avsal_jax").rglob("*.py"), *(root / "tests").rglob("*.py")]
        self._names = {str(path.relative_to(root)): _dotted(path.relative_to(root)) for path in paths}
        self._imports = {name: _imported(root / path) for path, name in self._names.items()}

    def distances(self, module: str, tests: set[str]) -> dict[str, int]:
        """Returns the steps from each test file to a module: 0 by name, 1 where it imports it, ... `FAR`."""
        target = self._names[module]
        importers = {
            name: {one for one in found if one in self._imports} for name, found in self._imports.items()
        }
        steps, reached = {target: 0}, {target}
        for step in range(1, FAR):
            reached = {
                name
                for name, found in importers.items()
                if name not in steps and not reached.isdisjoint(found)
            }
            steps |= dict.fromkeys(reached, step)
        named = self.named(module, tests)
        return {test: 0 if test in named else steps.get(self._names[test], FAR) for test in tests}

    def named(self, module: str, tests: set[str]) -> set[str]:
        """Returns the tests that are named after a module: `test_audio_long.py` of `audio.py`."""
        start = f"test_{pathlib.Path(module).stem}"
        return {test for test in tests if pathlib.Path(test).stem.startswith(start)}

    def nearest(self, module: str, tests: set[str]) -> set[str]:
        """Returns the tests that are named after the module or import it; without such, the nearest."""
        distances = self.distances(module, tests)
        least = max(1, min(distances.values(), default=FAR))
        return {test for test, distance in distances.items() if distance <= least}


def _dotted(path: pathlib.Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _imported(path: pathlib.Path) -> set[str]:
    """Returns all dotted names that a file may import, at any depth: `a.b` and `a` of `from a import b`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
