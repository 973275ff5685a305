"""Gopher, C4, FineWeb and language decisions equal those of datatrove's own classes, document by document."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.annotate import MinhashSettings
from tasks.annotate.minhash import Minhash, _modulo_mersenne, simplify
from tasks.annotate.words import MAX_EDGE, Words
from tasks.select import C4, FineWeb, GopherQuality, GopherRepetition, SelectConfig, decide
from tests.tasks.datatrove_reference import Difference, differences, filters, signals, verdict
from tests.tasks.real_texts import pages, prose

SENTENCE = "The mill stands by the river and the wheel turns all the day, as it has for a hundred years. "

ADVERSARIAL = {
    "empty": "",
    "white space": " \n\t\n ",
    "line breaks": "\n\n\n",
    "NUL": "\0",
    "NUL in words": "a\0b the\0and " * 30,
    "one word": "word",
    "one mark": "!",
    "marks alone": "!? ... -- (((" * 40,
    "plain": SENTENCE * 12,
    "lines": "\n".join(SENTENCE + str(n) for n in range(12)),
    "CRLF": "\r\n".join(SENTENCE + str(n) for n in range(12)),
    "old Mac": "\r".join(SENTENCE + str(n) for n in range(12)),
    "unicode line breaks": "\u2028".join(SENTENCE + str(n) for n in range(12)) + "\x0b\x0c\x85\x1c" + SENTENCE,
    "49 words": "the of " + "word " * 47,
    "50 words": "the of " + "word " * 48,
    "50 words, one a mark": "the of " + "word " * 47 + " !",
    "mean length 3": "the and " * 40,
    "mean length below 3": "the and " * 40 + "a",
    "mean length 10": "abcdefghij " * 60,
    "mean length above 10": "abcdefghij " * 60 + "abcdefghijk",
    "one stop word": "the " + "mill wheel river turns " * 20,
    "two stop words": "the of " + "mill wheel river turns " * 20,
    "stop words in capitals": "The Of And " + "mill wheel river turns " * 20,
    "hashes at the limit": SENTENCE * 5 + "#" * 10,
    "hashes": SENTENCE * 5 + "# " * 20,
    "ellipses": (SENTENCE + "... ") * 3 + "… " * 20,
    "90 % bullets": "\n".join(["- " + SENTENCE] * 9 + [SENTENCE]),
    "91 % bullets": "\n".join([f"  • {n} " + SENTENCE for n in range(10)] + [SENTENCE]),
    "30 % ellipsis lines": "\n".join([f"{n} and so on..." for n in range(3)] + [SENTENCE + str(n) for n in range(7)]),
    "31 % ellipsis lines": "\n".join([f"{n} and so on … " for n in range(4)] + [SENTENCE + str(n) for n in range(8)]),
    "80 % alphabetic": "the of mill 12 " * 5 + "the of mill word 7 " * 20,
    "numbers": "the of 1 2 3 4 5 6 " * 20,
    "repeated lines": "\n".join([SENTENCE + str(n) for n in range(7)] + [SENTENCE + "0"] * 3),
    "more repeated lines": "\n".join([SENTENCE + str(n) for n in range(7)] + [SENTENCE + "0"] * 4),
    "repeated blank lines": "a\n \n \n \nb\n\n\n \n" + SENTENCE,
    "repeated paragraphs": "\n\n".join([SENTENCE + str(n) for n in range(7)] + [SENTENCE + "0"] * 4),
    "paragraphs of three breaks": "\n\n\n".join(["one", "two", "one", "two", "", "one"]) + "\n",
    "repeated 5-grams": " ".join(f"the mill wheel turns all {n}" for n in range(40)),
    "repeated 10-grams": " ".join(f"a b c d e f g h i j {n} x y {n * n} z" for n in range(20)),
    "overlapping repeats": "ha " * 300,
    "same characters, other words": "ab c d e f g " * 3 + "a bc d e f g " * 3 + "abc d e f g h " * 3,
    "one repeated at other borders": "1 0 1 0 11 01 1010 101 0 10 10 1 0 1 0 1 01 " * 5,
    "top n-gram ties": "b a b a c d c d " + SENTENCE,
    "javascript": "\n".join([SENTENCE + "Please enable JavaScript."] * 8),
    "java[1]script": "\n".join([SENTENCE + "Please enable java[1]script." + str(n) for n in range(8)]),
    "lorem": SENTENCE * 8 + "\nLorem Ipsum dolor sit amet.",
    "lorem in a short line": SENTENCE * 8 + "\nLorem Ipsum",
    "lorem with javascript": SENTENCE * 8 + "\nLorem Ipsum dolor sit javascript",
    "curly": SENTENCE * 8 + "\nfunction of the { wheel",
    "curly in a sentence": SENTENCE * 8 + "\nif { the wheel } turns.",
    "curly in a short line": SENTENCE * 8 + "\n{ }",
    "curly with javascript": SENTENCE * 8 + "\njavascript function { }",
    "policy": "\n".join([SENTENCE + "Our privacy policy uses cookies."] * 8),
    "citations": "\n".join(["It turns. [1] It stands.[23] [edit] [citation needed]"] * 3 + ["[1] [2] [3]"]),
    "citations behind sentences": "\n".join(["It stands here. [1]"] * 4),
    "four sentences": "It turns now. It stands still. It turns again. It stands.",
    "five sentences": "It turns now. It stands still! It turns again? It stands. It is.",
    "sentences without marks": "\n".join(["it turns now and then"] * 5),
    "two spaces after a sentence": "It turns now.  It stands still.   ... And so\ton.\xa0Really.",
    "long word": "\n".join([SENTENCE + "x" * 1000] * 3 + [SENTENCE + "x" * 1001] * 3),
    "quotes end lines": "\n".join(['He said "it turns"', "it turns'", "it turns...", "it turns!"] * 3),
    "lines of 30 and 31": "\n".join(["x" * 30 + "."] * 3 + ["y" * 29 + "."] * 7),
    "lines of 31": "\n".join(["x" * 30 + "."] * 10),
    "12 % end marks": "\n".join(
        [f"it turns {n} times." for n in range(3)] + [f"it turns {n} times" for n in range(22)]
    ),
    "scripts that end otherwise": "这是一个句子。\n これは文です。\nयह वाक्य है।\nهذه جملة؟\nԱյս։\n" * 3,
    "Chinese": "水车在河边转动，一天又一天。它已经转了一百年了！" * 20,
    "Thai": "กังหันน้ำหมุนอยู่ริมแม่น้ำทั้งวัน " * 20,
    "emoticons": ":) :-( about:) ) with:] (:hover foo:). 8-): ): ( :) ;) :/ x:)y =D <3 </3 (¬_¬) ¯\\(ツ)/¯ " * 4,
    "abbreviations": "ha!...Mr. s-d. A-b-c-d. 'l-m-a-o.' 6'' 2'' e.g. i.e. a.m. 5p.m. St. (St.) etc.) U.S. U.S.A. " * 4,
    "contractions": "don't cannot can't've y'all it's 'em 'Cause o'clock ma'am dont cant gonna I'm (don't) " * 4,
    "links": "http://a.example/b?c=d#e, (www.example.org/x_y) mail@example.org. file:///x javascript:* C++ .NET " * 4,
    "numbers and units": "5km 3m² $4.50 10% 20°C. 1,000.5 1.5.2 2015. +49 3-4 5*6 7^8 US$5 £3 1st 2nd 10am " * 4,
    "hyphens": "well-known co--op a—b a–b x-y-z -x x- -- --- non-\nbreak soft\u00adhyphen zero\u200bwidth " * 4,
    "marks around words": "(word) [word] \"word\" “word” «word» 'word' word, word; word: word! word? word. (word). "
    * 4,
    "emoji": "the mill 🎡🏞️ turns 👩‍👩‍👧‍👦 and 🇩🇪 stands ☀️. " * 10,
    "combining": "Zu\u0308rich Z\u0332a\u0332l\u0332g\u0332o\u0332 हिन्दी में e\u0301te\u0301 İstanbul ΣΊΣΥΦΟΣ " * 10,
    "spaCy's trap": "the IS_ALPHA of IS_ALPHAX (IS_ALPHA). And so on. " * 12,
    "spaCy's trap inside": "the xIS_ALPHA of IS_ALPHAX. And so on. " * 12,
    "edge of a piece": "!" * MAX_EDGE + " the of " + "-" * (MAX_EDGE - 1) + "x " + SENTENCE,
}


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


def test_adversarial_texts_are_decided_as_by_datatrove() -> None:
    assert differences(list(ADVERSARIAL.items())) == []


def test_the_adversarial_texts_break_and_pass_every_rule() -> None:
    """Otherwise the comparison says little."""
    table = signals(ADVERSARIAL.values())
    unreached = {"gopher_long_doc"}
    for cfg in (SelectConfig(languages=None), SelectConfig(languages=None, c4=C4(terminal_punctuation=True))):
        decisions = decide(table, cfg)
        broken = dict(zip(decisions.reasons, decisions.broken.sum(axis=0), strict=True))
        assert {reason for reason, count in broken.items() if count == 0} <= unreached
        assert max(broken.values()) < len(ADVERSARIAL)


def test_every_threshold_moves_as_the_one_of_datatrove() -> None:
    """Each with two values of its own: a threshold that compares the wrong signal would not follow."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    nothing = {"languages": None, "language_threshold": None} | dict.fromkeys(("c4", "fineweb"))
    gopher = nothing | {"gopher_repetition": None}
    repetition = nothing | {"gopher_quality": None}
    pairs = [
        (GopherQualityFilter(min_doc_words=n), SelectConfig(**gopher, gopher_quality=GopherQuality(min_words=n)))
        for n in (10, 200)
    ] + [
        (
            GopherQualityFilter(max_doc_words=120, min_avg_word_length=4, max_avg_word_length=5),
            SelectConfig(
                **gopher,
                gopher_quality=GopherQuality(max_words=120, min_mean_word_length=4, max_mean_word_length=5),
            ),
        ),
        (
            GopherQualityFilter(
                max_symbol_word_ratio=0.02,
                max_bullet_lines_ratio=0.5,
                max_ellipsis_lines_ratio=0.1,
                max_non_alpha_words_ratio=0.9,
                min_stop_words=3,
            ),
            SelectConfig(
                **gopher,
                gopher_quality=GopherQuality(
                    max_symbol_word_ratio=0.02,
                    max_bullet_lines_ratio=0.5,
                    max_ellipsis_lines_ratio=0.1,
                    min_alpha_words_ratio=0.9,
                    min_stop_words=3,
                ),
            ),
        ),
        (
            GopherRepetitionFilter(0.1, 0.1, 0.05, 0.05, ((2, 0.1), (3, 0.05), (4, 0.3)), ((5, 0.4), (10, 0.02))),
            SelectConfig(
                **repetition,
                gopher_repetition=GopherRepetition(
                    dup_line_frac=0.1,
                    dup_para_frac=0.1,
                    dup_line_char_frac=0.05,
                    dup_para_char_frac=0.05,
                    top_2_gram=0.1,
                    top_3_gram=0.05,
                    top_4_gram=0.3,
                    duplicated_5_n_grams=0.4,
                    duplicated_6_n_grams=None,
                    duplicated_7_n_grams=None,
                    duplicated_8_n_grams=None,
                    duplicated_9_n_grams=None,
                    duplicated_10_n_grams=0.02,
                ),
            ),
        ),
        (
            C4QualityFilter(filter_no_terminal_punct=False, min_num_sentences=13, filter_curly_bracket=False),
            SelectConfig(
                **{**gopher, "gopher_quality": None, "c4": C4(min_sentences=13, curly_bracket=False)},
            ),
        ),
        (
            FineWebQualityFilter(
                line_punct_thr=0.5, short_line_thr=0.3, char_duplicates_ratio=0.2, new_line_ratio=0.05
            ),
            SelectConfig(
                **{
                    **gopher,
                    "gopher_quality": None,
                    "fineweb": FineWeb(
                        min_line_punct_ratio=0.5,
                        max_short_line_ratio=0.3,
                        max_char_dup_ratio=0.2,
                        max_list_ratio=0.05,
                    ),
                }
            ),
        ),
    ]
    filters()
    table = signals(ADVERSARIAL.values())
    for theirs, cfg in pairs:
        decisions = decide(table, cfg)
        dropped = [verdict(theirs, text) is not None for text in ADVERSARIAL.values()]
        assert dropped == decisions.broken.any(axis=1).tolist(), (theirs.name, cfg)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("aB. \n,:)(-'’\"!?…1#{[]•\t\u00a0üж中。\0"), max_size=60))
def test_words_and_sentences_are_those_of_datatrove(words: Words, text: str) -> None:
    """Also where emoticons, abbreviations and odd white space meet."""
    from datatrove.utils.text import split_into_sentences, split_into_words

    tokens = [words.vocabulary.strings[number] for number in words.tokenize(text)]
    assert tokens == split_into_words(text)
    for line in text.splitlines():
        assert words.sentences(line) == len(split_into_sentences(line))


def test_a_longer_match_across_chunks_suppresses_one_inside(words: Words) -> None:
    """The colon and the bracket are an emoticon, unless a second bracket follows, with a space though there is."""
    from datatrove.utils.text import split_into_words

    for text, tokens in {
        "about:) it": ["about", ":)", "it"],
        "about:) ) it": ["about", ":", ")", ")", "it"],
        "about:)\n) it": ["about", ":)", ")", "it"],
    }.items():
        assert [words.vocabulary.strings[number] for number in words.tokenize(text)] == tokens == split_into_words(text)


def test_a_run_that_spacy_would_take_minutes_for_takes_none(words: Words) -> None:
    """400,000 marks in a row: spaCy needs time by the square of them."""
    assert words.tokenize("the wheel " + "!" * 400_000 + " turns.").size == 400_004


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_simplified_text_is_that_of_datatrove(text: str) -> None:
    from datatrove.utils.text import simplify_text

    assert simplify(text) == simplify_text(text)


def test_signatures_are_those_of_datatrove_on_the_same_words(tmp_path: Path) -> None:
    import numpy as np
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class WhiteSpace(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError

    for cfg in (MinhashSettings(), MinhashSettings(n_grams=3, num_buckets=5, hashes_per_bucket=2, seed=7)):
        theirs = MinhashDedupSignature(str(tmp_path), MinhashConfig(**cfg.model_dump()), WhiteSpace())
        ours = Minhash(cfg)
        for name, text in {**ADVERSARIAL, "longer than a block": " ".join(map(chr, range(97, 9000)))}.items():
            shingles = theirs.get_shingles(text)
            expected = np.array(theirs.get_signature(shingles), "<u8").tobytes() if shingles.size else None
            assert ours.signature(text) == expected, name


def test_hashes_are_reduced_as_by_a_division() -> None:
    """Also next to the multiples of the prime, which no test text would ever hit."""
    import numpy as np

    prime = (1 << 61) - 1
    values = [near + step for near in (0, prime, 2 * prime, 7 * prime, 8 * prime) for step in range(9)]
    values += [(1 << 64) - 1 - step for step in range(9)]
    array = np.array([value for value in values if value < 1 << 64], np.uint64)
    assert (_modulo_mersenne(array) == array % np.uint64(prime)).all()


def _report(found: list[Difference]) -> str:
    return "\n".join(f"{d.filter} {d.name}: datatrove {d.theirs}, here {d.ours}" for d in found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_real_texts_are_decided_as_by_datatrove(shared_data: Path) -> None:
    """One in sixty; tests/benchmarks/parity_vs_datatrove.py compares them all."""
    found = differences(list(prose(shared_data))[::60])
    assert not found, _report(found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_real_pages_are_decided_as_by_datatrove(shared_data: Path) -> None:
    """One in sixteen; tests/benchmarks/parity_vs_datatrove.py compares them all."""
    found = differences(list(pages(shared_data, every=16)))
    assert not found, _report(found)
