"""Plugins: files and modules that users name; they load once, completely or not at all."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

import avsal_jax
from avsal_jax import AvsalError, plugins, registry
from avsal_jax.cli.main import main
from avsal_jax.models import build, init_variables, resolve
from avsal_jax.plugins import load_plugins
from avsal_jax.storage import read_model, write_model

FUSION = '''"""A fusion of another kind."""

AVSAL_API = "1.0"
__version__ = "0.3"

from avsal_jax import register
from avsal_jax.models import Fusion


@register("fusion", "same")
class Same(Fusion):
    """Leaves the picture as it is."""

    def __call__(self, pyramid, tokens, train=False):
        return pyramid
'''
SMALL = {
    "frames": 8,
    "height": 64,
    "width": 96,
    "audio.samples": 4574,
    "audio_encoder.width": 1 / 32,
    "visual_encoder": {"name": "small", "width": 1 / 16},
    "heads.saliency": {"name": "small"},
}


@pytest.fixture(autouse=True)
def isolated():
    with plugins.isolated():
        yield


@pytest.fixture
def fusion(tmp_path):
    path = tmp_path / "my_fusion.py"
    path.write_text(FUSION)
    return path


@pytest.fixture
def model(tmp_path, fusion):
    """A model directory whose fusion is a plugin's, and only now registered."""
    with plugins.isolated():
        load_plugins([str(fusion)])
        preset = resolve("avinet", {**SMALL, "fusion": "same"})
        return write_model(tmp_path / "model", preset, init_variables(build(preset), 0))


@pytest.fixture
def installed(fusion, monkeypatch):
    """Entry points of two packages, one of which cannot be imported."""
    monkeypatch.syspath_prepend(fusion.parent)
    names = {"fusion.same": "my_fusion", "metric.absent": "not_there"}
    points = [types.SimpleNamespace(name=name, module=module) for name, module in names.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)


def run(code, **options):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_a_file_registers_under_its_name_and_version(fusion):
    (plugin,) = load_plugins([str(fusion)])
    assert str(plugin.origin) == "my_fusion 0.3"
    assert registry.origin_of("fusion", "same") == plugin.origin
    assert load_plugins([str(fusion)]) == (plugin,)  # once


def test_a_module_registers_under_its_name(fusion, monkeypatch):
    monkeypatch.syspath_prepend(fusion.parent)
    load_plugins(["my_fusion"])
    assert registry.origin_of("fusion", "same").name == "my_fusion"


def test_a_relative_file_may_be_in_a_folder_that_is_named(fusion, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    load_plugins(["my_fusion.py"], fusion.parent)
    assert registry.is_registered("fusion", "same")


API = 'AVSAL_API = "1.0"'
IMPORT = "from avsal_jax.models import Fusion"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (API, "", 'which API version it was written for; add the line AVSAL_API = "1.0"'),
        (API, 'AVSAL_API = "2.3"', r"was written for the API version 2\.3, and this is 1\.0"),
        (API, "AVSAL_API = 0", r"was written for the API version 0, and this is 1\.0"),
        ("return pyramid", "return (", "is not Python: line"),
        (IMPORT, "import not_there", "line 7: ModuleNotFoundError: No module"),
        (IMPORT, "raise SystemExit(3)", "line 7: SystemExit: 3"),
        ('"same"', '"ravf"', "'ravf', which avsal_jax has registered"),
    ],
)
def test_a_plugin_that_does_not_fit_is_one_line(fusion, before, after, message):
    assert before in FUSION
    fusion.write_text(FUSION.replace(before, after))
    with pytest.raises(AvsalError, match=message) as error:
        load_plugins([str(fusion)])
    assert "my_fusion.py" in str(error.value) and "\n" not in str(error.value)


def test_a_later_minor_version_of_the_api_fits(fusion):
    fusion.write_text(FUSION.replace(API, 'AVSAL_API = "1.7"'))
    load_plugins([str(fusion)])


def test_the_api_version_is_read_before_any_code_runs(tmp_path):
    path, mark = tmp_path / "later.py", tmp_path / "ran"
    path.write_text(f'import pathlib\npathlib.Path({str(mark)!r}).touch()\nAVSAL_API = "9.0"\n')
    with pytest.raises(AvsalError, match=r"API version 9\.0"):
        load_plugins([str(path)])
    assert not mark.exists()


def test_a_plugin_that_fails_halfway_leaves_nothing(fusion):
    fusion.write_text(FUSION + "\n1 / 0\n")
    with pytest.raises(AvsalError, match="line 17: ZeroDivisionError"):
        load_plugins([str(fusion)])
    assert not registry.is_registered("fusion", "same") and not plugins.loaded()
    fusion.write_text(FUSION)
    load_plugins([str(fusion)])
    assert registry.is_registered("fusion", "same")


def test_two_files_of_one_name_are_two_plugins(fusion, tmp_path):
    (tmp_path / "second").mkdir()
    second = tmp_path / "second" / "my_fusion.py"
    second.write_text(FUSION.replace('"same"', '"equal"'))
    load_plugins([str(fusion), str(second)])
    assert {"same", "equal"} <= set(registry.table("fusion"))


@pytest.mark.parametrize("source", ["nothing.py", "not.there", "folder/"])
def test_a_missing_plugin_says_what_can_be_named(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(AvsalError, match=r"name a \.py file"):
        load_plugins([source])


def test_children_load_the_plugins_of_their_parent(fusion):
    load_plugins([str(fusion)])
    process = run("from avsal_jax import registry; print(registry.find('fusion', 'same').__doc__)")
    assert process.stdout.strip() == "Leaves the picture as it is.", process.stderr


def test_every_command_takes_plugins(fusion, capsys):
    assert main(["list", "fusion", "--plugin", str(fusion)]) == 0
    assert "same  (my_fusion 0.3)\n  Leaves the picture as it is." in capsys.readouterr().out
    assert main(["doctor", "--plugin", "nothing.py"]) == 2
    assert "plugin nothing.py is not a file" in capsys.readouterr().err


def test_a_broken_plugin_of_the_environment_is_one_line_for_every_command(fusion, monkeypatch, capsys):
    fusion.write_text("1 / 0")
    monkeypatch.setenv(plugins.VARIABLE, str(fusion))
    code = "import sys; from avsal_jax.cli.main import main; sys.exit(main(['predict', '--help']))"
    process = run(code)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1 and "add the line AVSAL_API" in process.stderr


def test_a_model_names_the_plugin_that_it_needs_and_never_loads_it(model, fusion):
    card = json.loads((model / "model.json").read_text())
    assert card["plugins"] == [{"name": "my_fusion", "version": "0.3", "registers": ["fusion same"]}]
    assert plugins.VARIABLE not in os.environ
    process = run(f"import avsal_jax; avsal_jax.load_model({str(model)!r})", cwd=fusion.parent)
    last = process.stderr.strip().splitlines()[-1]
    assert "needs the plugin my_fusion 0.3, which registers fusion 'same': if you trust its code" in last


def test_a_model_is_loaded_with_the_plugin_that_is_named(model, fusion):
    loaded = avsal_jax.load_model(model, plugins=[str(fusion)])
    frames = np.zeros((1, 8, 64, 96, 3), np.uint8)
    assert loaded(avsal_jax.Clip(frames)).saliency.shape == (1, 64, 96)


@pytest.mark.parametrize("rows", ["same", [1], [{"registers": 3}], []])
def test_rows_of_another_form_about_plugins_are_ignored(model, fusion, rows):
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(card | {"plugins": rows}))
    with pytest.raises(AvsalError, match="unknown fusion 'same'"):
        read_model(model)
    load_plugins([str(fusion)])
    read_model(model)


def test_a_name_of_a_plugin_that_is_no_name_is_not_printed(model):
    card = json.loads((model / "model.json").read_text())
    card["plugins"][0]["name"] = "x; rm -r ."
    (model / "model.json").write_text(json.dumps(card))
    with pytest.raises(AvsalError, match=r"needs the plugin FILE 0\.3, which registers fusion 'same'"):
        read_model(model)


def test_an_installed_plugin_is_loaded_when_a_user_names_what_it_registers(installed, model):
    assert "same" not in registry.table("fusion")
    with pytest.raises(AvsalError, match="needs the plugin my_fusion"):
        read_model(model)  # a name in a file loads nothing
    assert not registry.is_registered("fusion", "same")
    assert registry.find("fusion", "same").__name__ == "Same"
    read_model(model)


def test_the_example_of_the_docs_works(tests_dir, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (tests_dir.parent / "docs/plugins.md").read_text(), re.S)
    (tmp_path / "mean_sound.py").write_text(example)
    load_plugins([str(tmp_path / "mean_sound.py")])
    network = build(resolve("avinet", {**SMALL, "fusion": {"name": "mean_sound", "scale": 0.5}}))
    variables = init_variables(network, 0)
    frames, sound = np.zeros((1, 8, 64, 96, 3), np.uint8), np.ones((1, 4574), np.float32)
    run = jax.jit(network.run)
    loud, silent = (
        run(variables, avsal_jax.Clip(frames, audio)).logits["saliency"] for audio in (sound, None)
    )
    assert loud.shape == (1, 64, 96) and np.abs(loud - silent).max() > 0


def test_list_loads_installed_plugins_and_reports_those_that_fail(installed, capsys):
    assert main(["list", "fusion"]) == 1
    out, err = capsys.readouterr()
    assert "same  (my_fusion" in out and "failed: plugin not_there is not installed" in err


@pytest.mark.parametrize("kind", registry.KINDS)
def test_list_says_how_to_add_one_of_a_kind(kind, capsys):
    assert main(["list", kind]) == 0
    text, base = capsys.readouterr().out, registry.KINDS[kind].base()
    (line,) = re.findall(r"^  (from avsal_jax\.\w+ import \w+)$", text, re.M)
    names = {}
    exec(line, names)  # what is offered to plugins
    assert base in names.values() and f'register("{kind}", "my_{kind}")' in text


@pytest.mark.parametrize("kind", [kind for kind in registry.KINDS if kind != "regulator"])
def test_list_prints_a_complete_plugin_of_a_kind(kind, capsys, tmp_path):
    assert main(["list", kind, "--example"]) == 0
    (tmp_path / "example.py").write_text(capsys.readouterr().out)
    load_plugins([str(tmp_path / "example.py")])
    assert any(entry.origin.name == "example" for entry in registry.entries(kind))


def test_list_shows_fields_with_types_defaults_and_equations(capsys):
    assert main(["list", "fusion", "ravf"]) == 0
    text = capsys.readouterr().out
    assert "heads = 8: a whole number from 1 to 64" in text and "Eqs. 2 to 5" in text
    assert main(["list", "nothing"]) == 2
    assert "unknown kind 'nothing'" in capsys.readouterr().err
