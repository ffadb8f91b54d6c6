"""Measures the distance from tests to a module, by name and by the number of imports between them."""

from __future__ import annotations

import ast
import pathlib

FAR = 99


class Imports:
    """The imports of the package and its tests, parsed from their source without importing it.

    Args:
      root: the root of the checkout.
    """

    def __init__(self, root: pathlib.Path):
        paths = [*(root / "avsal_jax").rglob("*.py"), *(root / "tests").rglob("*.py")]
        self._names = {str(path.relative_to(root)): _dotted(path.relative_to(root)) for path in paths}
        self._imports = {name: _imported(root / path) for path, name in self._names.items()}

    def distances(self, module: str, tests: set[str]) -> dict[str, int]:
        """Returns the number of imports from each test file to a module.

        0 means that the test is named after the module, 1 that it imports the module directly, and `FAR` that
        no chain of imports leads to the module.
        """
        target = self._names[module]
        importers = {
            importer: {name for name in names if name in self._imports}
            for importer, names in self._imports.items()
        }
        steps, reached = {target: 0}, {target}
        for step in range(1, FAR):
            reached = {
                name
                for name, imports in importers.items()
                if name not in steps and not reached.isdisjoint(imports)
            }
            steps |= dict.fromkeys(reached, step)
        namesakes = self.namesakes(module, tests)
        return {test: 0 if test in namesakes else steps.get(self._names[test], FAR) for test in tests}

    def namesakes(self, module: str, tests: set[str]) -> set[str]:
        """Returns the tests that are named after a module, such as `test_audio_long.py` for `audio.py`."""
        start = f"test_{pathlib.Path(module).stem}"
        return {test for test in tests if pathlib.Path(test).stem.startswith(start)}

    def nearest(self, module: str, tests: set[str]) -> set[str]:
        """Returns the tests at distance 0 or 1 from a module, or otherwise those at the smallest distance."""
        distances = self.distances(module, tests)
        least = max(1, min(distances.values(), default=FAR))
        return {test for test, distance in distances.items() if distance <= least}


def _dotted(path: pathlib.Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _imported(path: pathlib.Path) -> set[str]:
    """Returns the dotted names that a file may import, also inside functions.

    `from a import b` counts as both `a` and `a.b`, since `b` may be a module.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
