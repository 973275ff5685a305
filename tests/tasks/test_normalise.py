"""What a user of `normalise` relies on: clean text, every document accounted for, code and scripts unharmed."""

import contextlib
import hashlib
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.artifacts import ArtifactStore, Attempt
from infra.manifests import Counters, File
from tasks.documents import DOCUMENTS, document_id, iter_rows, write_parquet
from tasks.normalise import FtfySettings, LineRules, NormaliseConfig, normalise
from tasks.normalise.lines import DroppedError
from tasks.normalise.mojibake import Repair, looks_like_mojibake
from tasks.normalise.shard import DocumentForm
from tasks.normalise.text import Normaliser, UnstableTextError
from tests.running import World

TEXTS = [
    "The mill stands by the river.",
    "The mill’s wheel — “it turns” — said Ã‰mile: lâ€™eau, c&rsquo;est &amp;amp; more.\r\n\r\n\r\n\r\n\r\nEnd \t",
    "Zu\u0308rich\x00\u200b\ufeff \u00a0a\u2028b\x0cc",
    " \u00a0\n\ufeff\n",
    "def turn():\n\tif wheel:  # stays\n\t\treturn  1\n",
    "می\u200cخواهم क्\u200dष 👩\u200d👩\u200d👧 Auf\u200clage",
    "Â" * 400 + "©",
    "1 like\n3 likes\nThe wheel turns. [1] And so on.\nPlease enable JavaScript now.\n" + "It turns all day. " * 9,
]

GOLDEN = {1: "d4023434"}
"""Beginning of the sha256 of what becomes of TEXTS by version of the step: other text needs another version."""


class Result:
    """What `normalise` made of one file of documents."""

    def __init__(self, counters: Counters, out: Attempt) -> None:
        counters.check("normalise")
        self.counters = counters
        self.documents, self.dropped, self.quarantine = (
            list(iter_rows(out.directory / folder / "part.parquet"))
            for folder in ("documents", "dropped", "quarantine")
        )

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.documents]


def document(number: int, text: str, source: str = "web") -> dict[str, Any]:
    url = f"http://mill.example/{number}"
    return {
        "id": document_id(url, text),
        "text": text,
        "url": url,
        "source": source,
        "language": None,
        "date": "2021-03-04",
        "licence": "CC0-1.0",
        "metadata": '{"title":"Mühle"}',
        "file": "mill.warc.gz",
        "offset": number * 100,
    }


def run(documents: list[dict[str, Any]], tmp_path: Path, name: str = "out", **config: Any) -> Result:
    path = tmp_path / "documents.parquet"
    write_parquet(path, documents, DOCUMENTS)
    out = Attempt.at(tmp_path / name)
    return Result(normalise.fn(NormaliseConfig(**config), File.of(path), out), out)


def made(text: str, **config: Any) -> str:
    return Normaliser(NormaliseConfig(**config)).normalise(text)


def test_every_document_is_kept_dropped_or_quarantined_in_order(tmp_path: Path) -> None:
    given = [document(number, text) for number, text in enumerate(TEXTS)]
    found = run(given, tmp_path)
    assert [row["offset"] for row in found.documents] == [0, 100, 200, 400, 500, 700]
    assert found.documents[0] == given[0]
    for row in found.documents:
        before = given[row["offset"] // 100]
        assert row["id"] == document_id(row["url"], row["text"])
        assert {key: row[key] for key in row if key not in ("id", "text")} == {
            key: before[key] for key in before if key not in ("id", "text")
        }
    assert found.dropped == [
        {"url": given[3]["url"], "file": "mill.warc.gz", "offset": 300, "reason": "empty"},
    ]
    (entry,) = found.quarantine
    assert (entry["offset"], entry["stage"]) == (600, "normalise")
    assert entry["error"].startswith("unstable: ")
    assert found.counters.values["bytes"] == sum(len(text.encode()) for text in found.texts)
    assert found.counters.values["documents_changed"] == 5
    assert found.counters.values["lines_changed"] == 7


def test_a_shard_without_documents_gives_files_without_rows(tmp_path: Path) -> None:
    found = run([], tmp_path)
    assert (found.documents, found.dropped, found.quarantine) == ([], [], [])


def test_output_changes_only_with_the_version(tmp_path: Path) -> None:
    given = [document(number, text) for number, text in enumerate(TEXTS)]
    parts = [
        run(given, tmp_path, "plain"),
        run(given, tmp_path, "c4", line_rules=LineRules(preset="c4")),
        run(given, tmp_path, "refinedweb", line_rules=LineRules(preset="refinedweb")),
        run(given, tmp_path, "classical", unicode="NFKC", lowercase=True, punctuation="space", collapse_spaces=True),
    ]
    content = repr([(part.documents, part.dropped, part.quarantine, part.counters.values) for part in parts])
    assert {normalise.version: hashlib.sha256(content.encode()).hexdigest()[:8]} == GOLDEN


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    given = [document(number, text) for number, text in enumerate(TEXTS)]
    for name in ("one", "two"):
        run(given, tmp_path, name)
    for folder in ("documents", "dropped", "quarantine"):
        one, two = ((tmp_path / name / folder / "part.parquet").read_bytes() for name in ("one", "two"))
        assert one == two


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lâ€™eau, dÃ©jÃ\xa0 vu", "l’eau, déjà vu"),
        ("ÃƒÂ©tÃƒÂ©", "été"),
        ("caf&eacute; &amp;amp;amp; bar", "café & bar"),
        ("if a &lt; b", "if a < b"),
        ("<p>caf&eacute;</p>", "<p>caf&eacute;</p>"),  # about HTML
        ("caf&eacute;\n<br>\ncaf&eacute;", "café\n<br>\ncaf&eacute;"),
        ("this&not that", "this&not that"),
        ("“curly” ‘quotes’ ﬁ １２", "“curly” ‘quotes’ ﬁ １２"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("e\u0301te\u0301", "été"),
        ("10³ ﬁ", "10³ ﬁ"),
        ("a\x00b\x07c\x7fd\x9de", "abcde"),
        ("a\x85b", "a…b"),  # Windows-1252, as browsers read it
        ("a\r\nb\rc\u2028d\u2029e\x0bf\x0cg", "a\nb\nc\nd\ne\nf\ng"),
        ("a\xa0b\u2009c\u202fd", "a b c d"),
        ("\u3000一\u3000二\u3000", "\u3000一\u3000二"),  # the space of Chinese and Japanese
        ("\ufeffword\u00adbreak\u2060ing", "wordbreaking"),
        ("zero\u200bwidth ไทย\u200bไทย", "zerowidth ไทย\u200bไทย"),
        ("می\u200cخواهم foo\u200cbar", "می\u200cخواهم foobar"),
        ("क्\u200d\u200dष", "क्\u200dष"),
        ("👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥", "👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥"),
        ("abc\u200fdef\u202e", "abcdef"),
        ("שלום\u200f (a)\u200f", "שלום\u200f (a)\u200f"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f", None),  # the flag of Wales
        ("hidden\U000e0068\U000e0069", "hidden"),
        ("\ud83d\ude00 \ud800", "😀 \ufffd"),
        ("  indented\n\ttab  between   \n", "  indented\n\ttab  between"),
        ("\n\n  first\n\n\n\n\nsecond\n\n", "  first\n\n\nsecond"),
        ("x" + "\u0301\u0323" * 100, unicodedata.normalize("NFC", "x" + "\u0301\u0323" * 15)),
    ],
)
def test_what_becomes_of_characters(text: str, expected: str | None) -> None:
    assert made(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        ({"unicode": None}, "e\u0301", "e\u0301"),
        ({"unicode": "NFKC"}, "10³ ﬁ １", "103 fi 1"),
        ({"ftfy": None}, "lâ€™eau &amp;\x85", "lâ€™eau &amp;"),
        ({"ftfy": FtfySettings(fix_encoding=False)}, "lâ€™eau &amp;", "lâ€™eau &"),
        ({"ftfy": FtfySettings(unescape_html=True)}, "<p>&eacute;", "<p>é"),
        ({"ftfy": FtfySettings(unescape_html=False)}, "&eacute;", "&eacute;"),
        ({"ftfy": FtfySettings(uncurl_quotes=True, fix_latin_ligatures=True)}, "“ﬁ”", '"fi"'),
        ({"ftfy": FtfySettings(fix_character_width=True)}, "ＬＯＵＤ", "LOUD"),
        ({"ftfy": FtfySettings(remove_terminal_escapes=False)}, "\x1b[31mred", "[31mred"),
        ({"collapse_spaces": True}, "  a \t b\n\tc", "a b\nc"),
        ({"max_blank_lines": 0}, "a\n\n\nb", "a\nb"),
        ({"max_blank_lines": None}, "a\n\n\n\n\nb", "a\n\n\n\n\nb"),
        ({"lowercase": True}, "ÉTÉ İstanbul ΣΑΣ", "été i̇stanbul σας"),
        ({"punctuation": "remove"}, "Don't stop, «ever» — 你好。 a_b $5+5", "Dont stop ever  你好 ab $5+5"),
        ({"punctuation": "space", "collapse_spaces": True}, "end.Next (one)", "end Next one"),
    ],
)
def test_each_setting_does_what_it_says(config: dict[str, Any], text: str, expected: str) -> None:
    assert made(text, **config) == expected


ODD = (
    "ÂÃâ€™™œŠžÅ‚¬¦ØÙÐÑВГРСЂà²³°ß«»“”…–\xa0\u200b\u200c\u200d\u200e\u202e\u2066\u00ad\ufeff\u0301\u0323\u0f73\u1100\u1161\u11a8가\u0645"
    "\u05d0\u0e01😀\ufe0f\U0001f3f4\U000e0067\U000e007f\x00\x1b\r\n\x0b\x0c\x85\u2028\u3000\x1a\ufffd[]"
    "aZ &;#<>lt\t.ŉﬁΣİ"
)
FRAGMENTS = [
    "&amp;",
    "&lt;",
    "&#38;",
    "&nbsp;",
    "â€™",
    "Ã©",
    "Ã‚",
    "\x1b[3m",
    "&#x2028;",
    "&shy;",
    "Å“",
    " \n",
    "\n\n\n",
]
CONFIGS = [
    NormaliseConfig(),
    NormaliseConfig(ftfy=None, max_blank_lines=None),
    NormaliseConfig(unicode="NFKC", lowercase=True, punctuation="space", collapse_spaces=True),
    NormaliseConfig(
        ftfy=FtfySettings(unescape_html=True, fix_latin_ligatures=True, fix_character_width=True, uncurl_quotes=True),
        punctuation="remove",
        max_blank_lines=0,
    ),
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(ODD), st.sampled_from(FRAGMENTS), st.characters(exclude_categories=())), max_size=40
    ).map("".join),
    st.sampled_from(CONFIGS),
)
@example("&am\u200bp;", CONFIGS[0])
@example("&lt;\n&am\x00p;amp;", CONFIGS[0])
@example("Ã \n", CONFIGS[0])
def test_any_text_is_brought_into_a_form_that_stays(text: str, cfg: NormaliseConfig) -> None:
    normaliser = Normaliser(cfg)
    try:
        once = normaliser.normalise(text)
    except UnstableTextError:  # more layers than real text has; the document is quarantined
        assert len(re.findall(r"&#38;|Ã‚|Â", text)) > 4
        return
    assert normaliser.normalise(once) == once
    assert cfg.unicode is not None
    assert unicodedata.is_normalized(cfg.unicode, once)
    controls = {c for c in once if unicodedata.category(c) in ("Cc", "Cs")}
    assert controls <= {"\n", "\t"}
    assert len(once) <= 18 * len(text)  # U+FDFA in NFKC; 3 in NFC
    assert not re.search(r"\s\Z|\A\n|[ \t]\n", once)


@settings(max_examples=2000, deadline=None)
@given(st.text(st.sampled_from("".join(chr(c) for c in range(0x80, 0x500)) + ODD), max_size=12))
def test_what_looks_like_mojibake_is_what_ftfy_says(text: str) -> None:
    from ftfy.badness import is_bad

    assert looks_like_mojibake(text) == is_bad(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*FRAGMENTS, "é", "word ", "“", "<", "\xa0", "Ð°Ð±", "ä¸\xad", "Ж", "1"]), max_size=12))
@example(["&lt;", "&amp;", "&nbsp;"])
def test_repairs_are_those_of_datatrove(parts: list[str]) -> None:
    """Before characters and white space are cleaned, which can bring more mojibake to light."""
    from datatrove.pipeline.formatters import FTFYFormatter

    text = "".join(parts)
    repair = Repair(FtfySettings())
    lines = []
    for line in text.split("\n"):
        repair.enter(line)
        before = None
        while line != before:
            before, line = line, repair.line(line)
        lines.append(line)
    assert "\n".join(lines) == FTFYFormatter().format(text)


HOSTILE = {
    "one line of a megabyte": "a" * 1_000_000,
    "one line of three megabytes with accents": "é " * 1_000_000 + "“",
    "Â before ©": "Â" * 50_000 + "©",
    "mojibake of Â": "Ã‚" * 100_000 + "©",
    "mojibake of Â beside Cyrillic": "Ж" + "Ã‚" * 100_000 + "©",
    "short sequences of it": ("Ж" + "Ã‚" * 20 + "© ") * 5_000,
    "entities in entities": "&" + "amp;" * 500_000 + "lt;",
    "numeric entities in entities": "&#38;" + "#38;" * 200_000,
    "marks": "a" + "\u0301\u0323" * 5_000_000,
    "Tibetan marks that decompose": "\u0f73" * 1_000_000,
    "vowels of Korean": "\u1161" * 1_000_000,
    "NUL": "\0" * 10_000_000,
    "lone surrogates": "\ud800" * 300_000,
    "joiners": "\u200d" * 1_000_000,
    "blank lines": "\n" * 1_000_000,
    "spaces before a line break": " " * 1_000_000 + "\n",
    "terminal escapes": "\x1b[" + "1;" * 1_000_000,
    "flags": "\U0001f3f4" * 500_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(60)
def test_hostile_text_ends_soon(name: str) -> None:
    """Seconds, where ftfy or unicodedata alone would take hours."""
    normaliser = Normaliser(NormaliseConfig())
    try:
        text = normaliser.normalise(HOSTILE[name])
    except UnstableTextError:
        return
    assert normaliser.normalise(text) == text
    rules = LineRules.model_validate({"preset": "refinedweb", "min_words": None})
    with contextlib.suppress(DroppedError):
        DocumentForm(NormaliseConfig(line_rules=rules)).of("web", text)


def test_fifty_megabytes_of_marks_fit_in_memory(tmp_path: Path) -> None:
    code = (
        "import sys; from infra.peak_memory import own_peak_bytes; from pathlib import Path;"
        "from tests.tasks.test_normalise import document, run;"
        "found = run([document(0, '\\u0301\\u0323' * 12_500_000), document(1, 'x' * 50_000_000)],"
        "Path(sys.argv[1])); assert [len(text) for text in found.texts] == [30, 50_000_000];"
        "assert own_peak_bytes() < 1_500_000_000"
    )
    repository = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=repository, timeout=540)


def test_sources_can_stay_as_they_are(tmp_path: Path) -> None:
    code = "x = '&amp;'   \n\n\n\n\nif (x) { javascript(); }\n"
    given = [document(0, code, "code"), document(1, code, "web"), document(2, code, "books")]
    found = run(
        given,
        tmp_path,
        verbatim_sources=["code"],
        line_rules=LineRules(preset="c4", except_sources=("books",)),
    )
    assert found.texts == [code, "x = '&'\n\n\nif (x) { javascript(); }"]
    assert [row["reason"] for row in found.dropped] == ["too_few_sentences"]


@pytest.mark.slow
def test_code_of_a_recipe_stays_as_it_is_unless_it_says_otherwise(tmp_path: Path, prefect_server: str) -> None:
    code = 'print("&amp;")  \n'
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text(code)
    (tmp_path / "prose.txt").write_text("caf&eacute;  \n")
    world = World(tmp_path, {"PREFECT_API_URL": prefect_server})
    sources = [
        {"kind": "code", "name": "code", "repositories": [str(tmp_path / "code")]},
        {"kind": "files", "name": "prose", "paths": ["prose.txt"], "format": "text"},
    ]
    summary = world.summary(world.recipe(ingest={"sources": sources}), "--until", "normalise")
    digest = next(step["digest"] for step in summary["steps"] if step["step"] == "normalise")
    artifact = ArtifactStore(str(tmp_path / ".millrace")).find(digest)
    assert {row["text"] for file in artifact.files("documents") for row in iter_rows(file)} == {code, "café"}
    assert NormaliseConfig(verbatim_sources=()).for_sources(("code",)).verbatim_sources == ()


def test_rules_remove_lines_and_are_counted(tmp_path: Path) -> None:
    text = (
        "THE MILL Shop\n2021\n12.5K Views!\nword\n\n  three items in cart\nGo on, read more...\nSign-in to the mill\n"
        + "The wheel of the mill turns all the day. " * 9
        + "\nThe Mill, read more... and so on."
    )
    rules = LineRules(preset="refinedweb", max_removed_words_ratio=None)
    found = run([document(0, text)], tmp_path, line_rules=rules)
    assert found.texts[0].split("\n") == [
        "  three",
        "Go on,",
        "to the mill",
        ("The wheel of the mill turns all the day. " * 9).strip(),
        "The Mill, read more... and so on.",
    ]
    removed = {name: count for name, count in found.counters.values.items() if name.startswith("lines_removed")}
    assert removed == {
        "lines_removed_counter": 1,
        "lines_removed_too_few_words": 2,
        "lines_removed_uppercase": 1,
    }
    dropped = run([document(0, text)], tmp_path, "dropped", line_rules=LineRules(preset="refinedweb")).dropped
    assert [row["reason"] for row in dropped] == ["too_many_words_removed"]


SENTENCES = "\n".join(f"The wheel turns for the {number}th time today." for number in range(6))


@pytest.mark.parametrize(
    ("rules", "line", "left"),
    [
        ({"min_words": 3}, "two words", None),
        ({"min_words": 3}, "now three words", "now three words"),
        ({"max_word_characters": 6}, "a longest", None),
        ({"terminal_punctuation": True}, "no end", None),
        ({"terminal_punctuation": True}, "and so on...", None),
        ({"terminal_punctuation": True}, "an end!", "an end!"),
        ({"citations": True}, "It turns.[12] So[edit]", "It turns. So"),
        ({"javascript": True}, "enable JavaScript.", None),
        ({"policy": True}, "Our Privacy Policy.", None),
        ({"max_uppercase_ratio": 0.5}, "ABC d", None),
        ({"max_uppercase_ratio": 0.5}, "AB cd", "AB cd"),
        ({"max_digit_ratio": 0.999999}, "12345", None),
        ({"max_digit_ratio": 0.999999}, "1 2", "1 2"),
        ({"counters": True}, "1,234 shares", None),
        ({"counters": True}, "3 likes this", "3 likes this"),
        ({"boilerplate": True}, "Read more...", None),
        ({"boilerplate": True}, "Sign-in now", "now"),
        ({"boilerplate": True}, "one two three four five six seven eight nine items in cart", ...),
        ({"strip_lines": True}, "   in", "in"),
    ],
)
def test_each_rule_alone(rules: dict[str, Any], line: str, left: Any) -> None:
    expected = line if left is ... else left
    for_all = DocumentForm(NormaliseConfig(line_rules=LineRules(**rules)))
    assert for_all.of("web", f"{SENTENCES}\n{line}") == SENTENCES + (f"\n{expected}" if expected else "")
    assert DocumentForm(NormaliseConfig()).of("web", line.strip()) == line.strip()


@pytest.mark.parametrize(
    ("rules", "line", "reason"),
    [
        ({"lorem_ipsum": True}, "Lorem Ipsum dolor.", "lorem_ipsum"),
        ({"curly_bracket": True}, "a { b }", "curly_bracket"),
        ({"min_sentences": 8}, "The seventh.", "too_few_sentences"),
        ({"min_words": 3, "max_removed_words_ratio": 0.03}, "two words", "too_many_words_removed"),
    ],
)
def test_rules_that_drop_documents(rules: dict[str, Any], line: str, reason: str, tmp_path: Path) -> None:
    found = run([document(0, f"{SENTENCES}\n{line}")], tmp_path, line_rules=LineRules(**rules))
    assert [row["reason"] for row in found.dropped] == [reason]
    assert found.counters.dropped == {reason: 1}


def test_a_field_stands_above_its_preset() -> None:
    rules = LineRules.model_validate({"preset": "c4", "min_words": None, "curly_bracket": False})
    assert (rules.min_words, rules.curly_bracket, rules.max_word_characters) == (None, False, 1000)
    assert LineRules.model_validate(rules.model_dump(mode="json")) == rules
    assert not LineRules().any()
    assert LineRules(min_words=2).any()
    with pytest.raises(ValidationError, match="c5"):
        LineRules.model_validate({"preset": "c5"})


def test_what_was_normalised_before_changes_nothing() -> None:
    """Shards are cut anywhere, so a text may not depend on the ones before it."""
    normaliser = Normaliser(NormaliseConfig())
    normaliser.normalise("<p>\n" + "Ж" + "Ã‚" * 100_000 + "©")
    assert normaliser.normalise("caf&eacute; Ж eauÃ© x") == made("caf&eacute; Ж eauÃ© x") == "café Ж eaué x"
