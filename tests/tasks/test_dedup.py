"""What a user of `dedup` relies on: nothing twice, nothing lost, the promised one kept, whatever the shards."""

import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.artifacts import Artifact, Attempt
from infra.canonical import digest_of
from infra.errors import DataError
from infra.manifests import Counters
from tasks.annotate import MinhashSettings
from tasks.annotate.minhash import Minhash
from tasks.dedup import DedupConfig, dedup
from tasks.dedup.clusters import OLDEST, Clusters, timestamp
from tasks.dedup.minhash import SignatureFiles, datatrove_config, near_groups
from tasks.documents import iter_rows, write_parquet
from tests.tasks.text_corpus import corpus, document, rows, signature_schema, write_folder

FINEWEB = MinhashSettings()
GOLDEN = "84ef65e14b3d17bc0661ec22405e7a92682180235bd9a95de3cdfec2ed26f558"


def signature(values: np.ndarray[Any, Any]) -> bytes:
    """The 14x8 MinHash of a set of 64-bit shingle hashes, by datatrove's own stage 1."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    stage = MinhashDedupSignature.__new__(MinhashDedupSignature)  # its constructor wants a tokenizer
    stage.config, stage.num_hashes, stage._parameters = datatrove_config(FINEWEB), FINEWEB.hashes, None
    return np.array(stage.get_signature(values.reshape(-1, 1)), "<u8").tobytes()


@cache
def text_signature(text: str) -> bytes | None:
    """The signature that `annotate` stores."""
    return Minhash(FINEWEB).signature(text)


def sentence(seed: int, words: int = 200) -> list[str]:
    generator = random.Random(seed)
    return ["".join(generator.choices("abcdefghij", k=5)) for _ in range(words)]


def near(words: list[str], seed: int) -> list[str]:
    """The same words but one."""
    generator = random.Random(seed)
    changed = list(words)
    changed[generator.randrange(len(changed))] = "changed" + "abcdefghij"[seed]
    return changed


def mixed_documents() -> list[dict[str, Any]]:
    """Unique, equal, equal but for spaces, and nearly equal documents of three sources, some dated."""
    documents = []
    for group in range(6):
        words = sentence(group)
        date = f"202{group}-01-01"
        documents.append(document(" ".join(words), f"http://a/{group}", source="a", date=date))
        documents.append(document("  \n".join(words), f"http://b/{group}", source="b"))
        longer = " ".join([*near(words, group), "tail"])
        documents.append(document(longer, f"http://c/{group}", source="c", date="2019"))
        documents.append(document(" ".join(sentence(100 + group)), f"http://c/alone{group}", source="c"))
    documents += [document("short", f"http://a/short{i}", source="a") for i in range(3)]
    documents += [document("short too", "http://b/short", source="b")]
    return documents


def run(tmp_path: Path, shards: list[list[dict[str, Any]]], minhash: bool = True, **cfg: Any) -> tuple[Path, Counters]:
    number = len(list(tmp_path.iterdir()))
    texts = {row["text"] for shard in shards for row in shard}
    signatures = {text: text_signature(text) for text in texts} if minhash else None
    kept = corpus(tmp_path / f"in{number}", shards, signatures)
    out = tmp_path / f"out{number}"
    counters = dedup.fn(DedupConfig(**cfg), kept, Attempt.at(out))
    counters.check("dedup")
    return out, counters


def result(out: Path) -> tuple[list[tuple[str, int]], list[tuple[str, str, str]]]:
    kept = sorted((row["id"], row["cluster_size"]) for row in rows(out, "clusters"))
    dropped = sorted((row["id"], row["reason"], row["kept_id"]) for row in rows(out, "dropped"))
    return kept, dropped


def cut(documents: list[dict[str, Any]], shards: int) -> list[list[dict[str, Any]]]:
    return [documents[i::shards] for i in range(shards)]


def test_every_document_is_kept_or_has_a_reason_and_a_substitute(tmp_path: Path) -> None:
    documents = mixed_documents()
    out, counters = run(tmp_path, cut(documents, 3))

    kept = {row["id"] for row in rows(out, "documents")}
    dropped = rows(out, "dropped")
    assert kept | {row["id"] for row in dropped} == {row["id"] for row in documents}
    assert {row["kept_id"] for row in dropped} <= kept
    assert counters.dropped == {"exact_duplicate": 6 + 2, "near_duplicate": 6}
    assert counters.documents_out == len(kept) == 6 + 6 + 1 + 1
    assert counters.values == {"clusters": 7, "minhash_signatures": 24}
    assert counters.examples["near_duplicate"][0].startswith("http://")


def test_a_row_of_signals_and_clusters_stays_beside_its_document(tmp_path: Path) -> None:
    out, _ = run(tmp_path, cut(mixed_documents(), 3))
    for number in range(3):
        name = f"{number:05d}.parquet"
        ids = [[row["id"] for row in iter_rows(out / folder / name)] for folder in ("documents", "signals", "clusters")]
        assert ids[0] == ids[1] == ids[2]
    sizes = {row["id"]: row["cluster_size"] for row in rows(out, "clusters")}
    assert sorted(sizes.values()) == [1] * 7 + [3] * 7
    assert sum(sizes.values()) == 28


@pytest.mark.parametrize("keep", ["longest", "newest"])
def test_neither_the_order_nor_the_number_of_shards_changes_what_is_kept(tmp_path: Path, keep: str) -> None:
    documents = mixed_documents()
    expected = result(run(tmp_path, [documents], keep=keep)[0])
    for seed in range(4):
        shuffled = list(documents)
        random.Random(seed).shuffle(shuffled)
        shards = cut(shuffled, 1 + 4 * seed)
        assert result(run(tmp_path, shards, keep=keep)[0]) == expected


def test_first_depends_on_the_order_of_the_sources_alone(tmp_path: Path) -> None:
    documents = mixed_documents()
    by_source = sorted(documents, key=lambda row: row["source"])
    expected = result(run(tmp_path, [by_source], keep="first")[0])
    shuffled = [row for s in "abc" for row in sorted(by_source, key=lambda row: row["id"]) if row["source"] == s]
    assert result(run(tmp_path, [shuffled[:9], shuffled[9:]], keep="first")[0]) == expected
    assert {row["source"] for row in rows(tmp_path / "out0", "dropped") if "source" in row} == set()


def test_the_policy_says_which_one_stays(tmp_path: Path) -> None:
    words = sentence(1)
    long = document(" ".join([*near(words, 1), "longest"]), "http://l", source="first", date="2001-05-01")
    new = document(" ".join(near(words, 2)), "http://n", source="second", date="2020-01-01T00:00:00+02:00")
    undated = document(" ".join(words), "http://u", source="zero")
    chosen = {}
    for keep in ("longest", "newest", "first"):
        out, _ = run(tmp_path, [[undated, long], [new]], keep=keep)
        (chosen[keep],) = [row["url"] for row in rows(out, "documents")]
    assert chosen == {"longest": "http://l", "newest": "http://n", "first": "http://u"}


def test_ties_go_to_the_smallest_id(tmp_path: Path) -> None:
    equal = [document("the same", f"http://x/{i}") for i in range(5)]
    for order in (equal, equal[::-1]):
        out, counters = run(tmp_path, [order])
        (kept,) = rows(out, "documents")
        assert kept["id"] == min(row["id"] for row in equal)
        assert counters.dropped == {"exact_duplicate": 4}


def test_one_document_found_twice_is_kept_from_the_same_place_in_any_order(tmp_path: Path) -> None:
    twins = [document("the same", "http://x", file=f"file{i}") for i in range(3)]
    for order in (twins, twins[::-1]):
        out, _ = run(tmp_path, [order])
        assert [row["file"] for row in rows(out, "documents")] == ["file0"]


def test_texts_without_a_signature_are_still_compared_exactly(tmp_path: Path) -> None:
    out, counters = run(tmp_path, [[document("tiny", "http://1"), document(" tiny\n", "http://2")]])
    assert counters.dropped == {"exact_duplicate": 1}
    assert len(rows(out, "documents")) == 1


def test_composition_of_unicode_makes_no_difference(tmp_path: Path) -> None:
    _, counters = run(tmp_path, [[document("caf\u00e9", "http://1"), document("cafe\u0301", "http://2")]])
    assert counters.dropped == {"exact_duplicate": 1}


def test_without_signals_exact_duplicates_are_removed_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, counters = run(tmp_path, cut(mixed_documents(), 2), minhash=False)
    assert set(counters.dropped) == {"exact_duplicate"}
    assert "only exact duplicates" in caplog.text
    assert not (out / "signals").exists()


def test_minhash_can_be_switched_off(tmp_path: Path) -> None:
    signatures = {row["text"]: text_signature(row["text"]) for row in mixed_documents()}
    kept = corpus(tmp_path / "in", [mixed_documents()], signatures)
    assert "near_duplicate" in dedup.fn(DedupConfig(), kept, Attempt.at(tmp_path / "on")).dropped
    assert "near_duplicate" not in dedup.fn(DedupConfig(minhash=False), kept, Attempt.at(tmp_path / "off")).dropped


def test_empty_files_stay_files(tmp_path: Path) -> None:
    out, counters = run(tmp_path, [[], [document("one")], [document("one")]])
    assert counters.documents_out == 1
    for folder in ("documents", "signals", "clusters", "dropped"):
        assert [path.name for path in sorted((out / folder).iterdir())] == [f"{i:05d}.parquet" for i in range(3)]
    out, counters = run(tmp_path, [[]])
    assert counters.documents_in == 0


def test_a_foreign_signature_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 800 bytes"):
        SignatureFiles(tmp_path / "s", FINEWEB).add(b"\0" * 800, "id")
    too_large = np.full(FINEWEB.hashes, (1 << 61) - 1, "<u8").tobytes()
    kept = corpus(tmp_path / "in2", [[document("a b")]], {"a b": too_large})
    with pytest.raises(DataError, match="below 2"):
        dedup.fn(DedupConfig(), kept, Attempt.at(tmp_path / "out2"))


def test_signatures_made_in_two_ways_are_not_compared(tmp_path: Path) -> None:
    one, two = document("one"), document("two")
    corpus(tmp_path / "in", [[one]], {})
    write_folder(tmp_path / "in", "documents", [[one], [two]])
    other = signature_schema(MinhashSettings(seed=2))
    write_parquet(tmp_path / "in" / "signals" / "00001-part.parquet", [{"id": two["id"], "minhash": None}], other)
    with pytest.raises(DataError, match="different settings"):
        dedup.fn(DedupConfig(), Artifact.of(tmp_path / "in"), Attempt.at(tmp_path / "out"))


def test_signals_of_other_documents_are_refused(tmp_path: Path) -> None:
    one, two = document("one"), document("two")
    write_folder(tmp_path / "in", "documents", [[one, two]])
    write_folder(tmp_path / "in", "signals", [[{"id": two["id"]}, {"id": one["id"]}]])
    with pytest.raises(DataError, match="where its signals have"):
        dedup.fn(DedupConfig(), Artifact.of(tmp_path / "in"), Attempt.at(tmp_path / "out"))
    write_folder(tmp_path / "in", "signals", [[{"id": one["id"]}]])
    with pytest.raises(DataError, match="different numbers of rows"):
        dedup.fn(DedupConfig(), Artifact.of(tmp_path / "in"), Attempt.at(tmp_path / "out2"))


def test_a_signature_lost_on_the_way_is_noticed(tmp_path: Path) -> None:
    files = SignatureFiles(tmp_path / "s", FINEWEB)
    for i in range(20):
        files.add(text_signature(" ".join(sentence(i % 10))), str(i))
    files.close()
    damaged = tmp_path / "s" / "bucket_003" / "00000.minhash.sig"
    damaged.write_bytes(damaged.read_bytes()[:-68])
    with pytest.raises(DataError, match="bucket 3 holds 19 of 20"):
        list(near_groups(files, tmp_path))


def test_clusters_reach_across_signature_files(tmp_path: Path) -> None:
    signatures = [text_signature(" ".join(sentence(i % 7))) for i in range(50)]

    def found(chunk: int) -> list[list[int]]:
        return sorted(groups_of(signatures, tmp_path / str(chunk), chunk))

    assert found(1000) == [list(range(i, 50, 7)) for i in range(7)]
    assert found(3) == found(1) == found(1000)


def groups_of(signatures: list[bytes | None], folder: Path, chunk: int) -> list[list[int]]:
    shutil.rmtree(folder, ignore_errors=True)
    files = SignatureFiles(folder / "s", FINEWEB, chunk)
    for i, value in enumerate(signatures):
        files.add(value, str(i))
    files.close()
    return list(near_groups(files, folder))


def test_pairs_are_found_as_often_as_the_formula_says(tmp_path: Path) -> None:
    """Planted pairs of exact Jaccard similarity; tolerance 4 standard deviations of the binomial at 250 pairs."""
    pairs, shingles = 250, 400
    generator = np.random.default_rng(7)
    for jaccard in (0.5, 0.6, 0.7, 0.8, 0.9):
        common = round(2 * shingles * jaccard / (1 + jaccard))
        similarity = common / (2 * shingles - common)
        signatures = []
        for _ in range(pairs):
            values = generator.integers(0, 1 << 63, 2 * shingles - common, np.uint64)
            signatures += [signature(values[:shingles]), signature(values[shingles - common :])]
        groups = groups_of(signatures, tmp_path / str(jaccard), 64)
        assert all(len(group) == 2 and group[1] == group[0] + 1 and group[0] % 2 == 0 for group in groups)
        expected = 1 - (1 - similarity**8) ** 14
        tolerance = 4 * (expected * (1 - expected) / pairs) ** 0.5 + 1 / pairs
        assert abs(len(groups) / pairs - expected) <= tolerance


def test_datatrove_makes_the_same_signature_files(tmp_path: Path) -> None:
    """Our files are byte for byte what datatrove's stage 1 writes for the same documents."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Words(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    stage = MinhashDedupSignature(str(tmp_path / "theirs"), MinhashConfig(), language=Words())
    texts = [" ".join(sentence(i)) for i in range(30)] + ["two words"]
    stage.run([Document(text, str(i)) for i, text in enumerate(texts)], 0, 1)
    ours = SignatureFiles(tmp_path / "ours", FINEWEB)
    for i, text in enumerate(texts):
        shingles = stage.get_shingles(text)
        ours.add(np.array(stage.get_signature(shingles), "<u8").tobytes() if len(shingles) else None, str(i))
    ours.close()
    for bucket in range(14):
        name = f"bucket_{bucket:03d}/00000.minhash.sig"
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 15), min_size=1, max_size=4), max_size=12), st.randoms(use_true_random=False))
def test_clusters_do_not_depend_on_the_order_of_the_pairs(groups: list[list[int]], shuffler: random.Random) -> None:
    def clustered(order: list[list[int]]) -> list[list[int]]:
        clusters = Clusters()
        for group in order:
            clusters.join(group)
        return clusters.groups()

    expected = clustered(groups)
    shuffler.shuffle(groups)
    assert clustered(groups) == expected
    assert all(any(set(group) <= set(cluster) for cluster in expected) for group in groups if len(set(group)) > 1)


def test_dates_of_any_precision_compare() -> None:
    dates = ["2019", "2019-02", "2019-02-03", "2019-02-03T04:05:06Z", "2019-02-03T04:05:06-05:00"]
    assert [timestamp(date) for date in dates] == sorted({timestamp(date) for date in dates})
    assert timestamp(None) == timestamp("soon") == OLDEST < timestamp("0001")


def test_golden(tmp_path: Path) -> None:
    """Changes only with the step's VERSION."""
    out, counters = run(tmp_path, cut(mixed_documents(), 2))
    assert dedup.version == 1
    tables = [
        [list(map(str, row.values())) for row in rows(out, folder)] for folder in ("documents", "clusters", "dropped")
    ]
    assert digest_of([tables, counters.model_dump(exclude={"metrics"})]) == GOLDEN
