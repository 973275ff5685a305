"""Pages to documents: clean text, every page accounted for, and no page that can stop the step."""

import hashlib
import json
import logging
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.artifacts import Attempt
from infra.errors import UserError
from infra.manifests import Counters, File
from tasks.documents import PAGES, document_id, iter_rows, write_parquet
from tasks.extract import ExtractConfig, extract
from tests.tasks.raw_archives import SENTENCE
from tests.tasks.raw_archives import page as html

EXTRACTORS = ["trafilatura", "resiliparse"]
both = pytest.mark.parametrize("extractor", EXTRACTORS)

ARTICLE = """<!doctype html><html lang="de"><head><meta charset="utf-8"><title>Die Mühle am Bach</title>
<meta property="article:published_time" content="2021-03-04T05:06:07+01:00">
<script>var tracking = "never shown";</script><style>p {{ color: red }}</style></head><body>
<nav><a href="/">Startseite</a> <a href="/kontakt">Kontakt</a></nav>
<article><h1>Die Mühle am Bach</h1><p>{first}</p><ul><li>Mahlstein aus Granit</li><li>Wasserrad aus Eiche</li></ul>
<table><tr><td>Gefälle</td><td>drei Meter</td></tr></table><p>{second}</p></article>
<footer>Impressum und Datenschutz</footer></body></html>"""
FIRST = "Das Wasser des Baches treibt seit vierhundert Jahren das Rad der Mühle, und das Rad treibt den Stein. " * 3
SECOND = "Heute mahlt hier niemand mehr, aber an jedem ersten Sonntag im Monat wird das Wehr geöffnet. " * 3


class Result:
    """What `extract` made of one file of pages."""

    def __init__(self, counters: Counters, out: Attempt) -> None:
        counters.check("extract")
        self.counters = counters
        self.documents, self.dropped, self.quarantine = (
            list(iter_rows(out.directory / folder / "part.parquet"))
            for folder in ("documents", "dropped", "quarantine")
        )

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.documents]


def page(i: int, body: bytes, kind: str = "html", **fields: Any) -> dict[str, Any]:
    return {
        "url": f"http://mill.example/{i}",
        "source": "web",
        "kind": kind,
        "content_type": "text/html",
        "body": body,
        "metadata": "{}",
        "file": "a.warc.gz",
        "offset": i * 100,
        **fields,
    }


def run(pages: list[dict[str, Any]], tmp_path: Path, name: str = "out", **config: Any) -> Result:
    path = tmp_path / "pages.parquet"
    write_parquet(path, pages, PAGES)
    out = Attempt.at(tmp_path / name)
    return Result(extract.fn(ExtractConfig(**config), File.of(path), out), out)


@pytest.fixture
def patched_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace, in the child process, the extractor by a function `extract(html, url)` given as source text."""

    def patch(source: str) -> None:
        folder = tmp_path / "patch"
        folder.mkdir(exist_ok=True)
        code = f"import tasks.extractors\nfrom tasks.extractors import Extraction\n{source}\n"
        (folder / "sitecustomize.py").write_text(f"{code}tasks.extractors.load = lambda options: extract\n")
        monkeypatch.syspath_prepend(str(folder))

    return patch


@both
def test_the_article_is_kept_and_what_is_around_it_is_not(tmp_path: Path, extractor: str) -> None:
    body = ARTICLE.format(first=FIRST, second=SECOND).encode()
    found = run(
        [page(0, body, licence=None, metadata='{"fetched":"2026-01-02T03:04:05Z"}')], tmp_path, extractor=extractor
    )
    (row,) = found.documents
    parts = ("Mahlstein aus Granit", "Gefälle | drei Meter")
    for text in (FIRST.strip(), SECOND.strip(), "Die Mühle am Bach", *parts):
        assert text in row["text"]
    for unwanted in ("tracking", "color: red", "Startseite", "Impressum"):
        assert unwanted not in row["text"]
    assert row["id"] == document_id(row["url"], row["text"])
    assert (row["date"], row["language"], row["source"], row["offset"]) == ("2021-03-04", None, "web", 0)
    metadata = json.loads(row["metadata"])
    assert metadata["title"] == "Die Mühle am Bach"
    assert metadata["html_language"] == "de"
    assert metadata["fetched"] == "2026-01-02T03:04:05Z"


@both
def test_what_the_source_says_comes_before_what_the_page_says(tmp_path: Path, extractor: str) -> None:
    body = ARTICLE.format(first=FIRST, second=SECOND).encode()
    fields = {"date": "1999-01-01", "licence": "CC0-1.0", "metadata": '{"title":"Given"}'}
    (row,) = run([page(0, body, **fields)], tmp_path, extractor=extractor).documents
    assert (row["date"], row["licence"], json.loads(row["metadata"])["title"]) == ("1999-01-01", "CC0-1.0", "Given")


@both
def test_every_page_is_accounted_for_in_order(tmp_path: Path, extractor: str) -> None:
    bodies = [html("One"), b"<html><body></body></html>", html("Two"), b"", html("Short", repeat=1), html("Three")]
    found = run([page(i, body) for i, body in enumerate(bodies)], tmp_path, extractor=extractor, min_characters=200)
    assert [row["url"][-1] for row in found.documents] == ["0", "2", "5"]
    assert [(row["url"][-1], row["reason"]) for row in found.dropped] == [
        ("1", "empty"),
        ("3", "empty"),
        ("4", "too_short"),
    ]
    assert found.counters.documents_in == 6


@both
def test_a_page_does_not_depend_on_those_before_it(tmp_path: Path, extractor: str) -> None:
    same = [page(i, html("Same")) for i in range(5)]
    found = run(same, tmp_path, extractor=extractor)
    assert len(found.texts) == 5
    assert len(set(found.texts)) == 1


@both
def test_the_same_pages_give_the_same_bytes(tmp_path: Path, extractor: str) -> None:
    pages = [page(i, html(f"Page {i}")) for i in range(8)]
    for name in ("a", "b"):
        run(pages, tmp_path, name, extractor=extractor)
    files = [sorted((tmp_path / name).rglob("*.parquet")) for name in ("a", "b")]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_the_words_are_those_of_trafilatura_itself(tmp_path: Path) -> None:
    """All of them and no others; only the layout is our own."""
    import trafilatura

    body = ARTICLE.format(first=FIRST, second=SECOND)
    for focus, switch in (
        ("balanced", {}),
        ("precision", {"favor_precision": True}),
        ("recall", {"favor_recall": True}),
    ):
        (text,) = run([page(0, body.encode())], tmp_path, focus, focus=focus).texts
        theirs = trafilatura.extract(body, include_comments=False, deduplicate=False, **switch)
        assert text.replace("|", "").split() == theirs.replace("|", "").split()


STRUCTURED = f"""<!doctype html><html><head><title>Mill</title></head><body><main><article><h1>The mill</h1>
<p>{FIRST} Call <code>turn()</code> and follow <a href="http://mill.example/hidden">the stream</a>.<br>A new line.</p>
<h2>Parts</h2><ol><li>The <b>wheel</b> of oak that turns in the water of the stream, day and night.</li>
<li>The stone of granite that grinds the corn between it and its brother below.</li></ol>
<ul><li>The weir, which holds the water back until it is needed, is first. {FIRST}</li>
<li>The race, which leads the water to the wheel, comes after. {FIRST}</li></ul>
<table><tr><th>Part</th><th>Made of</th></tr><tr><td>Wheel</td><td>oak <i>and</i> iron</td></tr>
<tr><td>Stone</td><td>granite</td></tr></table>
<img src="http://mill.example/hidden.png" alt="hidden picture">
<pre>def turn(wheel):
    if wheel.wet:
        return  "turns"

	stop()
</pre><pre><code><span class="k">for</span> stone <span>in</span> stones:
    grind(stone)
</code></pre><p>{FIRST}</p></article></main></body></html>"""


@both
def test_lists_tables_and_code_are_kept_as_readable_text_and_links_and_images_are_not(
    tmp_path: Path, extractor: str
) -> None:
    (text,) = run([page(0, STRUCTURED.encode())], tmp_path, extractor=extractor).texts
    lines = [line.rstrip() for line in text.splitlines()]
    for line in ("The mill", "Parts", "A new line.", "Part | Made of", "Wheel | oak and iron", "Stone | granite"):
        assert line in lines
    assert any(line.endswith("Call turn() and follow the stream.") for line in lines)
    assert [line.lstrip()[:12] for line in lines if "oak that" in line or "granite that" in line] == [
        "1. The wheel",
        "2. The stone",
    ]
    bullet = {"trafilatura": "- ", "resiliparse": "• "}[extractor]
    assert [line.lstrip()[:10] for line in lines if line.lstrip().startswith(bullet)] == [
        f"{bullet}The weir",
        f"{bullet}The race",
    ]
    code = 'def turn(wheel):\n    if wheel.wet:\n        return  "turns"\n\n\tstop()\n'
    assert code in text
    assert "for stone in stones:\n    grind(stone)\n" in text
    assert "hidden" not in text


@both
def test_nested_lists_are_indented(tmp_path: Path, extractor: str) -> None:
    items = f"<ol start=3><li>{FIRST}<ol><li>{SECOND}</li></ol></li><li>Last of the stones. {SECOND}</li></ol>"
    body = f"<html><body><article><p>{FIRST}</p>{items}</article></body></html>"
    (text,) = run([page(0, body.encode())], tmp_path, extractor=extractor).texts
    depths = [len(line) - len(line.lstrip()) for line in text.splitlines() if line.lstrip()[1:3] == ". "]
    assert depths[1] > depths[0] == depths[2]


def test_words_of_code_are_set_apart_from_those_around_them(tmp_path: Path) -> None:
    inside = "after <code>next-line</code> and (<code>previous-line</code>) — <code>more</code>, so"
    body = f"<html><body><article><p>{FIRST} {inside}</p><ul><li>Item: {inside}</li></ul>"
    (text,) = run([page(0, f"{body}<blockquote>Said: {inside}</blockquote></article></body></html>".encode())],
                  tmp_path).texts  # fmt: skip
    plain = "after next-line and (previous-line) — more, so"
    assert [line.partition(plain)[0][-6:] for line in text.splitlines() if plain in line] == [
        f"{FIRST}"[-6:],
        "Item: ",
        "Said: ",
    ]


@both
def test_soft_hyphens_are_no_part_of_the_text(tmp_path: Path, extractor: str) -> None:
    (text,) = run(
        [page(0, html("Müh­len").replace(b"wheel", "whe\u00adel".encode()))], tmp_path, extractor=extractor
    ).texts
    assert "wheel of a mill" in text
    assert "\u00ad" not in text


LICENCES = {
    '<link rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">': "CC-BY-SA-4.0",
    '<script type="application/ld+json">{"license": "https://creativecommons.org/publicdomain/zero/1.0/"}</script>': (
        "CC0-1.0"
    ),
    '<meta name="DC.rights" content="MIT">': "MIT",
    '<meta name="DC.rights" content="© 2020 The Mill. All rights reserved.">': None,
}


@both
@pytest.mark.parametrize("head", LICENCES)
def test_the_licence_that_a_page_declares_is_found(tmp_path: Path, extractor: str, head: str) -> None:
    body = html("Mill").replace(b"<title>", head.encode() + b"<title>")
    (row,) = run([page(0, body)], tmp_path, extractor=extractor).documents
    assert row["licence"] == LICENCES[head]


@both
def test_the_licence_that_a_link_names_is_found(tmp_path: Path, extractor: str) -> None:
    for link, licence in {
        '<a rel="nofollow license" href="/terms">Open Mill Licence 2</a>': "Open Mill Licence 2",
        '<footer><a href="https://creativecommons.org/licenses/by/3.0/">terms</a></footer>': "CC-BY-3.0",
        '<p><a href="https://creativecommons.org/licenses/by/3.0/">of somebody else</a></p>': None,
    }.items():
        body = html("Mill").replace(b"</body>", link.encode() + b"</body>")
        (row,) = run([page(0, body)], tmp_path, extractor=extractor).documents
        assert row["licence"] == licence, link


def test_dates_do_not_depend_on_today(tmp_path: Path) -> None:
    body = ARTICLE.format(first=FIRST, second=SECOND).replace("2021-03-04T", "2029-03-04T").encode()
    assert [row["date"] for row in run([page(0, body)], tmp_path).documents] == ["2029-03-04"]
    (row,) = run([page(0, body)], tmp_path, "bounded", latest_date="2025-01-01").documents
    assert row["date"] is None
    (row,) = run([page(0, html("No date"))], tmp_path, "none").documents
    assert row["date"] is None


def test_a_page_that_declares_a_codec_of_python_is_not_decoded_by_it(tmp_path: Path) -> None:
    text = "A path such as C:\\new\\table stays as it is, caf\xe9 too. " * 5
    (row,) = run([{**page(0, text.encode("cp1252")), "kind": "text", "charset": "unicode_escape"}], tmp_path).documents
    assert "C:\\new\\table" in row["text"]


def test_a_latest_date_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(ValidationError, match="latest_date"):
        ExtractConfig.model_validate({"latest_date": "2030-02-31"})


def test_a_latest_date_enters_the_identity_as_text() -> None:
    cfg = ExtractConfig.model_validate({"latest_date": "2025-01-01"})
    assert cfg.identity()["latest_date"] == "2025-01-01"
    assert ExtractConfig.model_validate_json(cfg.model_dump_json()) == cfg


@both
@pytest.mark.parametrize(
    ("encoding", "declared", "meta"),
    [
        ("utf-8", "iso-8859-1", None),  # declared wrongly: the bytes are valid UTF-8
        ("windows-1250", "windows-1250", None),
        ("windows-1250", None, "windows-1250"),
        ("windows-1250", "no-such-charset", "windows-1250"),
        ("utf-16", None, None),
        ("utf-16-le", "utf-16", None),
        ("utf-8-sig", "ascii", "ascii"),
    ],
)
def test_charsets_are_found(
    tmp_path: Path, extractor: str, encoding: str, declared: str | None, meta: str | None
) -> None:
    text = "Příliš žluťoučký kůň úpěl ďábelské ódy, a mlýnské kolo se přitom stále otáčelo. " * 5
    head = f'<meta charset="{meta}">' if meta else ""
    body = f"<html><head>{head}<title>Kůň</title></head><body><main><p>{text}</p></main></body></html>".encode(encoding)
    found = run([page(0, body, charset=declared)], tmp_path, extractor=extractor)
    assert [text.strip() in row for row in found.texts] == [True], found.texts


def test_plain_text_passes_unchanged(tmp_path: Path) -> None:
    texts = ["First Citizen:\nBefore we proceed\r\n\r\n  any further\t", "a\0b\x0b and more", "\ufffe x", " \n "]
    pages = [page(i, text.encode(), kind="text", charset="utf-8") for i, text in enumerate(texts)]
    pages.append(page(4, b"\xef\xbb\xbfafter a mark", kind="text"))
    found = run(pages, tmp_path)
    assert found.texts == [*texts[:3], "after a mark"]
    assert found.counters.dropped == {"empty": 1}


NASTY: dict[str, bytes] = {
    "NUL bytes": html("Nul").replace(b"mill", b"mi\0ll") + b"\0" * 1000,
    "10,000 deep": b"<div>" * 10_000 + SENTENCE.encode() * 5 + b"</div>" * 10_000,
    "100,000 open spans": b"<html><body>" + b"<span>" * 100_000 + SENTENCE.encode() * 5,
    "a line of megabytes": b"<html><body><p>" + b"word " * 600_000 + b"</p></body></html>",
    "no tags at all": SENTENCE.encode() * 100,
    "only attributes": b"<p " + b"a=1 " * 100_000 + b">" + SENTENCE.encode() * 5,
    "unclosed comment": b"<html><body><!-- " + b"x" * 1_000_000,
    "random bytes": hashlib.shake_256(b"mill").digest(200_000),
    "lone surrogates": b"<p>&#xD800; &#xDFFF; &#x110000; &#0; " + SENTENCE.encode() * 5,
    "XHTML with an encoding": b'<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>'
    + SENTENCE.encode() * 5
    + b"</p></body></html>",
    "entities": b"<!DOCTYPE html [" + b"<!ENTITY a '&a;&a;'>" * 100 + b"]><p>&a;</p>" + SENTENCE.encode() * 5,
    "many links": b"<html><body>" + b'<a href="x">x</a>' * 50_000,
    "broken JSON-LD": b'<html><head><script type="application/ld+json">{"@type": [[[[</script></head>' + html("x"),
}


@pytest.mark.slow
@both
def test_nasty_pages_neither_hang_nor_crash_nor_vanish(tmp_path: Path, extractor: str) -> None:
    pages = [page(i, body, metadata=json.dumps({"case": name})) for i, (name, body) in enumerate(NASTY.items())]
    pages.append(page(99, html("After all of them")))
    begun = time.monotonic()
    found = run(pages, tmp_path, extractor=extractor, timeout_seconds=5)
    assert time.monotonic() - begun < 500
    assert found.counters.documents_in == len(NASTY) + 1
    assert "After all of them" in found.texts[-1]
    kept = {json.loads(row["metadata"]).get("case") for row in found.documents}
    assert {"NUL bytes", "XHTML with an encoding", "broken JSON-LD", "a line of megabytes"} <= kept


@both
@pytest.mark.parametrize("start", ["", "<p>", "<div>" * 1000 + "<p>", "<?xml version='1.0' encoding='utf-8'?><p>"])
def test_no_page_with_text_comes_out_empty_or_cut(tmp_path: Path, extractor: str, start: str) -> None:
    """What libxml2 leaves out of what is nested more than 256 deep, and what trafilatura refuses as no HTML."""
    body = f"{start}{FIRST}</p>{'</div>' * start.count('div')}<p>{SECOND}</p>".encode()
    (text,) = run([page(0, body)], tmp_path, extractor=extractor).texts
    assert FIRST.strip() in text
    assert SECOND.strip() in text


def test_a_page_that_is_nested_too_deep_for_the_parser_is_quarantined_not_cut(tmp_path: Path) -> None:
    found = run([page(0, b"<p>%s</p>" % FIRST.encode() + b"<div>" * 10_000 + SECOND.encode())], tmp_path)
    assert found.counters.errors == {"nested_too_deep": 1}


HANG = """
import re
def extract(html, url):
    if "hang" in html:
        re.match(r"(a+)+$", "a" * 60 + "b")
    return Extraction(html)
"""


def test_a_page_that_hangs_is_quarantined_and_the_next_goes_on(
    tmp_path: Path, patched_child: Any, caplog: pytest.LogCaptureFixture
) -> None:
    patched_child(HANG)  # a regular expression that holds the interpreter's lock for years
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        found = run([page(0, b"one"), page(1, b"hang"), page(2, b"two")], tmp_path, timeout_seconds=0.5)
    assert time.monotonic() - begun < 200
    assert found.texts == ["one", "two"]
    (entry,) = found.quarantine
    assert (entry["url"], entry["file"], entry["offset"]) == ("http://mill.example/1", "a.warc.gz", 100)
    assert (entry["error"], entry["stage"]) == ("timeout: no result after 0.5 s", "extract")
    assert found.counters.errors == {"timeout": 1}
    assert [record.message for record in caplog.records] == [
        "http://mill.example/1: not extracted, timeout: no result after 0.5 s"
    ]


def test_a_page_that_sleeps_for_ever_is_quarantined_too(tmp_path: Path, patched_child: Any) -> None:
    patched_child(
        "import time\ndef extract(html, url):\n    if 'sleep' in html: time.sleep(9999)\n    return Extraction(html)"
    )
    found = run([page(0, b"sleep"), page(1, b"two")], tmp_path, timeout_seconds=0.2)
    assert found.texts == ["two"]
    assert found.counters.errors == {"timeout": 1}


def test_the_limit_is_of_the_page_not_of_the_machine(tmp_path: Path, patched_child: Any) -> None:
    patched_child("import time\ndef extract(html, url):\n    time.sleep(0.6)\n    return Extraction(html)")
    assert run([page(0, b"slow because others run")], tmp_path, timeout_seconds=0.3).counters.quarantined == 0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os, signal\ndef extract(html, url):\n    os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
        ("import os\ndef extract(html, url):\n    os._exit(3)", "crashed"),
        ("def extract(html, url):\n    bytearray(10**12)", "MemoryError"),
        ("def extract(html, url):\n    return extract(html, url)", "RecursionError"),
        ("def extract(html, url):\n    raise KeyError('no\\nsuch')", "KeyError"),
    ],
)
def test_whatever_a_page_does_is_its_own_fault(tmp_path: Path, patched_child: Any, source: str, reason: str) -> None:
    good = "good = lambda html: Extraction(html)\n"
    call = source.replace(
        "def extract(html, url):\n", 'def extract(html, url):\n    if "bad" not in html: return good(html)\n'
    )
    patched_child(good + call)
    pages = [page(i, b"bad" if i in (1, 2) else b"fine") for i in range(4)]
    found = run(pages, tmp_path)
    assert found.texts == ["fine", "fine"]
    assert found.counters.errors == {reason: 2}
    assert all("\n" not in row["error"] for row in found.quarantine)


WEAR = """
import os
seen = []
def extract(html, url):
    seen.append(1)
    if len(seen) > 3:
        os._exit(1)
    return Extraction(html)
"""


def test_an_error_that_earlier_pages_caused_is_not_held_against_a_page(tmp_path: Path, patched_child: Any) -> None:
    patched_child(WEAR)
    found = run([page(i, b"x%d" % i) for i in range(10)], tmp_path)
    assert found.texts == [f"x{i}" for i in range(10)]


ENDLESS = """
import os
def extract(html, url):
    with open({pid_file!r}, "w") as stream:
        stream.write(str(os.getpid()))
    while "hang" in html:
        pass
    return Extraction(html)
"""
STEP = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from infra.artifacts import Attempt
from infra.manifests import File
from tasks.extract import ExtractConfig, extract
extract.fn(ExtractConfig(timeout_seconds=600), File.of(Path({pages!r})), Attempt.at(Path({out!r})))
"""


def test_the_child_is_gone_when_the_step_is(tmp_path: Path, patched_child: Any) -> None:
    pid_file = tmp_path / "pid"
    patched_child(ENDLESS.format(pid_file=str(pid_file)))
    run([page(0, b"fine")], tmp_path)
    assert not _alive(int(pid_file.read_text()))
    pid_file.unlink()
    pages = tmp_path / "hang.parquet"
    write_parquet(pages, [page(0, b"hang")], PAGES)
    code = STEP.format(path=[entry for entry in sys.path if entry], pages=str(pages), out=str(tmp_path / "killed"))
    step = subprocess.Popen([sys.executable, "-c", code])
    try:
        _wait_for(lambda: pid_file.exists() and bool(pid_file.read_text()))
    finally:
        step.kill()
        step.wait()
    _wait_for(lambda: not _alive(int(pid_file.read_text())))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(condition: Any, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_missing_package_fails_the_step_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "lxml_html_clean.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'lxml_html_clean'\", name='lxml_html_clean')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "hide"))
    with pytest.raises(UserError) as raised:
        run([page(0, html("One"))], tmp_path)
    message = str(raised.value)
    assert message.startswith("extract.extractor: trafilatura cannot be imported (ImportError: ")
    assert message.endswith("python -m pip install lxml_html_clean")
    assert "\n" not in message
    assert run([page(0, html("One"))], tmp_path, "other", extractor="resiliparse").counters.documents_out == 1


OTHER_VERSION = """
import trafilatura, types
extract = trafilatura.bare_extraction
def other(*args, **kwargs):
    result = extract(*args, **kwargs)
    return {result}
trafilatura.bare_extraction = other
"""


@pytest.mark.parametrize(
    ("result", "trouble"),
    [
        ("types.SimpleNamespace(**result)", None),  # as of version 2
        ("None", "it finds no text in a page that has some"),
        ('{**result, "body": None}', "AttributeError: 'NoneType' object has no attribute"),
        ("result['text']", "AttributeError: 'str' object has no attribute 'body'"),
        ("extract(no_such_argument=1)", "TypeError: bare_extraction() got an unexpected keyword argument"),
    ],
)
def test_a_version_of_an_extractor_that_does_not_work_here_loses_no_page_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, trouble: str | None
) -> None:
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(OTHER_VERSION.format(result=result))
    monkeypatch.syspath_prepend(str(tmp_path / "patch"))
    if trouble is None:
        assert "One" in run([page(0, html("One"))], tmp_path).texts[0]
        return
    with pytest.raises(UserError) as raised:
        run([page(0, html("One"))], tmp_path)
    message = str(raised.value)
    assert message.startswith("extract.extractor: this version cannot be used, trafilatura 1.")
    assert trouble in message
    assert "\n" not in message


@both
def test_another_version_of_an_extractor_is_another_identity(monkeypatch: pytest.MonkeyPatch, extractor: Any) -> None:
    """Documents of one version are not served from cache to who has another."""
    from tasks import extractors

    cfg = ExtractConfig(extractor=extractor)
    before = cfg.identity()
    assert before["packages"][extractor] == version(extractor)
    versions = {**extractors.package_versions(extractor), extractor: "99.0"}
    monkeypatch.setattr("tasks.extract.step.package_versions", lambda *names: versions)
    assert cfg.identity() == {**before, "packages": versions}


def test_a_page_in_which_the_extractor_finds_nothing_is_given_to_the_other_where_the_recipe_says_so(
    tmp_path: Path,
) -> None:
    only_in_a_menu = f"<html><body><nav><ul><li>{FIRST}</li></ul></nav></body></html>"
    pages = [page(0, only_in_a_menu.encode()), page(1, html("One")), page(2, b"<html><body></body></html>")]
    found = run(pages, tmp_path, extractor="resiliparse")
    assert found.counters.dropped == {"empty": 2}
    found = run(pages, tmp_path, "other", extractor="resiliparse", fallback="trafilatura")
    assert FIRST.strip() in found.texts[0]
    assert [json.loads(row["metadata"]).get("extractor") for row in found.documents] == ["trafilatura", None]
    assert found.counters.dropped == {"empty": 1}
    cfg = ExtractConfig(extractor="resiliparse", fallback="trafilatura")
    assert {"resiliparse", "trafilatura"} <= set(cfg.identity()["packages"])


def test_plain_text_needs_no_extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.extract.sandbox.Sandbox._start", lambda self: pytest.fail("a child was started"))
    assert run([page(0, b"text", kind="text")], tmp_path).texts == ["text"]


def test_a_step_in_which_no_page_gives_text_fails_its_gate(tmp_path: Path) -> None:
    from infra.errors import DataError

    found = run([page(i, b"<html></html>") for i in range(3)], tmp_path)
    with pytest.raises(DataError, match=r"empty \(3\), e\.g\. http://mill\.example/0"):
        ExtractConfig().gate.check("extract", found.counters)


def test_no_pages_give_an_empty_file(tmp_path: Path) -> None:
    found = run([], tmp_path)
    assert (found.documents, found.counters.documents_in) == ([], 0)


@pytest.mark.parametrize(
    ("extractor", "golden"), [("trafilatura", "c6ea1181aa00f8e5"), ("resiliparse", "7f8303f3d0b4debc")]
)
def test_the_output_of_this_version_of_the_step(tmp_path: Path, extractor: str, golden: str) -> None:
    """Golden: if this fails, what `extract` makes has changed, and its `version` must grow."""
    body = ARTICLE.format(first=FIRST, second=SECOND).encode()
    found = run([page(0, body), page(1, html("One")), page(2, b"")], tmp_path, extractor=extractor)
    rows = json.dumps([found.documents, found.dropped], sort_keys=True)
    assert (extract.version, hashlib.sha256(rows.encode()).hexdigest()[:16]) == (5, golden)
