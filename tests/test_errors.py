"""What goes wrong is one line: a user's mistake with exit code 2, a fault of the program with 70."""

import errno
import io
import os
import sys

import pytest

from avsal_jax.cli import doctor
from avsal_jax.cli.main import main
from avsal_jax.errors import AvsalError, error_line, one_line


def test_a_line_is_one_that_a_terminal_can_show():
    assert str(AvsalError("a\n b")) == "a b"
    assert str(AvsalError("two  spaces in a name")) == "two  spaces in a name"
    assert str(AvsalError("\x1b[2J\x00 é")) == "\\x1b[2J\\x00 é"
    assert str(AvsalError("bad\udcff")) == "bad\\udcff"
    long = one_line("begin " + "x" * 100_000 + " end")
    assert len(long) <= 2_000 and long.startswith("begin x") and long.endswith("x end")


@pytest.fixture
def fails(monkeypatch):
    """Has `avsal doctor` raise an exception."""

    def arrange(error):
        def run(args):
            raise error

        monkeypatch.setattr(doctor, "run", run)

    return arrange


def test_an_unexpected_error_is_one_line_with_its_place(fails, capsys, monkeypatch):
    monkeypatch.delenv("AVSAL_DEBUG", raising=False)
    fails(KeyError("wave\nform"))
    assert main(["doctor"]) == 70
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    assert message.startswith(f"avsal: unexpected error: KeyError: 'wave\\nform' ({__file__}, line ")
    assert "AVSAL_DEBUG=1" in message
    monkeypatch.setenv("AVSAL_DEBUG", "1")
    assert main(["doctor"]) == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback") and lines[-1] == message.rstrip()


def test_the_machine_is_no_fault_of_the_program(fails, capsys):
    fails(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/file"))
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "avsal: [Errno 28] No space left on device: '/full/file'\n"
    assert error_line(OSError("what a library made up")).startswith("unexpected error: OSError: what")


def test_a_name_that_the_terminal_cannot_show_is_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(doctor, "run", lambda args: print("maps in caf\xe9/\udcff") or 0)
    assert main(["doctor"]) == 0
    stream.flush()
    assert stream.buffer.getvalue() == b"maps in caf\\xe9/\\udcff\n"
