"""The world that conftest.py gives to every test."""

import os
from pathlib import Path

import pytest


def test_a_test_sees_no_setting_of_the_person_who_runs_it() -> None:
    assert not [name for name in os.environ if name.startswith("MILLRACE_")]
    assert "PREFECT_API_URL" not in os.environ
    assert not list(Path.cwd().iterdir())


def test_the_s3_server_creates_an_object_only_once(s3_bucket: str) -> None:
    import s3fs

    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    fs.pipe_file(f"{s3_bucket}/one", b"first", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file(f"{s3_bucket}/one", b"second", mode="create")
    assert fs.cat_file(f"{s3_bucket}/one") == b"first"
