"""Hidden folders of unfinished results: whose they are, on one machine and on a shared disk."""

import json
import os
import time

import pytest

from avsal_jax.inference import folder_claims
from avsal_jax.inference.folder_claims import ABANDONED_SECONDS, OWNER, FolderClaim
from avsal_jax.inference.result_folders import complete_or_nothing
from tests.inference.folders import file_names


def write_folder(output, host, age_seconds):
    folder = output / ".avsal-partial-theirs"
    folder.mkdir(parents=True)
    record = folder / OWNER
    record.write_text(json.dumps({"host": host}))
    moment = time.time() - age_seconds
    os.utime(record, (moment, moment))
    return folder


@pytest.mark.parametrize(
    ("host", "age_seconds", "is_kept"),
    [
        ("another", ABANDONED_SECONDS - 60, True),
        ("another", ABANDONED_SECONDS + 60, False),
        (None, 0, False),  # a run of this host that was killed holds no lock
    ],
)
def test_a_folder_of_another_host_is_kept_while_its_run_may_live(tmp_path, host, age_seconds, is_kept):
    folder = write_folder(tmp_path, host or folder_claims.socket.gethostname(), age_seconds)
    with complete_or_nothing(tmp_path):
        pass
    assert folder.exists() == is_kept


def test_a_folder_of_a_run_that_goes_on_is_kept(tmp_path):
    with complete_or_nothing(tmp_path) as first:
        os.utime(first / OWNER, (0, 0))  # on this host, the lock decides
        with complete_or_nothing(tmp_path) as second:
            (second / "b").touch()
        assert first.exists()
        (first / "a").touch()
    assert file_names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(("age_seconds", "is_kept"), [(0, True), (ABANDONED_SECONDS + 60, False)])
def test_a_folder_without_an_owner_is_kept_for_as_long(tmp_path, age_seconds, is_kept):
    folder = tmp_path / ".avsal-partial-dead"
    folder.mkdir()
    moment = time.time() - age_seconds
    os.utime(folder, (moment, moment))
    with complete_or_nothing(tmp_path):
        pass
    assert folder.exists() == is_kept


def test_a_living_run_touches_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_claims, "HEARTBEAT_SECONDS", 0.01)
    claim = FolderClaim.of_new(tmp_path)
    record = tmp_path / OWNER
    os.utime(record, (0, 0))
    deadline = time.monotonic() + 5
    while record.stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    claim.release()
    assert record.stat().st_mtime == 0  # released: any host may take it
    second_claim = FolderClaim.of_abandoned(tmp_path)
    assert FolderClaim.of_abandoned(tmp_path) is None
    second_claim.release()


def test_a_run_continues_in_the_folder_of_its_work_alone(tmp_path):
    for key in ("one", "other"):
        with pytest.raises(KeyboardInterrupt), complete_or_nothing(tmp_path, key=key, log="log") as folder:
            (folder / "log").touch()
            raise KeyboardInterrupt
    assert len(file_names(tmp_path)) == 1  # `one` was removed when `other` began
    with complete_or_nothing(tmp_path, key="other", log="log") as resumed:
        assert resumed == folder and (resumed / "log").exists()
    assert file_names(tmp_path) == ["log"]
