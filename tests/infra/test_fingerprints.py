import os
from pathlib import Path

import pytest

from infra import fingerprints
from infra.errors import UserError
from infra.fingerprints import fingerprint
from infra.storage import filesystem


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text("one")
    first = fingerprint(str(path), "pages.jsonl", "paths")
    assert first.local() == path
    monkeypatch.setattr(fingerprints, "_hash", lambda uri: pytest.fail("hashed again"))
    assert fingerprint(str(path), "pages.jsonl", "paths") == first
    monkeypatch.undo()
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert fingerprint(str(path), "pages.jsonl", "paths").sha256 != first.sha256


def test_a_file_on_s3_is_the_same_as_on_disk(tmp_path: Path, s3_bucket: str) -> None:
    (tmp_path / "x").write_bytes(b"bytes")
    fs, _ = filesystem(s3_bucket)
    fs.pipe_file(f"{s3_bucket}/x", b"bytes")
    here, there = fingerprint(str(tmp_path / "x"), "x", "p"), fingerprint(f"{s3_bucket}/x", "x", "p")
    assert (here.sha256, here.bytes) == (there.sha256, there.bytes)
    assert there.local().read_bytes() == b"bytes"
    fs.pipe_file(f"{s3_bucket}/x", b"other")
    assert fingerprint(f"{s3_bucket}/x", "x", "p").sha256 != there.sha256


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ingest\.sources\[0\]\.paths.*not found"):
        fingerprint(str(tmp_path / "gone"), "gone", "ingest.sources[0].paths")
