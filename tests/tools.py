"""Imports the scripts in `tools`, which are not part of a package."""

import importlib
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parents[1] / "tools"


def load_tool(name: str):
    """Returns the module `tools/NAME.py`; it may import others of the folder."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
