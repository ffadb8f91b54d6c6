"""Import directions, what an import loads, and the speed of --help."""

import ast
import collections
import importlib
import pathlib
import pkgutil
import subprocess
import sys
import time

import pytest

import avsal_jax

ROOT = pathlib.Path(avsal_jax.__file__).parent
# Lower layers first; a module imports its own layer and the ones before it, and nothing after.
ALLOWED = {
    "errors": set(),
    "contents": set(),
    "kinds": set(),
    "registry": {"errors", "kinds", ""},
    "plugins": {"errors", "registry", ""},
    "spec": {"errors", "registry", "contents", ""},
    "catalogue": {"bundled", "registry", "spec", "errors", ""},
    "types": {"errors", "spec"},
    "bundled": set(),
    "published": {"errors", "registry", ""},
    "plots": set(),
    "pages": {"plots"},
    "identity": set(),
    "files": set(),
    "runtime": {"errors"},
    "pictures": {"ops"},
    "ops": {"errors", "spec", "types", "contents"},
    "media": {"errors", "spec", "identity"},
    "data": {"errors", "spec", "media", "identity", "files", "registry", "contents", ""},
    "synthetic": {"errors", "spec", "media", "data", "files", "registry", "contents", ""},
    "losses": {"ops", "errors", "registry", "spec", ""},
    "metrics": {"ops", "errors", "registry", "contents", ""},
    "models": {"errors", "spec", "types", "ops", "registry", "contents", ""},
    "storage": {"files", "errors", "spec", "types", "ops", "models", "bundled", "registry", ""},
    "convert": {"errors", "spec", "types", "ops", "models", "storage", "registry", "contents", ""},
    "inference": {
        "registry",
        "contents",
        "bundled",
        "errors",
        "spec",
        "types",
        "ops",
        "models",
        "storage",
        "media",
        "data",
        "pages",
        "pictures",
        "plots",
        "identity",
        "",
        "runtime",
        "plugins",
    },
    "evaluation": {
        "errors",
        "spec",
        "types",
        "ops",
        "models",
        "storage",
        "media",
        "data",
        "synthetic",
        "pages",
        "pictures",
        "plots",
        "metrics",
        "published",
        "inference",
        "registry",
        "contents",
        "",
        "identity",
        "files",
        "runtime",
    },
    "training": {
        "bundled",
        "errors",
        "spec",
        "types",
        "ops",
        "models",
        "storage",
        "media",
        "data",
        "synthetic",
        "pages",
        "pictures",
        "metrics",
        "losses",
        "published",
        "registry",
        "contents",
        "plugins",
        "identity",
        "files",
        "",
        "runtime",
    },
    "cli": {
        "registry",
        "bundled",
        "errors",
        "spec",
        "types",
        "models",
        "storage",
        "convert",
        "inference",
        "evaluation",
        "media",
        "data",
        "",
        "runtime",
        "training",
        "plugins",
        "catalogue",
    },
    "testing": None,
    "": {"errors", "contents"},
}
ONLY_IN = {
    "torch": {"convert/reader.py"},
    "orbax": {"training/checkpointing.py"},
    "librosa": {"spec/log_mel.py"},
    "soxr": {"media/clip_sound.py"},
    "ml_collections": {"training/recipes.py"},
    "tensorflow": {"data/prepared/pipeline.py"},
    "tensorflow_datasets": {"data/prepared/shards.py"},
    "array_record": {"data/prepared/shards.py"},
    "jax": None,
}


def imports(path):
    """Yields the dotted modules that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path):
    relative = path.relative_to(ROOT)
    part = (
        relative.parts[0].removesuffix(".py")
        if relative.name != "__init__.py" or len(relative.parts) > 1
        else ""
    )
    assert part in ALLOWED, f"{part} has no place in the table"
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "avsal_jax" and ALLOWED[part] is not None:
            internal = rest and ((ROOT / rest[0]).is_dir() or (ROOT / f"{rest[0]}.py").exists())
            other = rest[0] if internal else ""
            assert other == part or other in ALLOWED[part], f"{relative} imports {name}"
        if top in ONLY_IN and ONLY_IN[top] is not None:
            assert str(relative) in ONLY_IN[top], f"{relative} imports {top}"
        if part in ("data", "media", "spec", "synthetic"):
            assert top not in {"jax", "flax"}, f"{relative} imports {top}: code of {part} works without jax"


def test_files_are_short_and_say_what_they_hold():
    for path in FILES:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
        if path.parent.name == "cli" and path.name != "flags.py":  # flags.py is not a command
            assert len(text.splitlines()) <= 80, path


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )


def test_importing_is_light():
    heavy = "{'tensorflow', 'torch', 'librosa', 'jax', 'orbax', 'ml_collections', 'matplotlib'}"
    assert run(f"import avsal_jax, sys; print({heavy} & set(sys.modules))").stdout.strip() == "set()"


def test_predicting_needs_neither_tensorflow_nor_torch_nor_orbax_nor_matplotlib():
    code = (
        "import sys\n"
        "heavy = 'tensorflow torch orbax orbax.checkpoint librosa ml_collections matplotlib'\n"
        "for name in heavy.split():\n"
        "    sys.modules[name] = None\n"
        "import avsal_jax.inference.predict, avsal_jax.inference.report_page, avsal_jax.cli.main, avsal_jax\n"
        "avsal_jax.load_model\n"
    )
    run(code)


def test_public_names_are_there():
    for name in avsal_jax.__all__:
        assert getattr(avsal_jax, name) is not None
    assert set(avsal_jax.__all__) <= set(dir(avsal_jax))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = avsal_jax.nothing
    for package in pkgutil.walk_packages(avsal_jax.__path__, "avsal_jax."):
        if package.ispkg:
            contents = importlib.import_module(package.name)
            for name in getattr(contents, "__all__", ()):
                assert getattr(contents, name) is not None


# Modules of one name, where both are about the same thing.
SAME_THING = {
    **dict.fromkeys(
        ("compare", "convert", "evaluate", "predict", "prepare", "train"), "the command and its work"
    ),
    **dict.fromkeys(("s3d", "soundnet", "vggish", "vinet"), "the part and its published weights"),
    **dict.fromkeys(("attention", "predictive_coding"), "the operation and the fusion that uses it"),
    **dict.fromkeys(("features", "maps"), "the values and the output that stores them"),
    **dict.fromkeys(("pipeline", "sampling"), "the module and its import path of the last version"),
    "settings": "of a prediction, and of the generated set",
    "videos": "prepared ones, and those that tests write",
}


def test_a_module_name_means_one_thing():
    paths = [path for path in FILES if path.name != "__init__.py"]
    counts = collections.Counter(path.stem for path in paths)
    assert {name for name, count in counts.items() if count > 1} == set(SAME_THING)
    assert not {path.name for path in paths} & {"utils.py", "helpers.py", "misc.py", "common.py"}


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("data.pipeline", "clip_batches", "data.prepared.pipeline"),
        ("data.sampling", "Sampling", "data.prepared.sampling"),
        ("data.sources", "PreparedSources", "data.prepared.selection"),
        ("data.synthetic", "write_synthetic", "synthetic"),
    ],
)
def test_import_paths_of_the_last_version_work_with_a_warning(old, name, new):
    with pytest.warns(FutureWarning, match=f"avsal_jax.{old} has moved to avsal_jax.{new}"):
        moved = getattr(importlib.import_module(f"avsal_jax.{old}"), name)
    assert moved is getattr(importlib.import_module(f"avsal_jax.{new}"), name)


def test_help_takes_under_a_second():
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-m", "avsal_jax.cli.main", "--help"], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - started)
        assert "predict" in process.stdout and "convert" in process.stdout
    assert min(seconds) < 1


def test_doctor_lists_the_devices(capsys):
    from avsal_jax.cli.main import main

    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "jax 0." in text and "devices: 2 cpu" in text and "no accelerator in use: JAX_PLATFORMS" in text


def test_doctor_lists_the_data_sets_of_a_root(tmp_path, capsys):
    from avsal_jax.cli.main import main
    from avsal_jax.testing import fake_data

    videos = fake_data.fake_videos()
    fake_data.write_stavis(tmp_path, "DIEM", videos, {"test": tuple(v.name for v in videos)})
    assert main(["doctor", "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "diem: 3 test videos, third_40x48: " in text and "  dhf1k: " in text
    assert main(["doctor", "--root", str(tmp_path / "none")]) == 2


def test_wrong_flags_exit_with_2(capsys):
    from avsal_jax.cli.main import main

    for arguments in (["predict"], ["predict", "x", "--output", "y", "--shard", "3"], ["nonsense"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "'3' is not I/N" in capsys.readouterr().err


def test_a_name_that_is_not_registered_exits_with_2(capsys):
    from avsal_jax.cli.main import main

    assert main(["predict", "x.mp4", "--output", "y", "--save", "maps,ovelay"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown output 'ovelay' (did you mean 'overlay'?); there are " in line
    assert main(["predict", "x.mp4", "--output", "y", "--save", ","]) == 2
    assert "there is no output to save; choose from " in capsys.readouterr().err
