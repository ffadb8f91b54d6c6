"""Files that are complete or absent."""

import pytest

from avsal_jax.files import complete_file


@pytest.mark.parametrize("shared", [True, False])
def test_a_file_appears_when_its_block_succeeds(tmp_path, shared):
    path = tmp_path / "a.bin"
    with complete_file(path, shared) as partial:
        partial.write_bytes(b"first")
        assert partial.parent == tmp_path and not path.exists()
    assert path.read_bytes() == b"first" and path.stat().st_mode & 0o600 == 0o600
    with pytest.raises(ValueError, match="half"), complete_file(path, shared) as partial:
        partial.write_bytes(b"half")
        raise ValueError("half")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_a_rerun_overwrites_what_an_interrupted_writer_left(tmp_path):
    with complete_file(tmp_path / "a.bin", shared=False) as partial:
        leftover = partial
        partial.write_bytes(b"complete")
    leftover.write_bytes(b"left by a killed process")
    with complete_file(tmp_path / "a.bin", shared=False) as partial:
        assert partial == leftover
        partial.write_bytes(b"again")
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"again"]
