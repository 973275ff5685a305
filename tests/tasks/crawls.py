"""Crawls of the websites that tests make up: configs, runs, and what they leave."""

import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from infra.artifacts import Attempt
from infra.manifests import Counters
from tasks.crawl import CrawlConfig, crawl
from tests.tasks.web_server import Answer, Website, page

HOST = "http://site.test"


def config(web: Website | None = None, **changes: Any) -> CrawlConfig:
    fields: dict[str, Any] = {
        "kind": "crawl",
        "name": "site",
        "seeds": [f"{HOST}/"],
        "contact": "https://example.org/about",
        "delay_seconds": 0,
        "host_concurrency": 4,
        "retry_seconds": 0.05,
        "last_round_seconds": 0.3,
        "connect_to": {"site.test": web.address} if web else {},
    }
    return CrawlConfig(**{**fields, **changes})


def run(cfg: CrawlConfig, folder: Path) -> tuple[Counters, dict[str, tuple[int, str, bytes]]]:
    """Crawl into `folder`; returns the counters and what the WARC files hold."""
    counters = crawl.fn(cfg, Attempt.at(folder))
    counters.check("crawl")
    return counters, archived(folder)


def archived(folder: Path) -> dict[str, tuple[int, str, bytes]]:
    """(status, content type, body) by URL, read with FastWARC."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    found = {}
    for file in sorted(folder.glob("warc/*.warc.gz")):
        with file.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=True):
                http = record.http_headers
                url = record.headers["WARC-Target-URI"]
                assert url not in found
                found[url] = (http.status_code, http.get("Content-Type"), record.reader.read())
    return found


def log(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "logs/crawl.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["url"]: entry for entry in map(json.loads, lines)}


def paths(found: dict[str, Any]) -> list[str]:
    return [url.removeprefix(HOST) for url in sorted(found)]


def tree(
    width: int = 4, depth: int = 3, chance: random.Random | None = None, missing: float = 0.3, wait: float = 0.03
) -> dict[str, Answer]:
    """A site of `width`**`depth` leaves; with `chance` a share of them is missing and all take up to `wait` seconds."""
    answers = {}
    for level in range(depth + 1):
        for names in itertools.product("abcdefgh"[:width], repeat=level):
            path = "/" + "".join(f"{name}/" for name in names)
            links = [f"{path}{name}/" for name in "abcdefgh"[:width]] if level < depth else []
            answers[path] = page(*links, text=f"This is {path}." * 10)
            if chance and level and chance.random() < missing:
                answers[path] = Answer(status=404)
            answers[path].wait = chance.random() * wait if chance else 0.0
    return answers


STEP = """
import pickle, sys
from tasks.crawl import crawl
if __name__ == "__main__":
    crawl.fn(*pickle.loads(sys.stdin.buffer.read()))
"""


def start(cfg: CrawlConfig, folder: Path) -> subprocess.Popen[bytes]:
    """Start the step in a process of its own."""
    import pickle

    process = subprocess.Popen(
        [sys.executable, "-c", STEP],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert process.stdin
    process.stdin.write(pickle.dumps((cfg, Attempt.at(folder))))
    process.stdin.close()
    return process


def decided(frontier: Path) -> set[str]:
    if not frontier.exists():
        return set()
    try:
        with sqlite3.connect(f"file:{frontier}?mode=ro", uri=True) as db:
            return {url.removeprefix(HOST) for (url,) in db.execute("SELECT url FROM urls WHERE reason IS NOT NULL")}
    except sqlite3.OperationalError:
        return set()


def wait_for(condition: Any, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def read_by_all(files: list[Path]) -> list[tuple[str, str, str | None, bytes]]:
    """(kind, record id, URL, payload) of the records, the same for warcio and FastWARC; `warcio check` is content."""
    from fastwarc.warc import ArchiveIterator as FastIterator
    from warcio.archiveiterator import ArchiveIterator

    command = [sys.executable, "-m", "warcio.cli", "check", "-v", *map(str, files)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "digest pass" in checked.stdout
    slow, fast = [], []
    for file in files:
        with file.open("rb") as stream:
            for record in ArchiveIterator(stream, check_digests="raise"):
                head = record.rec_headers
                names = (record.rec_type, head.get_header("WARC-Record-ID"), head.get_header("WARC-Target-URI"))
                slow.append((*names, record.content_stream().read()))
        with file.open("rb") as stream:
            for record in FastIterator(stream, parse_http=True, verify_digests=True):
                names = (record.headers["WARC-Type"], record.record_id, record.headers.get("WARC-Target-URI"))
                fast.append((*names, record.reader.read()))
    assert [(kind, identity.strip("<>"), *rest) for kind, identity, *rest in slow] == [
        (kind, identity.strip("<>"), *rest) for kind, identity, *rest in fast
    ]
    return slow
