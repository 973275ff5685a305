"""PDF and EPUB to documents: their text in reading order, what they say about themselves, and no file that can hurt."""

import io
import json
import re
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.artifacts import Attempt
from infra.manifests import File
from tasks.documents import PAGES, iter_rows, write_parquet
from tasks.extract import ExtractConfig, extract
from tasks.extractors import Extraction, Options, UnreadableError, of_epub, reader
from tasks.ingest import IngestConfig, WarcSource, ingest
from tests.tasks import raw_archives
from tests.tasks.book_files import CHAPTER, CONTAINER, epub, pdf

OPTIONS = Options("trafilatura", "balanced", True, False, True, "2030-12-31")
INFORMATION = {"Title": "The Mill", "Author": "A. Miller", "CreationDate": "D:20200102030405+01'00'"}
DUBLIN_CORE = """<dc:title>The Mill</dc:title><dc:creator>A. Miller</dc:creator><dc:creator>B. Wright</dc:creator>
<dc:language>en-GB</dc:language><dc:date opf:event="creation">1998</dc:date>
<dc:date opf:event="publication">2001-02-03T00:00:00Z</dc:date>
<dc:rights>Free under https://creativecommons.org/licenses/by-sa/4.0/ for all.</dc:rights>"""


def read(kind: str, body: bytes, options: Options = OPTIONS) -> Extraction:
    return reader(kind, options)(body, None, "mill/book")


def reason(kind: str, body: bytes) -> str:
    with pytest.raises(UnreadableError) as raised:
        read(kind, body)
    assert "\n" not in str(raised.value)
    return raised.value.reason


def test_the_pages_of_a_pdf_are_read_in_order_with_what_it_says_of_itself() -> None:
    found = read("pdf", pdf([["The mill", "It turns."], ["The (second) page", "C:\\mill"]], INFORMATION))
    assert found.text == "The mill\nIt turns.\nThe (second) page\nC:\\mill"
    assert (found.date, found.metadata) == ("2020-01-02", {"title": "The Mill", "author": "A. Miller"})


def test_the_lines_of_a_paragraph_become_one_and_divided_words_whole() -> None:
    lines = [
        "The wheel of the mill turns in the water of the stream, and is a won-",
        "derful sight. The well-known stones grind, and the well-",
        "known stones stand still; that is the way of stones and of Anglo-",
        "Saxon millers, each of them OP-",
        "TIONAL.",
        "Another paragraph begins here, and it is as long as the one before was.",
        "It ends.",
        "- an item of a list that is long enough to fill the whole line, nearly",
        "- another item",
        "Roses are red,",
        "Violets are blue,",
    ]
    assert read("pdf", pdf([lines])).text.split("\n") == [
        "The wheel of the mill turns in the water of the stream, and is a wonderful sight. The well-known stones grind,"
        " and the well-known stones stand still; that is the way of stones and of Anglo-Saxon millers, each of"
        " them OPTIONAL.",
        "Another paragraph begins here, and it is as long as the one before was. It ends.",
        "- an item of a list that is long enough to fill the whole line, nearly",
        "- another item",
        "Roses are red,",
        "Violets are blue,",
    ]


def test_ligatures_become_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    import pypdfium2

    monkeypatch.setattr(pypdfium2.PdfTextPage, "get_text_range", lambda page: "e\ufb03cient \ufb02ow\r\n")
    assert read("pdf", pdf([["x"]])).text == "efficient flow"


@pytest.mark.parametrize(
    ("day", "found"),
    [
        ("D:20200102", "2020-01-02"),
        ("D:2020", "2020-01-01"),
        ("20200102", "2020-01-02"),
        ("D:20201399", None),
        ("D:20990101", None),
        ("yesterday", None),
    ],
)
def test_the_date_of_a_pdf_is_one_of_the_calendar_and_not_of_the_future(day: str, found: str | None) -> None:
    assert read("pdf", pdf([["x"]], {"CreationDate": day})).date == found


def test_pdfs_that_cannot_be_read_say_why() -> None:
    whole = pdf([["The mill"]] * 3, INFORMATION)
    assert reason("pdf", pdf([["secret"]], password="open sesame")) == "encrypted"
    assert reason("pdf", whole[: len(whole) // 2]) == "truncated_pdf"
    assert reason("pdf", b"%PDF-1.4\nnothing at all\n%%EOF") == "damaged_pdf"
    assert reason("pdf", b"") == "truncated_pdf"
    assert reason("pdf", whole.replace(b"/Type /Page ", b"/Type /Pagx ").replace(b"/Kids", b"/Kidz")) == "damaged_pdf"


def test_a_scan_without_text_is_dropped_for_that(tmp_path: Path) -> None:
    documents, dropped, _ = step(tmp_path, [("pdf", pdf([[], []]))])
    assert (documents, [row["reason"] for row in dropped]) == ([], ["no_text_layer"])


def test_the_chapters_of_a_book_are_read_in_the_order_of_the_spine() -> None:
    chapters = {
        "z.xhtml": "<h1>First</h1><p>One &amp; only&nbsp;one, caf&eacute;.</p>",
        "text/a%20b.xhtml": "<p>Second, in <em>italics</em>, with <a href='http://mill.example/hidden'>a link</a>.</p>",
        "not-read.xhtml": "<p>Outside of the spine.</p>",
    }
    book = epub(chapters, DUBLIN_CORE, spine=list(chapters)[:2], files={"OPS/text/a b.xhtml": chapter("<p>Second</p>")})
    found = read("epub", book)
    assert found.text == "First\nOne & only one, café.\n\nSecond"
    assert (found.date, found.licence) == ("2001-02-03", "CC-BY-SA-4.0")
    assert found.metadata == {"title": "The Mill", "author": "A. Miller; B. Wright", "language": "en-GB"}
    assert read("epub", epub({"a": "<p>x</p>"}, "<dc:rights>Public domain in the USA.</dc:rights>")).licence == (
        "Public domain in the USA."
    )


def chapter(body: str) -> bytes:
    return CHAPTER.format(body=body).encode()


def test_headings_lists_tables_and_code_of_a_book_are_readable() -> None:
    body = """<h2>Parts of a <i>mill</i></h2><ol start="2"><li>wheel<ul><li>spokes</li></ul></li><li><p>stone</p>
    <p>of granite</p></li></ol><table><thead><tr><th>Part</th><th>Of</th></tr></thead><tbody><tr><td>wheel</td>
    <td>oak<br/>and <b>iron</b></td></tr></tbody></table><pre>def turn():
    return  1

\tstop()</pre><p>Call <code>turn()</code> now.<br/>Or<img src="x" alt="hidden"/> later.</p><script>hidden()</script>
    <dl><dt>weir</dt><dd>holds the water</dd></dl><ruby>水<rt>hidden</rt></ruby>"""
    assert read("epub", epub({"a.xhtml": body})).text.split("\n") == [
        "Parts of a mill",
        "2. wheel",
        "  - spokes",
        "3. stone",
        "  of granite",
        "Part | Of",
        "wheel | oak and iron",
        "def turn():",
        "    return  1",
        "",
        "\tstop()",
        "Call turn() now.",
        "Or later.",
        "weir",
        "- holds the water",
        "水",
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b"<html><head><title/><script src='x'/></head><body><p>un<br>closed &hellip; <b>tags</body>",
            "un\nclosed … tags",
        ),
        ('<?xml version="1.0" encoding="windows-1252"?><html><body><p>café</p></body></html>'.encode("cp1252"), "café"),
        (
            b'<!DOCTYPE html [<!ENTITY a "&b;&b;"><!ENTITY b "bomb">]><html><body><p>&a; text</p></body></html>',
            "&a; text",
        ),
        (b"<html><body>" + b"<div>" * 1000 + b"deep" + b"</div>" * 1000 + b"</body></html>", "deep"),
        (b"no markup", "no markup"),
        (b" ", ""),
        (b"", ""),
        (b"<html><body><p>nul\0l</p></body></html>", "null"),
    ],
)
def test_chapters_that_are_no_xhtml_are_read_as_well_as_can_be(body: bytes, text: str) -> None:
    assert read("epub", epub({"a.xhtml": body})).text == text


def test_books_that_cannot_be_read_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def encryption(algorithm: str) -> dict[str, str | bytes]:
        return {"META-INF/encryption.xml": f'<encryption><EncryptionMethod Algorithm="{algorithm}"/></encryption>'}

    fine = {"a.xhtml": "<p>text</p>"}
    assert reason("epub", b"no zip file") == "damaged_epub"
    assert reason("epub", epub(fine)[:-30]) == "damaged_epub"
    assert reason("epub", epub(fine, leave_out=["META-INF/container.xml"])) == "missing_package"
    assert reason("epub", epub(fine, leave_out=["OPS/book.opf"])) == "missing_package"
    assert reason("epub", epub(fine, leave_out=["OPS/a.xhtml"])) == "damaged_epub"
    assert reason("epub", epub(fine, files={"OPS/book.opf": "<package"})) == "damaged_epub"
    assert reason("epub", epub({"a.xhtml": b"<div>" * 5000 + b"text"})) == "nested_too_deep"
    assert reason("epub", epub(fine, files=encryption("http://www.w3.org/2001/04/xmlenc#aes128-cbc"))) == "encrypted"
    assert read("epub", epub(fine, files=encryption("http://www.idpf.org/2008/embedding"))).text == "text"
    assert reason("epub", epub(fine, files={"../../etc/cron.d/x": "x"})) == "unsafe_path"
    assert reason("epub", epub(fine, files={"META-INF/container.xml": CONTAINER.format(path="/etc/passwd")})) == (
        "unsafe_path"
    )
    assert reason("epub", epub({"../../../etc/passwd": "x"}, files={})) == "unsafe_path"
    monkeypatch.setattr(of_epub, "MAX_ENTRIES", 3)
    assert reason("epub", epub(fine)) == "too_large"


def test_a_bomb_is_not_decompressed() -> None:
    bomb = epub({"a.xhtml": b"<p>" + b"x " * (of_epub.MAX_FILE_BYTES // 2)})
    assert len(bomb) < 100_000
    assert reason("epub", bomb) == "too_large"
    half = {f"{i}.xhtml": b"<p>" + b"x" * (of_epub.MAX_FILE_BYTES - 9) for i in range(9)}
    assert reason("epub", epub(half)) == "too_large"
    lying = bytearray(bomb)
    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        entry = archive.getinfo("OPS/a.xhtml")
    size = entry.file_size.to_bytes(4, "little")
    assert lying.count(size) >= 2
    assert reason("epub", bytes(lying).replace(size, (1000).to_bytes(4, "little"))) in ("too_large", "damaged_epub")


def step(tmp_path: Path, bodies: list[tuple[str, bytes]], **config: Any) -> tuple[list[Any], list[Any], list[Any]]:
    rows = [
        {"url": f"mill/{i}", "source": "mill", "kind": kind, "content_type": "", "body": body, "metadata": "{}",
         "file": f"{i}.{kind}", "offset": 0}
        for i, (kind, body) in enumerate(bodies)
    ]  # fmt: skip
    path = tmp_path / "pages.parquet"
    write_parquet(path, rows, PAGES)
    out = Attempt.at(tmp_path / "out")
    counters = extract.fn(ExtractConfig(**config), File.of(path), out)
    counters.check("extract")
    assert counters.documents_in == len(bodies)
    documents, dropped, quarantine = (
        list(iter_rows(out.directory / folder / "part.parquet")) for folder in ("documents", "dropped", "quarantine")
    )
    return documents, dropped, quarantine


def test_books_go_through_the_step_with_everything_else(tmp_path: Path) -> None:
    documents, dropped, quarantine = step(
        tmp_path,
        [
            ("text", b"plain"),
            ("pdf", pdf([["From a PDF"]], INFORMATION)),
            ("epub", epub({"a.xhtml": "<p>From a book</p>"}, DUBLIN_CORE)),
            ("pdf", pdf([["x"]], password="secret")),
            ("epub", epub({"a.xhtml": ""})),
        ],
    )
    assert [(row["text"], row["date"], row["licence"]) for row in documents] == [
        ("plain", None, None),
        ("From a PDF", "2020-01-02", None),
        ("From a book", "2001-02-03", "CC-BY-SA-4.0"),
    ]
    assert json.loads(documents[2]["metadata"])["title"] == "The Mill"
    assert [(row["url"], row["reason"]) for row in dropped] == [("mill/4", "empty")]
    assert [(row["url"], row["error"]) for row in quarantine] == [
        ("mill/3", "encrypted: the PDF file needs a password")
    ]


def test_a_page_that_inflates_beyond_its_memory_is_quarantined_and_the_next_file_is_read(tmp_path: Path) -> None:
    inflated = zlib.compressobj(9)
    data = b"".join(inflated.compress(b"(x) Tj " * 2**20) for _ in range(80)) + inflated.flush()
    assert len(data) < 4_000_000
    bomb = pdf([["The mill"]]).replace(b"<< /Length ", b"<< /Filter /FlateDecode /Length ")
    start, end = bomb.index(b"BT /F1"), bomb.index(b"\nendstream")
    bomb = re.sub(rb"/Length \d+", b"/Length %d" % len(data), bomb[:start]) + data + bomb[end:]
    documents, _, quarantine = step(tmp_path, [("pdf", bomb), ("pdf", pdf([["After it"]]))], memory_bytes=300_000_000)
    assert [row["text"] for row in documents] == ["After it"]
    assert [row["error"].partition(":")[0] for row in quarantine] == ["crashed"]


def test_a_package_that_books_need_and_that_is_missing_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    from infra.errors import UserError

    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "pypdfium2.py").write_text("raise ModuleNotFoundError('No module', name='pypdfium2')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "hide"))
    with pytest.raises(UserError, match=r"^extract: what reads pages of kind pdf .* python -m pip install pypdfium2$"):
        step(tmp_path, [("pdf", pdf([["x"]]))])
    assert len(step(tmp_path, [("epub", epub({"a.xhtml": "<p>x</p>"}))])[0]) == 1


ARCHIVED = [
    ("http://mill.example/a.html", raw_archives.page("Mill"), "text/html"),
    ("http://mill.example/a.pdf", pdf([["From a PDF"]]), "application/pdf"),
    ("http://mill.example/b", pdf([["Declared as something else"]]), "application/octet-stream"),
    ("http://mill.example/c.pdf", b"\r\n" + pdf([["Behind a line end"]]), "application/pdf"),
    ("http://mill.example/a.epub", epub({"a.xhtml": "<p>From a book</p>"}), "application/epub+zip"),
    ("http://mill.example/b.zip", epub({"a.xhtml": "<p>Declared as an archive</p>"}), "application/zip"),
    ("http://mill.example/c.zip", b"PK\x03\x04" + bytes(100), "application/zip"),
    ("http://mill.example/d.pdf", b"no PDF", "application/pdf"),
    ("http://mill.example/a.txt", b"plain text", "text/plain"),
]


def archived(tmp_path: Path, **fields: Any) -> tuple[list[Any], list[Any], IngestConfig]:
    path = tmp_path / "a.warc.gz"
    raw_archives.write_warc(
        path, [raw_archives.response(url, body, headers={"Content-Type": mime}) for url, body, mime in ARCHIVED]
    )
    out = Attempt.at(tmp_path / "raw")
    cfg = IngestConfig(source=WarcSource(kind="warc", name="web", paths=["x"], **fields))
    counters = ingest.fn(cfg, File.of(path), out)
    counters.check("ingest")
    assert counters.documents_in == len(ARCHIVED)
    pages = [row for part in sorted((out.directory / "pages").iterdir()) for row in iter_rows(part)]
    dropped = [(row["url"][-5:], row["reason"]) for row in iter_rows(out.directory / "dropped" / "part.parquet")]
    return pages, dropped, cfg


def test_an_archive_gives_its_books_where_the_source_asks_for_them(tmp_path: Path) -> None:
    pages, dropped, _ = archived(tmp_path, kinds=["html", "pdf", "epub"])
    assert [row["kind"] for row in pages] == ["html", "pdf", "pdf", "pdf", "epub", "epub"]
    assert dropped == [("c.zip", "content_type_zip"), ("d.pdf", "content_type_pdf"), ("a.txt", "kind_text")]
    documents, _, quarantine = step(tmp_path, [(row["kind"], row["body"]) for row in pages])
    assert [row["text"] for row in documents][1:] == [
        "From a PDF",
        "Declared as something else",
        "Behind a line end",
        "From a book",
        "Declared as an archive",
    ]
    assert quarantine == []


def test_an_archive_gives_html_and_text_by_default_and_its_identity_is_what_it_was(tmp_path: Path) -> None:
    pages, dropped, cfg = archived(tmp_path)
    assert [row["kind"] for row in pages] == ["html", "text"]
    assert dict(dropped)["a.pdf"] == "content_type_pdf"
    assert cfg.identity()["source"] == {"name": "web", "licence": None, "kind": "warc", "max_page_bytes": 16 * 2**20}
    asked = IngestConfig(source=WarcSource(kind="warc", name="web", paths=["x"], kinds=["pdf"]))
    assert asked.identity()["source"]["kinds"] == ["pdf"]


REASONS = {
    "truncated_pdf", "damaged_pdf", "damaged_epub", "missing_package", "encrypted", "unsafe_path", "too_large"
}  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["pdf", "epub"]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6),
    st.floats(0.2, 1),
)
def test_damage_anywhere_in_a_book_ends_in_text_or_in_one_reason(
    kind: str, damage: list[tuple[float, bytes]], share: float
) -> None:
    """In this process: a crash would end the test."""
    whole = {"pdf": pdf([["The mill", "turns."]] * 3, INFORMATION), "epub": epub({"a": "<p>The mill</p>"}, DUBLIN_CORE)}
    body = bytearray(whole[kind])
    for at, data in damage:
        start = int(at * len(body))
        body[start : start + len(data)] = data
    begun = time.monotonic()
    try:
        found = read(kind, bytes(body[: int(share * len(body))])).text
    except UnreadableError as unreadable:
        found = unreadable.reason
    assert found in REASONS or set(found.split()) <= {"The", "mill", "turns."} or damage
    assert time.monotonic() - begun < 100
