"""Robots.txt as RFC 9309 has it, and sitemaps, in every shape in which servers send them; rates a host are kept."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.errors import DataError
from tests.tasks.crawls import HOST, config, log, paths, run
from tests.tasks.web_server import Answer, Website, moved, page, website

RULES = b"User-agent: *\nDisallow: /secret\n"
BOM = "\ufeff"
ALL, OPEN, NONE = ["/", "/a", "/secret"], ["/", "/a"], None


def endless() -> Iterator[bytes]:
    yield RULES
    while True:
        yield b"# " + b"x" * 65536 + b"\n"


def dead(_: int) -> Answer:
    raise ConnectionAbortedError


ROBOTS: dict[str, tuple[Answer | Callable[[int], Answer], list[str] | None]] = {
    "plain": (Answer(RULES), OPEN),
    "empty": (Answer(b""), ALL),
    "404": (Answer(b"gone", 404), ALL),
    "403": (Answer(b"no", 403), ALL),
    "500": (Answer(b"oh", 500), NONE),
    "503": (Answer(b"oh", 503), NONE),
    "dead": (dead, NONE),
    "garbage": (Answer(bytes(range(256)) * 40), ALL),
    "garbage, then rules": (Answer(b"\x80\xff\0<<<\nfoo: bar\n:\n\n" + RULES), OPEN),
    "an HTML page": (Answer(b"<!doctype html><p>Hello", headers={"Content-Type": "text/html"}), ALL),
    "CR line ends": (Answer(RULES.replace(b"\n", b"\r")), OPEN),
    "UTF-8 with a mark": (Answer((BOM + RULES.decode()).encode()), OPEN),
    "UTF-16": (Answer((BOM + RULES.decode()).encode("utf-16-le")), OPEN),
    "UTF-16, big end first": (Answer((BOM + RULES.decode()).encode("utf-16-be")), OPEN),
    "gzip": (Answer(gzip.compress(RULES), headers={"Content-Encoding": "gzip"}), OPEN),
    "huge, rules first": (Answer(RULES + b"# comment\n" * 2_000_000), OPEN),
    "huge, rules last": (Answer(b"# comment\n" * 2_000_000 + RULES), ALL),
    "endless": (Answer(endless), OPEN),
    "a bomb": (Answer(gzip.compress(b"#" * 80_000_000), headers={"Content-Encoding": "gzip"}), NONE),
    "redirected": (moved("/1"), OPEN),
    "redirected without end": (moved("/robots.txt"), ALL),
    "redirected nowhere": (moved("http://[bad"), ALL),
    "allow wins by length": (Answer(b"User-agent: *\nDisallow: /\nAllow: /$\nAllow: /a\n"), OPEN),
    "for us and for others": (Answer(b"User-agent: other\nDisallow: /\n\nUser-agent: MILLRACE\n" + RULES[14:]), OPEN),
}


def hosts_of(sites: dict[str, Website]) -> dict[str, str]:
    return {name: site.address for name, site in sites.items()}


def test_robots_txt_in_every_shape(tmp_path: Path) -> None:
    """One crawl of many hosts, each with its own robots.txt."""
    names = list(ROBOTS)
    with ExitStack() as stack:
        sites: dict[str, Website] = {}
        for number, name in enumerate(names):
            answers = {
                "/": page("/a", "/secret"),
                "/a": page(),
                "/secret": page(),
                "/1": moved("/2"),
                "/2": Answer(RULES),
            }
            sites[f"h{number}.test"] = stack.enter_context(website({**answers, "/robots.txt": ROBOTS[name][0]}))
        seeds = [f"http://{host}/" for host in sites]
        cfg = config(connect_to=hosts_of(sites), seeds=seeds, retries=0, concurrency=64, max_page_bytes=600_000)
        _, found = run(cfg, tmp_path / "out")
        got = {}
        for name, (host, site) in zip(names, sites.items(), strict=True):
            got[name] = sorted(url.removeprefix(f"http://{host}") for url in found if f"//{host}/" in url) or None
            assert not {"/a", "/secret"} - set(got[name] or ()) & set(site.pages()), name
    assert got == {name: ROBOTS[name][1] for name in names}


def test_a_sitemap_index_may_be_gzipped_and_sitemaps_may_be_text(tmp_path: Path) -> None:
    space = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
    index = f"<sitemapindex {space}>" + "".join(
        f"<sitemap><loc>{HOST}/{name}</loc></sitemap>"
        for name in ("list.txt", "loop.xml.gz", "broken.xml.gz", "junk.xml", "flate.xml.gz")
    )
    answers = {
        "/robots.txt": Answer(f"Sitemap: {HOST}/loop.xml.gz".encode()),
        "/loop.xml.gz": Answer(
            gzip.compress(f"{index}</sitemapindex>".encode()), headers={"Content-Type": "application/gzip"}
        ),
        "/list.txt": Answer(f"{HOST}/a\n{HOST}/b\n".encode(), headers={"Content-Type": "text/plain"}),
        "/broken.xml.gz": Answer(gzip.compress(b"<urlset>" + b"x" * 5000)[:40]),
        "/junk.xml": Answer(b"\0\1\2 not XML"),
        "/flate.xml.gz": Answer(gzip.compress(b"<urlset>")[:10] + b"\xff" * 40),
        **{path: page() for path in ("/", "/a", "/b")},
    }
    with website(answers) as site:
        _, found = run(config(site), tmp_path / "out")
    assert paths(found) == ["/", "/a", "/b"]
    said = log(tmp_path / "out")
    names = ("loop.xml.gz", "list.txt", "broken.xml.gz", "junk.xml", "flate.xml.gz")
    assert [said[f"{HOST}/{name}"]["reason"] for name in names] == ["sitemap"] * 2 + ["sitemap_invalid"] * 3
    assert site.times("/loop.xml.gz") == 1


def test_each_host_is_asked_at_its_own_rate(tmp_path: Path) -> None:
    """Measured by the servers: the delay of the recipe, a longer one of robots.txt, requests under way."""
    leaves = {f"/{i}": page() for i in range(6)}
    for leaf in leaves.values():
        leaf.wait = 0.1
    quick = {**leaves, "/": page(*leaves)}
    slow = {**quick, "/robots.txt": Answer(b"User-agent: *\nCrawl-delay: 0.4\n")}
    with website(quick) as first, website(slow) as second:
        hosts = {"quick.test": first.address, "slow.test": second.address}
        cfg = config(
            connect_to=hosts, seeds=[f"http://{host}/" for host in hosts], delay_seconds=0.15, host_concurrency=2
        )
        run(cfg, tmp_path / "out")
    for site, delay in ((first, 0.15), (second, 0.4)):
        times = [at for _, at in site.asked if _ != "/robots.txt"]
        assert len(times) == 7
        assert times[-1] - times[0] > 6 * delay * 0.8
        assert site.most_busy <= 2
    overlap = min(first.asked[-1][1], second.asked[-1][1]) - max(first.asked[0][1], second.asked[0][1])
    assert overlap > 0  # side by side


def test_a_robots_txt_is_read_again_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "age"
    folder.mkdir()
    shorter = "import tasks.crawl.politeness\ntasks.crawl.politeness.ROBOTS_SECONDS = 2.5\n"
    (folder / "sitecustomize.py").write_text(shorter)
    monkeypatch.syspath_prepend(str(folder))
    answers = {f"/{i}": page(f"/{i + 1}", f"/secret/{i}") for i in range(8)}
    for answer in answers.values():
        answer.wait = 0.5
    answers |= {f"/secret/{i}": page() for i in range(8)}
    with website({**answers, "/robots.txt": lambda before: Answer(RULES if before else b"")}) as site:
        counters, _ = run(config(site, seeds=[f"{HOST}/0"]), tmp_path / "out")
        second = [at for path, at in site.asked if path == "/robots.txt"][1]
        assert {path for path, at in site.asked if at > second and "secret" in path} == set()
        assert 1 <= len([path for path, _ in site.asked if "secret" in path]) < 8
    assert 0 < counters.dropped["robots"] < 8


def test_a_site_of_which_robots_txt_never_comes_is_left_alone(tmp_path: Path) -> None:
    with website({"/robots.txt": Answer(RULES, wait=3), "/": page()}) as site:
        with pytest.raises(DataError, match="timeout"):
            run(config(site, timeout_seconds=0.5, retries=0), tmp_path / "out")
        assert site.pages() == []
