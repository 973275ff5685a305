"""Data sets of the hub, over the wire from a small one on loopback, and of local folders, to documents."""

import bz2
import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from flows.recipe import load_recipe
from flows.sources import RawFiles, raw_files
from infra.errors import DataError, StorageError, UserError
from infra.manifests import File
from infra.settings import settings
from tasks.ingest import HuggingFaceSource
from tasks.ingest.huggingface import dataset_files
from tasks.ingest.lines import documents
from tests.running import World
from tests.tasks.fake_hub import FakeHub
from tests.tasks.ingested import Ingested

FIELD = "ingest.sources[0]"
RECORDS = [
    {"text": text, "link": f"http://mill.example/{i}", "day": "2026-01-02", "terms": "CC-BY-4.0", "words": str(i)}
    for i, text in enumerate(["The wheel turns.", "Колесо вращается.", "水車が回る。", "تدور العجلة.", "x" * 5000])
]
MAPPING = {"url_field": "link", "date_field": "day", "licence_field": "terms"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that the client of this process talks to."""
    import datasets
    import huggingface_hub

    with FakeHub() as running:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", running.url)
        monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
        huggingface_hub.HfFileSystem.clear_instance_cache()
        yield running
        huggingface_hub.HfFileSystem.clear_instance_cache()


def parquet(records: list[dict[str, Any]], schema: pa.Schema | None = None) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=schema), out)
    return out.getvalue()


def jsonl(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def arrow(records: list[dict[str, Any]], new: Callable[..., Any] = pa.ipc.new_stream) -> bytes:
    out, table = io.BytesIO(), pa.Table.from_pylist(records)
    with new(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return out.getvalue()


def table(records: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    rows = [delimiter.join(records[0]), *(delimiter.join(record.values()) for record in records)]
    return "\n".join(rows).encode()


def found(dataset: str, **fields: Any) -> tuple[Any, list[File]]:
    return dataset_files(HuggingFaceSource(kind="huggingface", name="hub", dataset=dataset, **fields), FIELD)


def read(dataset: str, folder: Path, **fields: Any) -> list[Ingested]:
    """Ingest every file of a data set."""
    source, files = found(dataset, **fields)
    return [Ingested(source, file, folder / str(i)) for i, file in enumerate(files)]


FORMS: dict[str, Callable[[], bytes]] = {
    "train.parquet": lambda: parquet(RECORDS),
    "train.arrow": lambda: arrow(RECORDS),
    "data/train-0.arrow": lambda: arrow(RECORDS, pa.ipc.new_file),
    "train.jsonl": lambda: jsonl(RECORDS),
    "train.jsonl.gz": lambda: gzip.compress(jsonl(RECORDS)),
    "train.json.zst": lambda: zstandard.compress(jsonl(RECORDS)),
    "train.jsonl.bz2": lambda: bz2.compress(jsonl(RECORDS)),
    "train.csv": lambda: table(RECORDS),
    "train.tsv": lambda: table(RECORDS, "\t"),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("where", ["hub", "folder"])
def test_a_data_set_round_trips_with_its_provenance(hub: FakeHub, tmp_path: Path, where: str, name: str) -> None:
    data = FORMS[name]()
    if where == "hub":
        hub.add("mill/corpus", {name: data})
        dataset = "mill/corpus"
    else:
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        dataset = str(tmp_path / "corpus")
    (made,) = read(dataset, tmp_path, **MAPPING, licence="CC0-1.0")
    assert made.texts() == [record["text"] for record in RECORDS]
    for i, row in enumerate(made.pages):
        assert (row["url"], row["source"], row["file"]) == (f"http://mill.example/{i}", "hub", name)
        assert (row["date"], row["licence"]) == ("2026-01-02", "CC-BY-4.0")
        assert json.loads(row["metadata"]) == {"words": str(i)}
        assert "jsonl" in name or "json" in name or row["offset"] == i


README = """---
configs:
- config_name: de
  data_files:
  - {split: train, path: de/train-*.parquet}
  - {split: test, path: de/test.parquet}
- config_name: en
  data_files: en/*.parquet
---
A corpus of mills.
"""


def corpus(hub: FakeHub, **changes: bytes) -> str:
    files = {
        "README.md": README.encode(),
        "de/train-0.parquet": parquet([{"text": "null"}]),
        "de/train-1.parquet": parquet([{"text": "eins"}]),
        "de/test.parquet": parquet([{"text": "test"}]),
        "en/all.parquet": parquet([{"text": "one"}]),
        "notes/small.jsonl": jsonl([{"text": "noted"}]),
    }
    return hub.add("mill/corpus", {**files, **{name.replace("__", "/"): data for name, data in changes.items()}})


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"config": "de"}, ["null", "eins"]),
        ({"config": "de", "split": "test"}, ["test"]),
        ({"config": "de", "split": None}, ["test", "null", "eins"]),
        ({"config": "en"}, ["one"]),
        ({"data_files": ["de/*.parquet", "en/*.parquet"]}, ["test", "null", "eins", "one"]),
        ({"data_files": ["notes/*.jsonl"], "split": None}, ["noted"]),
    ],
)
def test_configurations_splits_and_patterns_choose_the_files(
    hub: FakeHub, tmp_path: Path, fields: dict[str, Any], texts: list[str]
) -> None:
    corpus(hub)
    assert [text for made in read("mill/corpus", tmp_path, **fields) for text in made.texts()] == texts


def test_nothing_of_large_files_is_fetched_to_find_them(hub: FakeHub) -> None:
    commit = hub.add("mill/corpus", {f"data/train-{i}.parquet": os.urandom(1_000_000) for i in range(20)})
    _, files = found("mill/corpus")
    assert len(files) == 20
    assert hub.sent < 100_000
    assert not [path for method, path in hub.requests if method == "GET" and path.endswith(".parquet")]
    assert files[3].uri == f"hf://datasets/mill/corpus@{commit}/{files[3].path}"
    assert File.model_validate(files[3]).bytes == 1_000_000


def test_a_revision_is_resolved_to_its_commit_and_content_decides_what_is_new(hub: FakeHub) -> None:
    first = corpus(hub)
    second = corpus(hub, de__train_0=b"", **{"de__train-1.parquet": parquet([{"text": "anders"}])})
    _, old = found("mill/corpus", config="de", revision=first)
    _, new = found("mill/corpus", config="de")
    assert ({file.root[-40:] for file in old}, {file.root[-40:] for file in new}) == ({first}, {second})
    assert old[0].sha256 == new[0].sha256
    assert old[1].sha256 != new[1].sha256


def _planned(**fields: Any) -> RawFiles:
    source = {"kind": "huggingface", "name": "hub", "dataset": "mill/corpus", "config": "de", **fields}
    sets = [f"ingest.sources={json.dumps([source])}"]
    (raw,) = raw_files(load_recipe("web-pages", sets=sets))
    return raw


def test_where_a_data_set_comes_from_is_lineage_and_no_identity(hub: FakeHub, tmp_path: Path) -> None:
    commit = corpus(hub)
    raw = _planned()
    assert raw.files.origins == tuple(f"hf://datasets/mill/corpus@{commit}/de/train-{i}.parquet" for i in range(2))
    for path in (tmp_path / "copy" / "de" / f"train-{i}.parquet" for i in range(2)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hub.repositories["mill/corpus"].commits[commit][f"de/{path.name}"])
    copy = _planned(dataset=str(tmp_path / "copy"), config=None)
    assert (copy.files.content, copy.config.identity()) == (raw.files.content, raw.config.identity())


@pytest.mark.parametrize(
    ("name", "files", "fields", "words"),
    [
        ("nothing", None, {}, r"\.dataset: mill/nothing is not on the hub, or is private; .*HF_TOKEN"),
        ("corpus", {}, {"config": "fr"}, r"\.config: .*'fr' not found. Available: \['de', 'en'\]"),
        ("corpus", {}, {}, r"\.config: .*pick one among the available configs: \['de', 'en'\]"),
        ("corpus", {}, {"config": "de", "split": "dev"}, r"\.split: .* has no split 'dev'; it has train, test"),
        ("corpus", {}, {"config": "de", "revision": "v9"}, r"\.revision: mill/corpus has no revision 'v9'"),
        ("corpus", {}, {"data_files": ["fr/*"]}, r"\.data_files: mill/corpus: No \(supported\) data files"),
        ("script", {"script.py": b"", "a.csv": b"text\n1"}, {}, r"\.dataset: .*scripts are no longer supported"),
        ("images", {"a/x.png": b"", "b/y.png": b""}, {}, r"\.dataset: a/x.png is not of a kind that is read: Parquet"),
        ("packed", {"train.csv.xz": b""}, {}, r"\.dataset: train.csv.xz is not of a kind that is read"),
        ("empty", {"README.md": b"Nothing."}, {}, r"\.dataset: .*doesn't contain any data files"),
        ("yaml", {"README.md": b"---\nconfigs: [\n---\n", "a.csv": b""}, {}, r"\.dataset: the description of .* YAML"),
        ("yaml", {"README.md": b"---\nconfigs: 3\n---\n", "a.csv": b""}, {}, r"\.config: .*to be a list"),
        (
            "field",
            {"README.md": b"---\nconfigs:\n- {config_name: a, data_files: a.json, field: rows}\n---\n", "a.json": b""},
            {},
            r"\.config: .* sets field to 'rows', which is not supported",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(
    hub: FakeHub, name: str, files: dict[str, bytes] | None, fields: dict[str, Any], words: str
) -> None:
    if name == "corpus":
        corpus(hub)
    elif files is not None:
        hub.add(f"mill/{name}", files)
    with pytest.raises(UserError, match=r"^ingest\.sources\[0\]" + words) as error:
        found(f"mill/{name}", **fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dataset", ["/not/there", "no name", "./corpus", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_name_is_told(dataset: str) -> None:
    with pytest.raises(UserError, match=r"^ingest\.sources\[0\]\.dataset: .* is no folder, and no name on the hub"):
        found(dataset)


def test_a_file_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}')
    with pytest.raises(UserError, match=r"dataset: .*a\.jsonl is a file; give its folder, or a source of kind `files`"):
        found(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("gated", "words"), [(False, r"is private; check the name, or set HF_TOKEN"), (True, r"is gated; .* HF_TOKEN")]
)
def test_private_and_gated_data_sets_open_to_a_token(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gated: bool, words: str
) -> None:
    hub.add("mill/closed", {"train.parquet": parquet([{"text": "closed"}])}, token="hf_secret", gated=gated)
    for token in (None, "hf_wrong"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UserError, match=words):
            found("mill/closed")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (made,) = read("mill/closed", tmp_path)
    assert made.texts() == ["closed"]


def test_a_hub_out_of_reach_is_a_mistake_that_says_what_to_do(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"\.dataset: the hub cannot be reached for mill/corpus .*HF_ENDPOINT"):
        found("mill/corpus")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    try:
        with pytest.raises(UserError, match="HF_HUB_OFFLINE is set; unset it, or give a folder"):
            found("mill/corpus")
    finally:
        huggingface_hub.close_session()


def test_a_busy_hub_is_asked_again(hub: FakeHub) -> None:
    corpus(hub)
    hub.faults = [("/api/datasets/mill/corpus", 429), ("/api/datasets/mill/corpus", 503), ("paths-info", 429)]
    assert len(_planned().files.files()) == 2
    assert hub.faults == []
    hub.faults = [("/api/datasets/mill/corpus", 429)]
    with pytest.raises(StorageError, match=r"\.dataset: the hub answers 429 for mill/corpus"):
        found("mill/corpus", config="de")


@pytest.mark.parametrize("name", ["train.parquet", "train.jsonl"])
@pytest.mark.parametrize("fault", ["drop", 429])
def test_a_transfer_that_breaks_off_is_taken_up_again(
    hub: FakeHub, tmp_path: Path, name: str, fault: int | str
) -> None:
    hub.add("mill/corpus", {name: FORMS[name]()}, lfs=(name,))
    source, (file,) = found("mill/corpus")
    hub.faults = [(name, fault)]
    made = Ingested(source, file, tmp_path)
    assert made.texts() == [record["text"] for record in RECORDS]
    assert hub.faults == []


def test_bytes_that_are_not_those_of_the_commit_are_an_error(hub: FakeHub, tmp_path: Path) -> None:
    for name in ("train.parquet", "train.jsonl.gz"):
        commit = hub.add(f"mill/{name}", {name: FORMS[name]()})
        source, (file,) = found(f"mill/{name}")
        hub.repositories[f"mill/{name}"].commits[commit][name] = FORMS[name]()[:-10] + b"changed..."
        with pytest.raises(DataError, match="changed while it was read"):
            Ingested(source, file, tmp_path / name)


def test_files_are_read_one_at_a_time_and_leave_no_copy(hub: FakeHub, tmp_path: Path) -> None:
    rows = [{"text": f"{i} " + os.urandom(5000).hex()} for i in range(100)]
    hub.add("mill/corpus", {"train-0.parquet": parquet(rows[:50]), "train-1.parquet": parquet(rows[50:])})
    made = read("mill/corpus", tmp_path)
    assert sum(len(part.pages) for part in made) == 100
    left = [path for path in settings().workspace.rglob("*") if path.is_file() and path.stat().st_size > 100_000]
    assert left == []


def test_a_folder_of_save_to_disk_is_a_data_set(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    whole = Dataset.from_list(RECORDS)
    whole.select([3, 1]).save_to_disk(str(tmp_path / "one"))
    DatasetDict(train=whole, test=whole.select([2])).save_to_disk(
        str(tmp_path / "split"), num_shards={"train": 2, "test": 1}
    )
    (one,) = read(str(tmp_path / "one"), tmp_path / "a", split=None)
    assert one.texts() == [RECORDS[3]["text"], RECORDS[1]["text"]]
    train = read(str(tmp_path / "split"), tmp_path / "b", **MAPPING)
    assert [text for part in train for text in part.texts()] == [record["text"] for record in RECORDS]
    assert [part.pages[0]["file"] for part in train] == [f"train/data-0000{i}-of-00002.arrow" for i in range(2)]
    (test,) = read(str(tmp_path / "split"), tmp_path / "c", split="test")
    assert test.texts() == [RECORDS[2]["text"]]
    with pytest.raises(UserError, match=r"\.split: .* has no split 'dev'; it has train, test"):
        found(str(tmp_path / "split"), split="dev")


@pytest.mark.parametrize(
    "state", ["", "{", "[]", "{}", '{"_data_files": 3}', '{"_data_files": [{"filename": "../x.arrow"}]}', "[" * 99_999]
)
def test_a_broken_description_of_a_saved_data_set_is_told(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(UserError, match=r"^ingest\.sources\[0\]\.dataset: .*state\.json"):
        found(str(tmp_path))


def test_a_description_cannot_lead_out_of_its_data_set(hub: FakeHub, tmp_path: Path) -> None:
    """Neither files of this machine nor other addresses are read because a stranger's README names them."""
    secret = tmp_path / "secret.csv"
    secret.write_text("text\nsecret")
    hub.add("mill/other", {"x.csv": b"text\nother"})
    other = f"{hub.url}/datasets/mill/other/resolve/main/x.csv"
    for i, target in enumerate(
        [str(secret), f"file://{secret}", "../secret.csv", other, "hf://datasets/mill/other/x.csv"]
    ):
        readme = f"---\nconfigs:\n- config_name: a\n  data_files: {target}\n---\n"
        hub.add(f"mill/hostile{i}", {"README.md": readme.encode(), "a.csv": b"text\nx"})
        with pytest.raises(UserError, match=r"^ingest\.sources\[0\].*(don't belong to|Unable to find)"):
            found(f"mill/hostile{i}")
        folder = tmp_path / f"hostile{i}"
        folder.mkdir()
        (folder / "README.md").write_text(readme)
        (folder / "a.csv").write_text("text\nx")
        with pytest.raises(UserError, match=r"\.dataset: .* names .*, which is not below it; it is not read"):
            found(str(folder))


def test_a_column_that_one_file_lacks_is_an_error_that_names_the_file(hub: FakeHub, tmp_path: Path) -> None:
    renamed = [{("adress" if key == "link" else key): value for key, value in RECORDS[0].items()}]
    hub.add("mill/corpus", {"train-0.parquet": parquet(RECORDS), "train-1.parquet": parquet(renamed)})
    source, files = found("mill/corpus", **MAPPING)
    assert len(Ingested(source, files[0], tmp_path / "0").pages) == len(RECORDS)
    with pytest.raises(
        UserError, match=r"train-1\.parquet has the field 'link' \(url_field\); its fields are: .*adress"
    ):
        Ingested(source, files[1], tmp_path / "1")
    without_text = [{"body": "x"}]
    hub.add("mill/other", {"train.parquet": parquet(without_text)})
    with pytest.raises(UserError, match=r"no record of train\.parquet has the text field 'text'"):
        read("mill/other", tmp_path / "2")


def test_a_column_of_another_type_is_never_silent(hub: FakeHub, tmp_path: Path) -> None:
    retyped = [{**RECORDS[0], "text": 7}, {**RECORDS[1], "text": 8}]
    number = [{**RECORDS[0], "link": 7, "day": 20260102, "terms": ["MIT", "Apache-2.0"]}]
    dates = [{**RECORDS[0], "day": 20260102, "terms": ["MIT", "Apache-2.0"]}]
    files = {"train-0.parquet": parquet(retyped), "train-1.jsonl": jsonl(number), "train-2.jsonl": jsonl(dates)}
    hub.add("mill/corpus", files)
    source, _ = found("mill/corpus", data_files=["*.jsonl"], **MAPPING)
    _, (first, *rest) = found("mill/corpus", data_files=["*.parquet", "*.jsonl"], **MAPPING)
    assert Ingested(source, first, tmp_path / "0").counters.errors == {"text_not_a_string": 2}
    assert Ingested(source, rest[0], tmp_path / "1").counters.errors == {"url_not_a_string": 1}
    kept = Ingested(source, rest[1], tmp_path / "2")
    assert (kept.pages[0]["date"], kept.pages[0]["licence"]) == (None, "MIT, Apache-2.0")
    assert kept.metadata[0]["day"] == 20260102
    assert kept.counters.values["dates_not_iso"] == 1


def test_only_the_columns_that_are_wanted_become_metadata(hub: FakeHub, tmp_path: Path) -> None:
    rows = [{**record, "embedding": [0.5] * 100} for record in RECORDS]
    hub.add("mill/corpus", {"train.parquet": parquet(rows), "train.jsonl": jsonl(rows), "train.arrow": arrow(rows)})
    for name in ("train.parquet", "train.jsonl", "train.arrow"):
        (made,) = read("mill/corpus", tmp_path / name, data_files=[name], metadata_fields=["words"], **MAPPING)
        assert made.metadata == [{"words": str(i)} for i in range(len(RECORDS))]
        assert made.pages[0]["url"] == "http://mill.example/0"


@pytest.mark.parametrize(
    ("sample_by", "texts"),
    [
        (None, ["One.", "Still one.", "Two.", "Zwei é"]),
        ("paragraph", ["One.\nStill one.", "Two.\nZwei é"]),
        ("document", ["One.\nStill one.\n\n\nTwo.\r\nZwei é"]),
    ],
)
def test_text_files_are_lines_paragraphs_or_documents(
    hub: FakeHub, tmp_path: Path, sample_by: Any, texts: list[str]
) -> None:
    data = "One.\nStill one.\n\n\nTwo.\r\nZwei é".encode()
    hub.add("mill/text", {"train.txt": data, "test.txt.gz": gzip.compress(data)})
    for split in ("train", "test"):
        (made,) = read("mill/text", tmp_path / split, sample_by=sample_by, split=split)
        assert made.texts() == texts
        made.counters.check("ingest")
    readme = b"---\nconfigs:\n- {config_name: a, data_files: a.txt, sample_by: paragraph}\n---\n"
    hub.add("mill/described", {"README.md": readme, "a.txt": data})
    (made,) = read("mill/described", tmp_path / "described", sample_by=sample_by)
    assert made.texts() == (texts if sample_by else ["One.\nStill one.", "Two.\nZwei é"])


def test_lines_of_any_length_are_read_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("short\n" + "x" * 3_000_000 + "\nlast\n\n" + "y\n" * 20)
    (lines,) = read(str(tmp_path / "corpus"), tmp_path / "lines", max_record_bytes=1000)
    assert (lines.texts()[:2], lines.counters.dropped) == (["short", "last"], {"too_large": 1, "empty_body": 1})
    (paragraphs,) = read(str(tmp_path / "corpus"), tmp_path / "p", max_record_bytes=1000, sample_by="paragraph")
    assert (len(paragraphs.texts()), paragraphs.counters.dropped) == (1, {"too_large": 1})


def test_a_paragraph_of_many_short_lines_takes_little_more_memory_than_its_text() -> None:
    text = "ab\n" * 300_000
    source = io.StringIO(f"{text}\n\nlast\n")
    tracemalloc.start()
    first, last = documents(source, "paragraph", 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (first, last) == (text[:-1], "last")
    assert peak < 12 * len(text)  # a list of its lines would take twenty times its length, and copies of it hours


def test_options_of_a_csv_configuration_are_followed(hub: FakeHub, tmp_path: Path) -> None:
    readme = b"---\nconfigs:\n- {config_name: a, data_files: a.csv, sep: ';', encoding: cp1252}\n---\n"
    hub.add("mill/csv", {"README.md": readme, "a.csv": "text;n\nMühle, alt;1\n".encode("cp1252")})
    (made,) = read("mill/csv", tmp_path)
    assert made.texts() == ["Mühle, alt"]


def test_empty_files_and_splits_are_fine(hub: FakeHub, tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    hub.add("mill/corpus", {"train-0.parquet": parquet([], schema), "train-1.parquet": parquet([{"text": "x"}])})
    first, second = read("mill/corpus", tmp_path, url_field=None)
    assert (first.quarantine, second.texts()) == ([], ["x"])
    hub.add("mill/lines", {"train.jsonl": b"", "train.csv": b""})
    for i, name in enumerate(["train.jsonl", "train.csv"]):
        (made,) = read("mill/lines", tmp_path / f"lines{i}", data_files=[name])
        assert (made.pages, made.quarantine) == ([], [])


@pytest.mark.parametrize("name", ["train.parquet", "train.arrow", "data/train-0.arrow"])
def test_damaged_columns_keep_the_rows_before_and_are_one_entry(tmp_path: Path, name: str) -> None:
    data = FORMS[name]()
    for i, broken in enumerate([b"", data[: len(data) // 2], data[:20], b"\xff" * 500, data[:-9] + b"\xff" * 9]):
        path = tmp_path / f"corpus-{i}" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(broken)
        (made,) = read(str(tmp_path / f"corpus-{i}"), tmp_path / str(i))
        assert made.counters.errors in ({"damaged_file": 1}, {})
        texts = [row["body"].decode() for row in made.pages]
        assert texts == [record["text"] for record in RECORDS][: len(texts)]
        assert made.counters.errors or texts


def test_input_names_the_data_set(hub: FakeHub) -> None:
    corpus(hub)
    source = {"kind": "huggingface", "name": "hub", "dataset": "x/y", "config": "en"}
    sets = [f"ingest.sources={json.dumps([source])}"]
    (raw,) = raw_files(load_recipe("web-pages", sets=sets, inputs=["mill/corpus"]))
    assert [file.path for file in raw.files.files()] == ["en/all.parquet"]
    with pytest.raises(UserError, match="takes one dataset, not 2"):
        load_recipe("web-pages", sets=sets, inputs=["a", "b"])


@pytest.mark.slow
def test_recipes_of_data_sets_and_dumps_run(tmp_path: Path, prefect_server: str) -> None:
    """As a person does it: run, then plan; what was made is cached."""
    from tests.tasks.test_ingest_wikipedia import multistream, pages

    with FakeHub() as running:
        running.add("mill/corpus", {f"train-{i}.parquet": parquet(RECORDS) for i in range(2)}, token="hf_secret")
        (tmp_path / "dewiki-pages-articles.xml.bz2").write_bytes(multistream(pages()))
        environment = {"HF_ENDPOINT": running.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_secret"}
        world = World(tmp_path, {**environment, "PREFECT_API_URL": prefect_server})
        sources = [
            {"kind": "huggingface", "name": "hub", "dataset": "mill/corpus"},
            {"kind": "wikipedia", "name": "wiki", "paths": ["*.xml.bz2"]},
        ]
        recipe = world.recipe(ingest={"sources": sources})
        summary = world.summary(recipe, "--until", "extract")
        assert {stage["stage"]: stage["documents_out"] for stage in summary["funnel"]}["extract"] == 15
        steps = json.loads(world.run("plan", recipe, "--json", "--until", "extract").stdout)["steps"]
        assert {step["state"] for step in steps if step["step"] in ("ingest", "extract")} == {"cached"}
