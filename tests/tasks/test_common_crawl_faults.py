"""Common Crawl from mirrors that are busy, broken or wrong: waited for, told, and never taken for what they are not."""

import email.utils
import gzip
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infra.errors import DataError, MillraceError, UserError
from infra.processes import Workers
from infra.retries import transient
from infra.steps import Gate
from tasks.common_crawl import records
from tasks.common_crawl.records import WrongRecordError, check_record
from tests.faults.s3_proxy import proxy
from tests.running import ROOT
from tests.tasks.common_crawl_mirror import (
    SLOW_DOWN,
    SNAPSHOT,
    Answer,
    Mirror,
    Page,
    Request,
    Served,
    make_mirror,
    served,
    slow_down,
)
from tests.tasks.test_common_crawl import INDEX, Result, source

FORGIVING = Gate(max_quarantined=1.0, min_out=0)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    found = [Page(f"https://mill.org/{i}") for i in range(24)] + [Page(f"https://{c}.example/") for c in "abcdefgh"]
    found += [Page("https://mill.org/blob", mime="application/octet-stream", body=random.Random(0).randbytes(900_000))]
    return make_mirror(tmp_path_factory.mktemp("mirror"), found, lines_per_block=5)


@pytest.fixture
def copy(mirror: Mirror, tmp_path: Path) -> Mirror:
    """A mirror that a test may spoil."""
    shutil.copytree(mirror.folder, tmp_path / "mirror")
    return Mirror(tmp_path / "mirror", mirror.pages, mirror.places, mirror.archives, mirror.wets, mirror.blocks)


@pytest.fixture
def site(mirror: Mirror) -> Iterator[Served]:
    with served(mirror.folder) as running:
        yield running


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(2) as pool:
        yield pool


def waits(requests: list[Request]) -> list[float]:
    return [after.time - before.time for before, after in itertools.pairwise(requests)]


def test_slow_down_is_answered_by_waits_that_grow(site: Served, tmp_path: Path, workers: Workers) -> None:
    site.fault = slow_down(3, "paths.gz")
    Result(tmp_path, workers, source(site.url, retry_seconds=0.2), until="index")
    listing = site.asked("paths.gz")
    assert [request.status for request in listing] == [503, 503, 503, 200]
    # Exponential with jitter of one unit: 1 to 2, 2 to 3, 4 to 5 units.
    for wait, unit in zip(waits(listing), (1, 2, 4), strict=True):
        assert wait >= unit * 0.2


@pytest.mark.parametrize("status", [429, 503, 403])
def test_retry_after_is_honoured_and_slow_down_is_known_by_its_code(
    status: int, site: Served, tmp_path: Path, workers: Workers
) -> None:
    def fault(path: str, before: int) -> Answer | None:
        after = "1" if status == 503 else email.utils.formatdate(time.time() + 2, usegmt=True)
        return Answer(status, SLOW_DOWN, {"Retry-After": after}) if before < 1 else None

    site.fault = fault
    Result(tmp_path, workers, source(site.url, retry_seconds=0.01), until="index")
    (wait,) = waits(site.asked("paths.gz"))
    assert wait >= 1


def test_a_longer_wait_than_allowed_ends_the_run(site: Served, tmp_path: Path, workers: Workers) -> None:
    site.fault = slow_down(9, "paths.gz", **{"Retry-After": "3600"})
    with pytest.raises(MillraceError, match=r"warc\.paths\.gz: status 503 SlowDown: asks to wait 3600 s"):
        Result(tmp_path, workers, source(site.url), until="index")
    assert len(site.log) == 1


def side_by_side(tmp_path: Path, url: str, count: int, **fields: Any) -> None:
    """Fetch slices in several worker processes at once."""
    with Workers(count) as workers, ThreadPoolExecutor(count) as threads:
        slices = [source(url, domains=["mill.org"], seed=i, max_records=8 + i, **fields) for i in range(count)]
        runs = [threads.submit(Result, tmp_path / str(i), workers, cfg, until="raw") for i, cfg in enumerate(slices)]
        for run in runs:
            run.result()


def test_while_a_host_is_busy_no_worker_asks_it(site: Served, tmp_path: Path) -> None:
    busy: list[float] = []

    def fault(path: str, before: int) -> Answer | None:
        if "/segments/" not in path or busy:
            return Answer(wait=0.02)
        busy.append(time.monotonic())
        return Answer(503, SLOW_DOWN, {"Retry-After": "2"})

    site.fault = fault
    side_by_side(tmp_path, site.url, 2, max_gap_bytes=0, retry_seconds=0.01, host_concurrency=3)
    assert len(site.asked("/segments/")) == 8 + 9 + 1
    quiet = [request.time - busy[0] for request in site.log if request.time - busy[0] > 1]  # under way before
    assert len(quiet) > 8
    assert min(quiet) >= 1.9


def test_no_more_requests_are_under_way_than_allowed_from_all_workers_together(site: Served, tmp_path: Path) -> None:
    site.fault = lambda path, before: Answer(wait=0.2)
    side_by_side(tmp_path, site.url, 2, max_gap_bytes=0, host_concurrency=3)
    assert site.most_busy == 3


@pytest.mark.parametrize("fault", [Answer(cut=100, hold=90), Answer(trickle=1.5), Answer(wait=90)])
def test_a_server_that_falls_silent_or_trickles_is_asked_again(
    fault: Answer, site: Served, tmp_path: Path, workers: Workers
) -> None:
    site.fault = lambda path, before: fault if before < 1 and "cdx-" in path else None
    began = time.monotonic()
    cfg = source(site.url, domains=["mill.org"], timeout_seconds=2)
    assert Result(tmp_path, workers, cfg, until="index").index.counters.documents_out == 25
    assert time.monotonic() - began < 80
    assert [request.path for request in site.asked("cdx-")].count(site.asked("cdx-")[0].path) == 2


def test_listings_and_archives_may_come_in_chunks(
    mirror: Mirror, site: Served, tmp_path: Path, workers: Workers
) -> None:
    site.fault = lambda path, before: Answer(chunked=True)
    result = Result(tmp_path, workers, source(site.url), until="raw")
    for file, path in zip(result.raw.files("warc"), mirror.archives, strict=True):
        assert file.local().read_bytes() == mirror.file(path).read_bytes()


def test_slow_down_of_s3_is_no_cause_for_hidden_repeats(
    mirror: Mirror, moto_server: str, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).put(f"{mirror.folder}/", f"{s3_bucket}/mirror/", recursive=True)
    with proxy(moto_server) as wire, Workers(1) as workers:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        wire.mode = "503"
        cfg = source(f"{s3_bucket}/mirror", retries=2, retry_seconds=0.1)
        with pytest.raises(MillraceError, match=r"s3://.*warc\.paths\.gz: .*\(gave up after 3 tries\)"):
            Result(tmp_path, workers, cfg, until="index")
        assert wire.failures == 3
        wire.mode = "up"
        assert len(Result(tmp_path, workers, cfg, until="index").wanted) == len(mirror.archives)


def test_giving_up_names_the_url_and_keeps_what_is_finished(
    mirror: Mirror, site: Served, tmp_path: Path, workers: Workers
) -> None:
    site.fault = slow_down(99, mirror.archives[2])
    cfg = source(site.url, retries=2, retry_seconds=0.01)
    with pytest.raises(MillraceError) as caught:
        Result(tmp_path, workers, cfg, until="raw")
    assert not transient(caught.value)  # else the task would begin all of the patience anew
    assert f"{site.url}{mirror.archives[2]}: status 503 SlowDown (gave up after 3 tries)" in str(caught.value)
    assert len(site.asked(mirror.archives[2])) == 3
    site.fault = lambda path, before: None
    site.log.clear()
    Result(tmp_path, workers, cfg, until="raw")
    assert [request.path for request in site.log] == mirror.archives[2:]


@pytest.mark.parametrize("fault", [Answer(cut=500_000), Answer(reset=True)])
def test_a_body_cut_short_is_fetched_from_where_it_broke(
    fault: Answer, mirror: Mirror, site: Served, tmp_path: Path, workers: Workers
) -> None:
    blob = mirror.places["https://mill.org/blob"].archive
    site.fault = lambda path, before: fault if before < 1 and path == blob else None
    result = Result(tmp_path, workers, source(site.url), until="raw")
    for file, path in zip(result.raw.files("warc"), mirror.archives, strict=True):
        assert file.local().read_bytes() == mirror.file(path).read_bytes()
    _, again = site.asked(blob)
    assert sum(request.sent for request in site.asked(blob)) <= mirror.size(blob) + 65536
    if fault.cut:
        assert 400_000 < int((again.range or "").removeprefix("bytes=").rstrip("-")) <= 500_000


def test_a_range_cut_short_is_fetched_again(mirror: Mirror, site: Served, tmp_path: Path, workers: Workers) -> None:
    site.fault = lambda path, before: Answer(cut=100) if before < 1 else None
    result = Result(tmp_path, workers, source(site.url, domains=["mill.org"]), until="raw")
    assert result.raw.counters.documents_out == 25
    assert result.raw.counters.quarantined == 0


def test_a_server_that_ignores_ranges_is_told_and_not_downloaded(
    mirror: Mirror, site: Served, tmp_path: Path, workers: Workers
) -> None:
    huge = bytes(50_000_000)

    def fault(path: str, before: int) -> Answer | None:
        return Answer(body=huge) if "/segments/" in path else None

    site.fault = fault
    with pytest.raises(UserError, match=r"^base_url: the server ignores Range requests .*segments/"):
        Result(tmp_path, workers, source(site.url, domains=["mill.org"], host_concurrency=1), until="raw")
    assert sum(request.sent for request in site.log) < 20_000_000
    site.fault = lambda path, before: Answer(ignore_range=True)
    with pytest.raises(UserError, match=r"^base_url: the server ignores Range requests .*cluster.idx"):
        Result(tmp_path / "b", workers, source(site.url, domains=["mill.org"]), until="index")


def test_whole_archives_need_no_ranges(mirror: Mirror, site: Served, tmp_path: Path, workers: Workers) -> None:
    blob = mirror.places["https://mill.org/blob"].archive
    site.fault = lambda path, before: Answer(ignore_range=True, cut=500_000 if before < 1 and path == blob else None)
    result = Result(tmp_path, workers, source(site.url), until="raw")
    for file, path in zip(result.raw.files("warc"), mirror.archives, strict=True):
        assert file.local().read_bytes() == mirror.file(path).read_bytes()


@pytest.mark.parametrize("headers", [{"Content-Range": "bytes 5-60/70"}, {}])
def test_an_answer_with_other_bytes_than_asked_for_is_refused(
    headers: dict[str, str], site: Served, tmp_path: Path, workers: Workers
) -> None:
    site.fault = lambda path, before: Answer(206, b"x" * 56, headers) if "/segments/" in path else None
    with pytest.raises(MillraceError, match=r"/segments/.*: answers .*gave up after 3 tries"):
        Result(tmp_path, workers, source(site.url, domains=["mill.org"], retries=2, retry_seconds=0.01), until="raw")


def test_records_that_are_not_what_the_index_says_are_quarantined(
    copy: Mirror, tmp_path: Path, workers: Workers
) -> None:
    honest = dict(copy.places)
    copy.places = {url: type(place)(place.archive, place.offset, place.length) for url, place in honest.items()}
    copy.places["https://mill.org/1"].length += 5
    copy.places["https://mill.org/2"].length -= 5
    copy.places["https://mill.org/3"].offset += 3
    copy.places["https://mill.org/4"].offset = 10**9
    copy.places["https://mill.org/5"] = honest["https://a.example/"]
    copy.places["https://mill.org/6"].archive = "crawl-data/missing/warc/none.warc.gz"
    copy.places["https://mill.org/7"].archive = "../../../etc/passwd"
    damaged = honest["https://mill.org/8"]
    data = bytearray(copy.file(damaged.archive).read_bytes())
    data[damaged.offset + damaged.length // 2] ^= 0xFF
    copy.file(damaged.archive).write_bytes(data)
    from tests.tasks.common_crawl_mirror import write_index

    write_index(copy, 10, 3)
    with served(copy.folder) as site:
        cfg = source(site.url, domains=["mill.org"], gate=FORGIVING)
        result = Result(tmp_path / "store", workers, cfg, until="pages")
    assert result.index.counters.errors == {"broken_index_line": 1}
    rows = {row["url"].removeprefix("https://mill.org/"): row for row in result.rows(result.raw, "quarantine")}
    reasons = {name: row["error"].partition(":")[0] for name, row in rows.items()}
    assert reasons == {
        "1": "wrong_length",
        "2": "wrong_length",
        "3": "broken_record",
        "4": "wrong_offset",
        "5": "wrong_url",
        "6": "not_found",
        "8": "broken_record",
    }
    for name, row in rows.items():
        place = copy.places[f"https://mill.org/{name}"]
        assert (row["file"], row["offset"], row["stage"]) == (place.archive, place.offset, "common_crawl")
    assert result.urls == sorted(f"https://mill.org/{i}" for i in (0, *range(9, 24)))
    assert result.raw.counters.errors == {
        "broken_record": 2,
        "not_found": 1,
        "wrong_length": 2,
        "wrong_offset": 1,
        "wrong_url": 1,
    }
    with served(copy.folder) as site, pytest.raises(DataError, match=r"common_crawl.* could not be handled"):
        Result(tmp_path / "strict", workers, source(site.url, domains=["mill.org"]), until="raw")


def test_a_damaged_block_of_the_index_is_counted(copy: Mirror, tmp_path: Path, workers: Workers) -> None:
    _, file, offset, length = copy.blocks[2]
    path = copy.file(f"{INDEX}{file}")
    data = bytearray(path.read_bytes())
    data[offset + length // 2] ^= 0xFF
    path.write_bytes(data)
    with served(copy.folder) as site:
        cfg = source(site.url, languages=["eng"], gate=FORGIVING)
        result = Result(tmp_path / "store", workers, cfg, until="index")
        assert result.index.counters.errors == {"broken_index_block": 1}
        assert result.index.counters.documents_out == len(copy.pages) - 5
        with pytest.raises(DataError, match="broken_index_block"):
            Result(tmp_path / "strict", workers, source(site.url, languages=["eng"]), until="index")


@pytest.mark.parametrize(
    ("path", "data", "error", "message"),
    [
        ("warc.paths.gz", b"no gzip", DataError, "is no gzip file"),
        ("warc.paths.gz", gzip.compress(b"crawl-data/x/y.warc.gz\n" * 99)[:-20], DataError, "is cut short"),
        ("warc.paths.gz", gzip.compress(b"../../outside.warc.gz\n"), DataError, "names what is no path of an archive"),
        ("warc.paths.gz", b"", DataError, "is empty"),
        ("warc.paths.gz", gzip.compress(b"a")[:10] + b"\xff" * 40, DataError, "is no gzip file"),
        ("warc.paths.gz", gzip.compress(b"/etc/passwd\n"), DataError, "names what is no path of an archive"),
        ("cluster.idx", b"<html>Not here</html>\n" * 50, DataError, "is no index of blocks"),
        ("cluster.idx", b"org,a)/ 2026\t../cdx\t0\t10\t1\n", DataError, "names no block"),
        ("cluster.idx", b"x" * 5_000_000, DataError, "a line has no end"),
    ],
)
def test_listings_that_are_none_are_one_clear_error(
    path: str, data: bytes, error: type[Exception], message: str, tmp_path: Path, workers: Workers
) -> None:
    folder = tmp_path / "mirror"
    name = f"{INDEX}cluster.idx" if path == "cluster.idx" else f"crawl-data/{SNAPSHOT}/warc.paths.gz"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(data)
    fields: dict[str, Any] = {"domains": ["mill.org"]} if path == "cluster.idx" else {}
    with pytest.raises(error, match=message):
        Result(tmp_path / "store", workers, source(str(folder), **fields), until="index")


def test_a_listing_of_several_gzip_members_is_read_to_its_end(
    mirror: Mirror, copy: Mirror, tmp_path: Path, workers: Workers
) -> None:
    file = copy.folder / f"crawl-data/{SNAPSHOT}/warc.paths.gz"
    paths = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    assert len(paths) > 1
    whole = Result(tmp_path / "whole", workers, source(str(mirror.folder)), until="index")
    file.write_bytes(b"".join(map(gzip.compress, paths)))
    made = Result(tmp_path / "members", workers, source(str(copy.folder)), until="index")
    assert made.wanted == whole.wanted
    assert len(made.wanted) == len(paths)


def test_an_archive_that_is_listed_twice_is_fetched_once(copy: Mirror, tmp_path: Path, workers: Workers) -> None:
    file = copy.folder / f"crawl-data/{SNAPSHOT}/warc.paths.gz"
    paths = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    file.write_bytes(gzip.compress(b"".join([*paths, paths[0], paths[0]])))
    made = Result(tmp_path / "twice", workers, source(str(copy.folder)), until="index")
    assert len(made.wanted) == len(paths)
    assert made.index.counters.documents_in == len(paths) + 2
    assert made.index.counters.dropped == {"listed_twice": 2}


def member(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(text) + packer.flush()


RECORD = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a/\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (member(RECORD)[:-1], "wrong_length"),
        (member(RECORD) + b"x", "wrong_length"),
        (member(RECORD) * 2, "wrong_length"),
        (member(RECORD.replace(b"http://a/", b"http://b/")), "wrong_url"),
        (member(RECORD.replace(b": 3", b": 9")), "broken_record"),
        (member(RECORD.replace(b": 3", b": -")), "broken_record"),
        (member(b"<html>"), "broken_record"),
        (b"", "wrong_length"),
        (RECORD, "broken_record"),
        (member(RECORD + bytes(2_000_000)), "too_large"),
    ],
    ids=["short", "long", "two", "another", "promises more", "no length", "no record", "empty", "plain", "bomb"],
)
def test_only_one_whole_record_of_the_url_is_a_record(
    data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_BLOCK", 1_000_000)
    assert check_record(member(RECORD), "http://a/")["warc-type"] == "response"
    with pytest.raises(WrongRecordError) as caught:
        check_record(data, "http://a/")
    assert caught.value.reason == reason


def test_a_space_in_the_address_is_the_same_however_the_index_writes_it() -> None:
    data = member(RECORD.replace(b"http://a/", b"http://a/b c"))
    for url in ("http://a/b c", "http://a/b%20c"):
        assert check_record(data, url)["warc-target-uri"] == "http://a/b c"


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from infra.processes import Workers
from tests.tasks.test_common_crawl import Result, source
import json
if __name__ == "__main__":
    with Workers(1) as workers:
        Result(Path(sys.argv[2]), workers, source(sys.argv[3], **json.loads(sys.argv[4])), until="raw")
"""


def start_and_kill(store: Path, url: str, fields: dict[str, Any], reached: Callable[[], bool]) -> None:
    """Run the steps in a process of their own, and kill all of it with SIGKILL when `reached`."""
    script = store.parent / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(ROOT), str(store), url, json.dumps(fields)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def test_a_killed_fetch_goes_on_and_fetches_no_finished_archive_again(
    mirror: Mirror, site: Served, tmp_path: Path, workers: Workers
) -> None:
    blob = mirror.places["https://mill.org/blob"].archive
    at = mirror.archives.index(blob)
    site.fault = lambda path, before: Answer(cut=400_000, hold=60) if path == blob and before < 1 else None

    def reached() -> bool:
        files = [path for path in Path(".millrace/scratch/").rglob("state/*") if path.is_file()]
        return bool(site.asked(blob)) and any(file.stat().st_size >= 300_000 for file in files)

    start_and_kill(tmp_path / "store", site.url, {}, reached)
    before = len(site.log)
    result = Result(tmp_path / "store", workers, source(site.url), until="raw")
    assert [request.path for request in site.log[before:]] == mirror.archives[at:]
    again = site.log[before]
    assert int((again.range or "").removeprefix("bytes=").rstrip("-")) >= 300_000
    for file, path in zip(result.raw.files("warc"), mirror.archives, strict=True):
        assert file.local().read_bytes() == mirror.file(path).read_bytes()


def test_a_killed_slice_goes_on_and_fetches_no_finished_part_again(
    mirror: Mirror, site: Served, tmp_path: Path, workers: Workers
) -> None:
    fields = {"domains": ["mill.org"], "records_per_part": 5, "max_gap_bytes": 0, "host_concurrency": 1}
    stop = [12]

    def fault(path: str, before: int) -> Answer | None:
        if "/segments/" not in path:
            return None
        stop[0] -= 1
        return Answer(wait=60) if stop[0] == 0 else None

    site.fault = fault
    start_and_kill(tmp_path / "store", site.url, fields, lambda: stop[0] <= 0)
    before = len(site.log)
    site.fault = lambda path, before: None
    result = Result(tmp_path / "store", workers, source(site.url, **fields), until="pages")
    assert result.raw.counters.documents_out == 25
    fetched = [(request.path, request.range) for request in site.log[:before] if "/segments/" in request.path]
    again = [(request.path, request.range) for request in site.log[before:]]
    assert all("/segments/" in path for path, _ in again)
    assert len(again) == 25 - 10
    assert not set(again) & set(fetched[:10])


def test_a_killed_search_of_the_index_goes_on_where_it_was(
    mirror: Mirror, site: Served, tmp_path: Path, workers: Workers
) -> None:
    last = f"{INDEX}cdx-00002.gz"
    site.fault = lambda path, before: Answer(wait=60) if path == last and before < 1 else None

    def reached() -> bool:
        ledgers = [sqlite3.connect(path) for path in Path(".millrace/scratch").rglob("captures.sqlite")]
        try:
            return any(ledger.execute("SELECT count(*) FROM runs").fetchone() == (2,) for ledger in ledgers)
        except sqlite3.OperationalError:  # it has no tables yet
            return False
        finally:
            for ledger in ledgers:
                ledger.close()

    start_and_kill(tmp_path / "store", site.url, {"languages": ["eng"], "host_concurrency": 1}, reached)
    before = len(site.log)
    result = Result(tmp_path / "store", workers, source(site.url, languages=["eng"]), until="index")
    assert [request.path for request in site.log[before:] if "cdx-" in request.path] == [last]
    assert result.index.counters.documents_out == len(mirror.pages)
