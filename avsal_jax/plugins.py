"""Plugins: files and modules of users that register parts, metrics, data sets, and so on.

A plugin is code, and runs with all rights of the process: name only what you trust. A model directory or a
data set never loads one; it says which plugin it needs, and the user names that.

  AVSAL_API = "1.0"                                  # the version of this interface that it was written for
  from avsal_jax import register
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence

from avsal_jax import registry
from avsal_jax.errors import AvsalError, failing_lines
from avsal_jax.registry import Origin

API = "1.0"  # a plugin of another major number is refused
API_NAME = "AVSAL_API"
GROUP = "avsal_jax.plugins"  # of entry points; each is called KIND.NAME, and its value is a module
VARIABLE = "AVSAL_PLUGINS"  # plugins of this process and its children, joined as PATH is


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A plugin that is loaded.

    Attributes:
      source: the file (absolute), or the module, as a child process can load it.
      origin: its name, version and modules.
    """

    source: str
    origin: Origin


_loaded: dict[str, Plugin] = {}


def load_plugins(sources: Sequence[str], folder: pathlib.Path | None = None) -> tuple[Plugin, ...]:
    """Loads plugins, each once in a process; child processes load them too.

    Args:
      sources: `.py` files, or modules that can be imported.
      folder: where relative files are sought after the working directory.

    Returns:
      The plugins, in the order of `sources`.

    Raises:
      AvsalError: a plugin is missing, does not say which API version it is for or was written for another
        one, fails, or registers a name that exists. What it registered is taken away again.
    """
    plugins = tuple(_load(str(source), folder) for source in dict.fromkeys(sources))
    all_sources = dict.fromkeys([*_environment(), *(plugin.source for plugin in plugins)])
    if all_sources:
        os.environ[VARIABLE] = os.pathsep.join(all_sources)
    return plugins


def load_environment() -> None:
    """Loads the plugins that the environment variable AVSAL_PLUGINS names."""
    for source in _environment():
        _load(source, None)


def loaded() -> tuple[Plugin, ...]:
    """Returns the plugins of this process."""
    return tuple(_loaded.values())


def _environment() -> list[str]:
    return [source for source in os.environ.get(VARIABLE, "").split(os.pathsep) if source]


def _load(source: str, folder: pathlib.Path | None) -> Plugin:
    is_file = source.endswith(".py") or "/" in source or os.sep in source
    path = _file(source, folder) if is_file else _module_file(source)
    key = str(path) if is_file else source
    if key in _loaded:
        return _loaded[key]
    name = _module_name(path) if is_file else source
    _check_api(_constant(path, API_NAME), source)
    version = str(_constant(path, "__version__") or "") if is_file else _installed_version(source)
    origin = Origin(path.stem if is_file else source, version, (name.partition(".")[0],))
    try:
        with registry.undone_on_error():
            registry.add_origin(origin)
            if is_file:
                _run_file(name, path)
            else:
                importlib.import_module(source)
    except AvsalError as error:
        raise AvsalError(f"plugin {source}: {error}") from error
    except (Exception, SystemExit) as error:
        lines = failing_lines(error, path)
        place = f"line {lines[-1]}: " if lines else ""
        raise AvsalError(f"plugin {source} fails: {place}{type(error).__name__}: {error}") from error
    plugin = _loaded[key] = Plugin(key, origin)
    return plugin


def _file(source: str, folder: pathlib.Path | None) -> pathlib.Path:
    path = pathlib.Path(source).expanduser()
    candidates = [path, *([folder / path] if folder is not None else [])]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    problem = "a folder" if path.is_dir() else "not a file"
    raise AvsalError(f"plugin {source} is {problem}; name a .py file, or a module that can be imported")


def _module_name(path: pathlib.Path) -> str:
    """Of a file: `avsal_plugin_STEM`, with a number where another file has this name."""
    stem = "avsal_plugin_" + re.sub(r"\W", "_", path.stem)
    used = {name for plugin in loaded() for name in plugin.origin.modules}
    return next(name for n in range(1000) if (name := f"{stem}_{n}" if n else stem) not in used)


def _module_file(name: str) -> pathlib.Path:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise AvsalError(
            f"plugin {name} is not installed: there is no module of that name; install it, or name a .py file"
        )
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise AvsalError(f"plugin {name} is a module without Python source; name one with AVSAL_API in it")
    return pathlib.Path(spec.origin)


def _installed_version(module: str) -> str:
    packages = importlib.metadata.packages_distributions().get(module.partition(".")[0], ())
    return importlib.metadata.version(packages[0]) if packages else ""


def _constant(path: pathlib.Path, name: str):
    """Returns the constant that a file assigns to a name, read without running the file; or None."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise AvsalError(f"plugin {path} is not Python: {line}{error.args[0]}") from error
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value.value if isinstance(node.value, ast.Constant) else None
    return None


def _check_api(version, source: str) -> None:
    major = str(version).partition(".")[0]
    if version is None or not major.isdecimal():
        raise AvsalError(
            f"plugin {source} does not say which API version it was written for; add the line "
            f'{API_NAME} = "{API}"'
        )
    if major != API.partition(".")[0]:
        raise AvsalError(
            f"plugin {source} was written for the API version {version}, and this is {API}: take a version "
            "of the plugin for this API, or another avsal_jax"
        )


def _run_file(name: str, path: pathlib.Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def entry_points() -> list[importlib.metadata.EntryPoint]:
    """Returns the installed entry points of the group; nothing is imported."""
    return sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name)


def load_installed(kind: str, name: str) -> None:
    """Loads the installed plugin whose entry point is called `KIND.NAME`, if there is such a plugin."""
    for point in entry_points():
        if point.name == f"{kind}.{name}":
            load_plugins([point.module])


def load_all_installed() -> list[str]:
    """Loads every installed plugin; returns a line for each that failed."""
    failed = []
    for module in dict.fromkeys(point.module for point in entry_points()):
        try:
            load_plugins([module])
        except AvsalError as error:
            failed.append(str(error))
    return failed


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Takes away what plugins that are loaded within it registered; for tests."""
    before, variable = dict(_loaded), os.environ.get(VARIABLE)
    try:
        with registry.restored():
            yield
    finally:
        for plugin in set(_loaded.values()) - set(before.values()):
            for name in plugin.origin.modules:
                sys.modules.pop(name, None)
        _loaded.clear()
        _loaded.update(before)
        os.environ.pop(VARIABLE, None)
        if variable is not None:
            os.environ[VARIABLE] = variable
