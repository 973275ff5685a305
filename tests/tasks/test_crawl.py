"""The crawler against real servers on loopback."""

import asyncio
import gzip
import io
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.errors import DataError
from tasks.crawl import CrawlConfig
from tests.tasks.crawls import HOST, children, config, decided, log, paths, read_by_all, run, start, tree, wait_for
from tests.tasks.web_server import Answer, moved, page, website

# -- what a site allows --------------------------------------------------------------------------------------------


def test_robots_txt_is_obeyed_and_what_it_forbids_is_counted(tmp_path: Path) -> None:
    robots = b"User-agent: *\nDisallow: /\n\nUser-agent: millrace\nDisallow: /private/\nAllow: /private/open\n"
    answers = {
        "/robots.txt": Answer(robots),
        "/": page("/a", "/private/b", "/private/open"),
        **{path: page() for path in ("/a", "/private/b", "/private/open")},
    }
    with website(answers) as site:
        counters, found = run(config(site), tmp_path / "out")
    assert paths(found) == ["/", "/a", "/private/open"]
    assert counters.dropped == {"robots": 1}
    assert counters.examples == {"robots": [f"{HOST}/private/b"]}
    assert site.times("/private/b") == 0
    assert site.times("/robots.txt") == 1
    (agent,) = site.agents
    assert agent.startswith("Millrace/")
    assert "(+https://example.org/about)" in agent


@pytest.mark.parametrize("status", [500, 429])
def test_a_host_whose_robots_txt_is_unreachable_is_left_alone(tmp_path: Path, status: int) -> None:
    with website({"/robots.txt": Answer(status=status), "/": page()}) as site:
        with pytest.raises(DataError, match=rf"http://site.test/: robots_unreachable \(.*status {status}"):
            run(config(site, retries=1), tmp_path / "out")
        assert site.pages() == []
        assert site.times("/robots.txt") == 2


def test_without_robots_txt_all_is_allowed_and_its_redirects_are_followed(tmp_path: Path) -> None:
    with website({"/": page("/a"), "/a": page()}) as site:
        assert paths(run(config(site), tmp_path / "none")[1]) == ["/", "/a"]
        site.answers |= {"/robots.txt": moved("/real.txt"), "/real.txt": Answer(b"User-agent: *\nDisallow: /a")}
        assert paths(run(config(site), tmp_path / "moved")[1]) == ["/"]


def test_crawl_delay_and_own_delay_space_the_requests(tmp_path: Path) -> None:
    answers = {f"/{i}": page() for i in range(6)} | {"/": page(*(f"/{i}" for i in range(6)))}
    with website({**answers, "/robots.txt": Answer(b"User-agent: *\nCrawl-delay: 0.3")}) as site:
        run(config(site, host_concurrency=8), tmp_path / "robots")
    assert site.asked[-1][1] - site.asked[1][1] > 6 * 0.3 * 0.8
    with website(answers) as site:
        run(config(site, delay_seconds=0.3, host_concurrency=8), tmp_path / "own")
    assert site.asked[-1][1] - site.asked[0][1] > 7 * 0.3 * 0.8


@pytest.mark.parametrize("delay", ["1e9", "301"])
def test_a_crawl_delay_beyond_the_limit_leaves_the_host_out(
    tmp_path: Path, delay: str, capfd: pytest.CaptureFixture[str]
) -> None:
    slow = {"/robots.txt": Answer(f"User-agent: *\nCrawl-delay: {delay}".encode()), "/0": page(), "/1": page()}
    with website({"/": page("http://slow.test/0", "http://slow.test/1")}) as site, website(slow) as parked:
        hosts = {"site.test": site.address, "slow.test": parked.address}
        counters, found = run(config(connect_to=hosts, allowed_hosts=[*hosts]), tmp_path / "out")
    assert paths(found) == ["/"]
    assert counters.dropped == {"crawl_delay": 2}
    assert parked.pages() == []
    assert capfd.readouterr().err.count("more than max_crawl_delay_seconds") == 1


def test_a_turnstile_holds_to_the_delay_however_late_the_waiting_wake_up() -> None:
    from tasks.crawl.turnstile import Turnstile

    async def passed() -> list[float]:
        turnstile, times = Turnstile(4, 0.02), []

        async def one() -> None:
            async with turnstile:
                times.append(time.monotonic())
                if len(times) == 3:
                    turnstile.pause(0.3)
                time.sleep(random.random() * 0.02)  # a busy event loop

        await asyncio.gather(*(one() for _ in range(10)))
        return times

    gaps = [after - before for before, after in itertools.pairwise(asyncio.run(passed()))]
    assert min(gaps) > 0.0199
    assert gaps[2] > 0.299


def test_sitemaps_are_read_through_indexes_and_gzip(tmp_path: Path) -> None:
    def urls(*found: str) -> bytes:
        inner = "".join(f"<url><loc>{url}</loc></url>" for url in found)
        return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{inner}</urlset>'.encode()

    index = (
        '<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        f"<sitemap><loc>{HOST}/deep.xml.gz</loc></sitemap><sitemap><loc>{HOST}/gone.xml</loc></sitemap></sitemapindex>"
    ).encode()
    answers = {
        "/robots.txt": Answer(f"User-agent: *\nDisallow:\nSitemap: {HOST}/index.xml\n".encode()),
        "/index.xml": Answer(index),
        "/deep.xml.gz": Answer(gzip.compress(urls(f"{HOST}/a", "http://elsewhere.test/b", "http://[bad"))),
        "/own.xml": Answer(urls(f"{HOST}/c")),
        **{path: page() for path in ("/", "/a", "/c")},
    }
    with website(answers) as site:
        counters, found = run(config(site, sitemaps=[f"{HOST}/own.xml"]), tmp_path / "out")
        assert paths(found) == ["/", "/a", "/c"]
        assert counters.dropped == {"invalid_url": 1}
        assert log(tmp_path / "out")[f"{HOST}/gone.xml"]["reason"] == "status_404"
        _, found = run(config(site, robots_sitemaps=False), tmp_path / "without")
        assert paths(found) == ["/"]


# -- what is refused -----------------------------------------------------------------------------------------------


def test_private_addresses_are_refused_however_they_are_spelled(tmp_path: Path) -> None:
    spellings = ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]"]
    with website({"/": page(), "/x": page()}) as site:
        seeds = [f"http://{host}:{site.port}/x" for host in spellings]
        counters, found = run(config(site, seeds=[f"{HOST}/", *seeds]), tmp_path / "some")
        assert paths(found) == ["/"]
        assert counters.dropped == {"private_address": len(spellings)}
        assert site.times("/x") == 0
        with pytest.raises(DataError, match=rf"127\.0\.0\.1:{site.port}/x: private_address .*allow_private"):
            run(config(seeds=seeds[:1]), tmp_path / "none")


def test_private_addresses_are_refused_behind_redirects_unless_allowed(tmp_path: Path) -> None:
    with website({}) as site:
        inner = f"http://127.0.0.1:{site.port}/secret"
        site.answers |= {"/": page("/go"), "/go": moved(inner), "/secret": page()}
        hosts = ["site.test", f"127.0.0.1:{site.port}"]
        counters, found = run(config(site, allowed_hosts=hosts), tmp_path / "refused")
        assert paths(found) == ["/"]
        assert counters.dropped == {"private_address": 1, "redirect": 1}
        assert site.times("/secret") == 0
        _, found = run(config(site, allowed_hosts=hosts, allow_private=True), tmp_path / "allowed")
        assert sorted(found) == [inner, f"{HOST}/"]


def test_oversize_and_endless_responses_and_bombs_are_broken_off(tmp_path: Path) -> None:
    html = {"Content-Type": "text/html"}
    sent = []

    def endless() -> Iterator[bytes]:
        while True:
            sent.append(65536)
            yield b"x" * 65536

    answers = {
        "/": page("/declared", "/endless", "/bomb", "/fits"),
        "/declared": Answer(b"x" * 200_001, headers=html),
        "/endless": Answer(endless, headers=html),
        "/bomb": Answer(gzip.compress(b"x" * 5_000_000), headers={**html, "Content-Encoding": "gzip"}),
        "/fits": Answer(b"x" * 200_000, headers=html),
    }
    with website(answers) as site:
        counters, found = run(config(site, max_page_bytes=200_000), tmp_path / "out")
    assert paths(found) == ["/", "/fits"]
    assert counters.dropped == {"too_large": 3}
    assert sum(sent) < 50_000_000
    assert site.times("/declared") == site.times("/endless") == site.times("/bomb") == 1


def test_only_the_wanted_media_types_are_downloaded(tmp_path: Path) -> None:
    sent = []

    def film() -> Iterator[bytes]:
        for _ in range(2000):
            sent.append(65536)
            yield b"x" * 65536

    answers = {
        "/": page("/film", "/plain", "/bare", "/binary", "/xhtml"),
        "/film": Answer(film, headers={"Content-Type": "video/mp4"}),
        "/plain": Answer(b"text", headers={"Content-Type": "TEXT/PLAIN; charset=latin-1"}),
        "/bare": Answer(b"  <p>no type</p>"),
        "/binary": Answer(b"\0\1\2"),
        "/xhtml": Answer(b"<p/>", headers={"Content-Type": "application/xhtml+xml"}),
    }
    with website(answers) as site:
        counters, found = run(config(site), tmp_path / "out")
    assert paths(found) == ["/", "/bare", "/plain", "/xhtml"]
    assert counters.dropped == {"content_type": 2}
    assert sum(sent) < 50_000_000


def test_redirects_are_followed_recorded_and_loops_ended(tmp_path: Path) -> None:
    answers = {
        "/": page("/one", "/round", "/self", "/out", "/odd"),
        "/one": moved("/two", 301),
        "/two": moved("three", 308),
        "/three": page("/four"),
        "/four": page(),
        "/round": moved("/trip"),
        "/trip": moved("/round"),
        "/self": moved("/self"),
        "/out": moved("http://elsewhere.test/"),
        "/odd": moved("http://[bad"),
    }
    with website(answers) as site:
        counters, found = run(config(site), tmp_path / "out")
    assert paths(found) == ["/", "/four", "/three"]
    assert counters.dropped == {
        **{"redirect": 3, "redirect_loop": 2, "redirect_out_of_scope": 1, "redirect_invalid": 1}
    }
    said = log(tmp_path / "out")
    assert said[f"{HOST}/one"]["location"] == f"{HOST}/two"
    assert said[f"{HOST}/three"]["via"] == f"{HOST}/two"
    assert said[f"{HOST}/out"]["location"] == "http://elsewhere.test/"
    assert all(site.times(path) == 1 for path in answers)


def test_a_chain_of_redirects_ends_at_the_limit(tmp_path: Path) -> None:
    answers = {f"/{i}": moved(f"/{i + 1}") for i in range(9)} | {"/": page("/0"), "/9": page()}
    with website(answers) as site:
        counters, found = run(config(site, max_redirects=3), tmp_path / "out")
    assert paths(found) == ["/"]
    assert counters.dropped == {"redirect": 3, "redirect_limit": 1}


def test_a_url_that_cannot_be_parsed_is_counted_and_the_crawl_goes_on(tmp_path: Path) -> None:
    with website({"/": page("http://[not-an-address", "http://site.test:port/", "/a"), "/a": page()}) as site:
        counters, found = run(config(site), tmp_path / "out")
    assert paths(found) == ["/", "/a"]
    assert counters.dropped == {"invalid_url": 2}


# -- failures ------------------------------------------------------------------------------------------------------


def test_busy_answers_are_repeated_and_retry_after_is_respected(tmp_path: Path) -> None:
    def busy(before: int) -> Answer:
        return page() if before else Answer(status=429, headers={"Retry-After": "1"})

    answers = {
        "/": page("/busy", "/down", "/gone"),
        "/busy": busy,
        "/down": Answer(status=503),
        "/gone": Answer(status=410),
    }
    with website(answers) as site:
        counters, found = run(config(site, retries=2), tmp_path / "out")
    assert paths(found) == ["/", "/busy"]
    assert counters.dropped == {"status_503": 1, "status_410": 1}
    assert [site.times(path) for path in ("/busy", "/down", "/gone")] == [2, 3, 1]
    first, second = (at for path, at in site.asked if path == "/busy")
    assert second - first > 0.95


def test_a_host_that_asks_for_too_long_a_wait_is_not_asked_again(tmp_path: Path) -> None:
    later = Answer(status=429, headers={"Retry-After": "86400"})
    first = [f"/{i}" for i in range(8)]
    answers = {"/": page(*first), "/0": page("/9", "http://other.test/"), "/1": later, "/9": page()}
    answers |= {path: page() for path in first[2:]}
    with website(answers) as site, website({"/": page()}) as other:
        cfg = config(
            connect_to={"site.test": site.address, "other.test": other.address},
            allowed_hosts=["site.test", "other.test"],
            **{"host_concurrency": 1, "delay_seconds": 0.05, "order": "url"},
        )
        counters, found = run(cfg, tmp_path / "out")
    assert sorted(found) == ["http://other.test/", f"{HOST}/", f"{HOST}/0"]
    assert counters.dropped == {"status_429": 1, "retry_after": 7}
    assert site.pages() == ["/", "/0", "/1"]
    assert "longer than max_retry_seconds" in log(tmp_path / "out")[f"{HOST}/9"]["detail"]


def test_a_host_stays_given_up_when_the_crawl_goes_on(tmp_path: Path) -> None:
    def lost(_: int) -> Answer:
        raise ConnectionAbortedError

    broken = {f"/{i}": lost for i in range(5)}
    later = Answer(status=503, headers={"Retry-After": "86400"})
    with website({"/": page("/later"), "/later": later}) as asking, website({"/": page(*broken), **broken}) as site:
        cfg = config(
            connect_to={"asking.test": asking.address, "site.test": site.address},
            seeds=["http://asking.test/", f"{HOST}/"],
            **{"max_outage": 2, "retries": 0, "concurrency": 1, "order": "url"},
        )
        with pytest.raises(ConnectionError, match="goes on from here"):
            run(cfg, tmp_path / "out")
        asking.answers["/later"] = page()
        site.answers |= {f"/{i}": page("http://asking.test/more") for i in range(5)}
        counters, found = run(cfg, tmp_path / "out")
    assert len(found) == 7
    assert counters.dropped == {"status_503": 1, "retry_after": 1}
    assert asking.pages() == ["/", "/later"]


def test_a_response_that_does_not_end_in_time_is_dropped(tmp_path: Path) -> None:
    def slow() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x"
            time.sleep(0.25)

    answers = {"/": page("/slow"), "/slow": Answer(slow, headers={"Content-Type": "text/html"})}
    with website(answers) as site:
        counters, _ = run(config(site, retries=0, timeout_seconds=3), tmp_path / "out")
    assert counters.dropped == {"timeout": 1}


def test_nothing_fetched_is_one_clear_error_that_names_the_seed_and_can_be_tried_again(tmp_path: Path) -> None:
    with website({}) as site:
        cfg = config(site)
        with pytest.raises(DataError, match=r"no page could be fetched from http://site\.test/: .*status_404"):
            run(cfg, tmp_path / "out")
        site.answers["/"] = page()
        assert paths(run(cfg, tmp_path / "out")[1]) == ["/"]
    cfg = config(seeds=["http://does-not-exist.invalid/"], retries=0)
    with pytest.raises(DataError, match=r"http://does-not-exist\.invalid/: dns"):
        run(cfg, tmp_path / "dns")


def test_an_outage_stops_the_crawl_and_it_goes_on_from_there(tmp_path: Path) -> None:
    broken = True

    def unsteady(_: int) -> Answer:
        if broken:
            raise ConnectionAbortedError
        return page()

    answers: dict[str, Any] = {f"/{i}": unsteady for i in range(20)}
    with website({**answers, "/": page(*answers)}) as site:
        cfg = config(site, retries=0, max_outage=5)
        with pytest.raises(ConnectionError, match="goes on from here"):
            run(cfg, tmp_path / "out")
        broken = False
        counters, found = run(cfg, tmp_path / "out")
    assert len(found) == 21
    assert counters.dropped == {}
    assert site.times("/") == 1


def test_an_outage_that_begins_at_a_robots_txt_stops_the_crawl_too(tmp_path: Path) -> None:
    broken = True

    def unsteady(_: int) -> Answer:
        if broken:
            raise ConnectionAbortedError
        return Answer(b"User-agent: *\nDisallow: /secret")

    other = [f"http://other.test/{i}" for i in range(20)]
    site_answers = {"/": page(*other), **{f"/{i}": page() for i in range(20)}}
    with website(site_answers) as site, website({**site_answers, "/robots.txt": unsteady}) as away:
        hosts = {"site.test": site.address, "other.test": away.address}
        cfg = config(connect_to=hosts, allowed_hosts=[*hosts], retries=0, max_outage=5)
        with pytest.raises(ConnectionError, match="goes on from here"):
            run(cfg, tmp_path / "out")
        assert away.pages() == []
        broken = False
        counters, found = run(cfg, tmp_path / "out")
    assert len(found) == 21
    assert counters.dropped == {}


def test_a_robots_txt_that_could_not_be_reached_is_asked_for_again(tmp_path: Path) -> None:
    def unsteady(before: int) -> Answer:
        if before == 0:
            raise ConnectionAbortedError
        return Answer()

    answers = {f"/{i}": page() for i in range(5)} | {"/robots.txt": unsteady}
    with website(answers) as site:
        cfg = config(site, seeds=[f"{HOST}/{i}" for i in range(5)], retries=0, robots_sitemaps=False, concurrency=1)
        counters, found = run(cfg, tmp_path / "out")
    assert (len(found), counters.dropped) == (5, {})


# -- limits and determinism ----------------------------------------------------------------------------------------


def test_depth_page_and_byte_limits_are_kept(tmp_path: Path) -> None:
    with website(tree(3, 3)) as site:
        counters, found = run(config(site, max_depth=1), tmp_path / "depth")
        assert paths(found) == ["/", "/a/", "/b/", "/c/"]
        counters, found = run(config(site, max_pages=7), tmp_path / "pages")
        assert len(found) == counters.documents_out == 7
        site.asked.clear()
        counters, found = run(config(site, max_total_bytes=2000, max_page_bytes=500), tmp_path / "bytes")
        assert 1500 < sum(len(body) for _, _, body in found.values()) <= 2000
        assert counters.values["bytes"] == sum(len(body) for _, _, body in found.values())
        assert len(site.pages()) == len(found)


def test_the_pages_do_not_depend_on_concurrency_or_timing(tmp_path: Path) -> None:
    runs, busy = [], []
    for number, concurrency in enumerate((1, 8)):
        answers = tree(5, 3, random.Random(7))
        for answer in answers.values():
            answer.wait *= random.random()
        with website(answers) as site:
            cfg = config(site, host_concurrency=concurrency, max_pages=40)
            runs.append(run(cfg, tmp_path / str(number)))
            busy.append(site.most_busy)
    assert runs[0][1] == runs[1][1]
    assert runs[0][0].model_dump() == runs[1][0].model_dump()
    assert len(runs[0][1]) == 40
    assert busy[0] == 1
    assert 2 <= busy[1] <= 8
    assert runs[0][0].dropped["status_404"] > 0


# -- what comes out ------------------------------------------------------------------------------------------------


def test_every_reader_reads_the_warc_files(tmp_path: Path) -> None:
    from datatrove.pipeline.readers import WarcReader

    text = "<html><body>" + "Grüße aus Köln. " * 50 + "</body></html>"
    packed = Answer(
        gzip.compress(text.encode()), headers={"Content-Type": "text/html; charset=utf-8", "Content-Encoding": "gzip"}
    )
    answers = {
        "/": page("/packed", "/latin", "/chunked", "/moved"),
        "/packed": packed,
        "/latin": Answer(text.encode("latin-1"), headers={"Content-Type": "text/html; charset=iso-8859-1"}),
        "/chunked": Answer(
            lambda: iter([text[:99].encode(), text[99:].encode()]), headers={"Content-Type": "text/html"}
        ),
        "/moved": moved("/there"),
        "/there": page(),
    }
    with website(answers) as site:
        counters, found = run(config(site, max_warc_bytes=1500), tmp_path / "out")
    assert paths(found) == ["/", "/chunked", "/latin", "/packed", "/there"]
    assert found[f"{HOST}/packed"] == (200, "text/html; charset=utf-8", text.encode())
    assert found[f"{HOST}/chunked"][2] == text.encode()
    files = sorted((tmp_path / "out/warc").iterdir())
    assert counters.values["warc_files"] == len(files) >= 2
    assert [file.name for file in files] == [f"site-{i:05d}.warc.gz" for i in range(len(files))]
    records = read_by_all(files)
    kinds = [kind for kind, *_ in records]
    assert {url: payload for kind, _, url, payload in records if kind == "response"} == {
        url: body for url, (_, _, body) in found.items()
    }
    assert kinds.count("response") == kinds.count("request") == 5
    assert kinds.count("warcinfo") == len(files)
    assert kinds.count("metadata") == 1
    read = list(WarcReader(str(tmp_path / "out/warc")).run())
    assert {document.metadata["url"]: document.text for document in read} == {
        url: body.decode("latin-1" if url.endswith("/latin") else "utf-8") for url, (_, _, body) in found.items()
    }


def test_nothing_of_this_machine_is_in_the_warc_files(tmp_path: Path) -> None:
    with website({"/": page()}) as site:
        run(config(site), tmp_path / "out")
    (file,) = (tmp_path / "out/warc").iterdir()
    plain = gzip.GzipFile(fileobj=io.BytesIO(file.read_bytes())).read()
    assert b"WARC-Target-URI: http://site.test/\r\n" in plain
    for told in (str(site.port), "127.0.0.1", str(tmp_path)):
        assert told.encode() not in plain


# -- the config ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": []}, "seeds: give at least one"),
        ({"seeds": ["ftp://site.test/"]}, "not an http or https URL"),
        ({"contact": ""}, "contact: give"),
        ({"include": ["("]}, "not a regular expression"),
        ({"connect_to": {"site.test": "127.0.0.1"}}, "not address:port"),
        ({"max_total_bytes": 10}, "no page would fit"),
        ({"site": "pydoc"}, "is crawled at http://pydoc.localhost/ only"),
        ({"max_page": 3}, "max_page"),
        ({"delay_seconds": float("inf")}, "delay_seconds\n.*finite"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        config(**changes)


def test_how_a_crawl_is_run_does_not_enter_its_identity() -> None:
    usual = config().identity()
    how = config(
        concurrency=1, host_concurrency=1, delay_seconds=9, connect_to={"site.test": "10.0.0.1:80"}, contact="me"
    )
    assert how.identity() == usual
    assert config(snapshot="2026-11").identity() != usual
    assert config(max_pages=3).identity() != usual


def test_importing_the_step_loads_no_crawler() -> None:
    code = "import sys, tasks.crawl; print([m for m in ('scrapy', 'twisted', 'warcio', 'lxml') if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True).strip() == "[]"


# -- Python's own documentation ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_documentation_of_python_is_the_same_in_every_crawl(tmp_path: Path) -> None:
    telling = ("ctypes", "smtplib", "difflib", "os", "sysconfig")
    seeds = [f"http://pydoc.localhost/{name}.html" for name in ("topics", *telling)]
    cfg = CrawlConfig(kind="crawl", name="pydoc", site="pydoc", seeds=seeds, max_pages=90, max_depth=1)
    counters, found = run(cfg, tmp_path / "once")
    process = start(cfg, tmp_path / "again")
    frontier = tmp_path / "again.scratch" / "frontier.db"
    wait_for(lambda: len(decided(frontier)) > 20)
    offspring = children(process.pid)
    assert len(offspring) == 2  # the server and the fetching process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in offspring))
    _, again = run(cfg, tmp_path / "again")
    assert again == found
    assert counters.documents_out == 90
    assert len([url for url in found if "topic?key=" in url]) > 60
    assert b"arithmetic" in found["http://pydoc.localhost/topic?key=BINARY"][2]
    everything = b"".join(body for _, _, body in found.values())
    for told in (b"at&nbsp;0x", os.environ["PATH"].encode(), os.uname().release.encode(), *_homes()):
        assert told not in everything


def _homes() -> list[bytes]:
    """Where this Python is installed, if that says something, and the home of the person who runs it."""
    return [
        str(path).encode() for path in (sys.base_prefix, Path.home()) if str(path) not in ("/", "/usr", "/usr/local")
    ]


def test_of_the_documentation_only_topics_and_public_modules_are_crawled() -> None:
    from tasks.crawl.sites import pydoc_scope

    scope = re.compile(pydoc_scope())
    inside = ["topics.html", "index.html", "topic?key=BINARY", "os.html", "email.mime.text.html", "__future__.html"]
    outside = ["sys.html", "antigravity.html", "test.support.html", "_abc.html", "numpy.html", "idlelib.html"]
    outside += ["unittest.test.html", "get?key=os", "search?key=x", "os.html?x", "xml._private.html", "osx.html"]
    assert [name for name in inside if not scope.search(f"http://pydoc.localhost/{name}")] == []
    assert [name for name in outside if scope.search(f"http://pydoc.localhost/{name}")] == []
