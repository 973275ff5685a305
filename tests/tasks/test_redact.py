"""What a user of `redact` relies on: nothing planted is anywhere after it, the rest is as it was, limits and counts."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from flows.recipe import Recipe, load_recipe
from flows.summary import STEPS
from flows.train_from_scratch import corpus_steps
from infra.artifacts import ArtifactStore, Attempt, Work
from infra.errors import DataError, UserError
from infra.execution import LocalRunner, Options
from infra.manifests import Counters, File
from infra.processes import Workers
from infra.settings import settings
from infra.steps import Step, executing
from tasks.annotate import AnnotateConfig, annotate
from tasks.documents import DOCUMENTS, document_id, iter_rows, metadata_json, read_table, write_parquet
from tasks.explain import find_ways
from tasks.explain.trail import together
from tasks.pii import KINDS, PiiSettings
from tasks.redact import RedactConfig, redact
from tasks.report import collect, render_report
from tests.running import TINY, prose
from tests.tasks.planted_pii import KINDS as PLANTED
from tests.tasks.planted_pii import documents as planted_documents

EVERYTHING = tuple(KINDS)
FOUND = PiiSettings()
GOLDEN = {1: "06fbbfa1aa89981b3a75ffb0780a70da7385fa22b61da3a471d78dc02afaf19e"}
"""sha256 of what is written of TEXTS by version of the step: other bytes need another version."""

TEXTS = [
    "Write to jane@example.org or to bob@example.com; jane@example.org is quicker. Tel. 030 901820.",
    "Nothing to see here, version 1.2.3.4 of 01.02.2003.",
    "one@x.org two@x.org three@x.org four@x.org five@x.org six@x.org",
    "",
    "😀\r\nDNI 12345678Z\0 password: tiger4521 8.8.8.8 é IBAN DE89 3704 0044 0532 0130 00",
]


def annotated(folder: Path, texts: list[str], pii: PiiSettings | None = FOUND, **fields: Any) -> tuple[File, File]:
    rows = [
        {
            "id": document_id(f"http://mill.example/{number}", text), "text": text, "source": "mill",
            "url": f"http://mill.example/{number}", "metadata": "{}", "file": "mill.jsonl", **fields,
        }
        for number, text in enumerate(texts)
    ]  # fmt: skip
    write_parquet(folder / "documents.parquet", rows, DOCUMENTS)
    documents = File.of(folder / "documents.parquet", "documents/00000-mill.parquet")
    annotate.fn(AnnotateConfig(pii=pii, minhash=None), documents, Attempt.at(folder / "annotated"))
    return documents, File.of(folder / "annotated/signals/00000-mill.parquet", "signals/00000-mill.parquet")


@dataclass
class Redacted:
    counters: Counters
    folder: Path

    def rows(self, name: str) -> list[dict[str, Any]]:
        return list(iter_rows(self.folder / name / "00000-mill.parquet"))

    def file(self, name: str) -> File:
        return File.of(self.folder / name / "00000-mill.parquet", f"{name}/00000-mill.parquet")

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.rows("documents")]


def redacted(folder: Path, given: tuple[File, File], **config: Any) -> Redacted:
    counters = redact.fn(RedactConfig(**config), *given, Attempt.at(folder))
    counters.check("redact")
    return Redacted(counters, folder)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[File, File]:
    return annotated(tmp_path_factory.mktemp("given"), TEXTS)


def test_typed_placeholders_stand_where_values_were(given: tuple[File, File], tmp_path: Path) -> None:
    result = redacted(tmp_path, given)
    assert result.texts == [
        "Write to <EMAIL> or to <EMAIL>; <EMAIL> is quicker. Tel. <PHONE>.",
        TEXTS[1],
        "",
        "😀\r\nDNI <NATIONAL_ID>\0 password: tiger4521 <IP_ADDRESS> é IBAN <IBAN>",
    ]
    values = result.counters.values
    found = {name: count for name, count in values.items() if name.startswith("pii_")}
    assert found == {"pii_email": 3, "pii_phone": 1, "pii_es_dni": 1, "pii_ip": 1, "pii_iban": 1}
    assert values["documents_changed"] == 2
    assert values["bytes"] == sum(len(text.encode()) for text in result.texts)


def test_documents_over_the_limit_go_with_their_reason_and_no_value(given: tuple[File, File], tmp_path: Path) -> None:
    result = redacted(tmp_path, given, max_spans_of={"email": 2, "national_id": 1})
    dropped = {row["id"]: row for row in result.rows("dropped")}
    ids = [document_id(f"http://mill.example/{n}", text) for n, text in enumerate(TEXTS)]
    assert dropped[ids[2]]["reasons"] == ["too_many_pii_spans", "too_many_email"]
    assert dropped[ids[0]]["reasons"] == ["too_many_email"]
    assert dropped[ids[2]]["text"] == " ".join(["<EMAIL>"] * 6)
    assert result.counters.dropped == {"too_many_pii_spans": 1, "too_many_email": 1}
    assert len(redacted(tmp_path / "more", given, max_spans=6).texts) == len(TEXTS)
    assert len(redacted(tmp_path / "all", given, max_spans=None).texts) == len(TEXTS)


def test_ids_order_and_other_signals_stay(given: tuple[File, File], tmp_path: Path) -> None:
    result = redacted(tmp_path, given, max_spans=None)
    before = read_table(given[1]).to_pylist()
    assert [row["id"] for row in result.rows("documents")] == [row["id"] for row in before]
    for old, new in zip(before, result.rows("signals"), strict=True):
        assert {**old, "pii": None} == {**new, "pii": None}
    left = [row["pii"] for row in result.rows("signals")]
    assert left[:4] == [[], [], [], []]
    text = result.texts[4]
    assert [(span["kind"], text[span["start"] : span["end"]]) for span in left[4]] == [("password", "tiger4521")]


def test_redacting_again_changes_nothing(given: tuple[File, File], tmp_path: Path) -> None:
    once = redacted(tmp_path / "once", given, numbered=True, max_spans=None)
    again = redacted(tmp_path / "again", (once.file("documents"), once.file("signals")), numbered=True, max_spans=None)
    assert again.rows("documents") == once.rows("documents")
    assert again.rows("signals") == once.rows("signals")
    assert again.counters.values["documents_changed"] == 0


def test_placeholders_of_ones_own_and_numbers(given: tuple[File, File], tmp_path: Path) -> None:
    own = redacted(tmp_path, given, placeholders={"email": "|||EMAIL|||", "national_id": "[ID]"}, numbered=True)
    assert own.texts[0] == "Write to |||EMAIL_1||| or to |||EMAIL_2|||; |||EMAIL_1||| is quicker. Tel. <PHONE_1>."
    assert own.texts[3].startswith("😀\r\nDNI [ID_1]\0")


def test_everything_beside_the_text_is_redacted_too(tmp_path: Path) -> None:
    metadata = metadata_json({"title": "By jane@example.org", "tel": 4111111111111111, "deep": [{"a@b.de": "8.8.8.8"}]})
    given = annotated(
        tmp_path, ["Some text."], url="http://mill.example/?m=jane%40example.org", metadata=metadata,
        file="mail/jane@example.org.mbox", licence="© jane@example.org",
    )  # fmt: skip
    result = redacted(tmp_path / "out", given)
    (row,) = result.rows("documents")
    assert json.loads(row["metadata"]) == {
        "title": "By <EMAIL>",
        "tel": "<CARD>",
        "deep": [{"<EMAIL>": "<IP_ADDRESS>"}],
    }
    assert row["url"] == "http://mill.example/?m=%3CEMAIL%3E"
    assert row["licence"] == "© <EMAIL>"
    assert "jane" not in row["file"]
    assert result.counters.values["strings_changed"] == 4


def test_what_is_written_changes_only_with_the_version(given: tuple[File, File], tmp_path: Path) -> None:
    result = redacted(tmp_path, given)
    spans = [(row["id"], row["pii"]) for row in result.rows("signals")]  # the rest is annotate's
    content = repr([result.rows("documents"), result.rows("dropped"), spans]).encode()
    assert {redact.version: hashlib.sha256(content).hexdigest()} == GOLDEN


def test_signals_without_places_say_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give annotate\.pii, or set redact to null"):
        redacted(tmp_path / "out", annotated(tmp_path, ["x"], None))
    some = annotated(tmp_path, ["x"], PiiSettings(kinds=("email",)))
    with pytest.raises(UserError, match=r"add them to annotate\.pii\.kinds") as caught:
        redacted(tmp_path / "out", some, kinds=("email", "ip"))
    assert "ip" in str(caught.value)


def test_documents_and_signals_must_belong_together(given: tuple[File, File], tmp_path: Path) -> None:
    other = annotated(tmp_path, [*TEXTS[:4], "another"])
    with pytest.raises(DataError, match="where its signals have"):
        redacted(tmp_path / "a", (given[0], other[1]))
    with pytest.raises(DataError, match="different numbers of rows"):
        redacted(tmp_path / "b", (given[0], annotated(tmp_path, TEXTS[:4])[1]))
    table = read_table(given[0])
    shorter = [{**row, "text": "x@y.de"} for row in table.to_pylist()]
    write_parquet(tmp_path / "short.parquet", shorter, DOCUMENTS)
    with pytest.raises(DataError, match="not those of its text"):
        redacted(tmp_path / "c", (File.of(tmp_path / "short.parquet", given[0].path), given[1]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kinds": ["e-mail"]}, "did you mean email"),
        ({"kinds": []}, "at least 1"),
        ({"max_spans": 0}, "greater than 0"),
        ({"max_spans": -1}, "greater than 0"),
        ({"max_spans_of": {"email": 0}}, "greater than 0"),
        ({"max_spans_of": {"mail": 3}}, "no kind of personal data is called 'mail'"),
        ({"kinds": ["ip"], "max_spans_of": {"email": 3}}, "email is not redacted"),
        ({"kinds": ["ip"], "placeholders": {"email": "<X>"}}, "add email to kinds"),
        ({"placeholders": {"email": "jane@example.org"}}, "letters in brackets"),
        ({"placeholders": {"email": ""}}, "letters in brackets"),
        ({"placeholders": {"email": "<A\nB>"}}, "letters in brackets"),
    ],
)
def test_configs_that_make_no_sense_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RedactConfig(**config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotate": None, "select": None}, "redact needs the signals of annotate"),
        ({"annotate": {"pii": None}}, "give annotate.pii, or set redact to null"),
        (
            {"annotate": {"pii": {"kinds": ["email"]}}, "redact": {"kinds": ["email", "ip"]}},
            "add ip to annotate.pii.kinds",
        ),
        ({"annotate": {"pii": None}, "redact": None, "select": {"max_pii_spans": 3}}, "select.max_pii_spans"),
    ],
)
def test_recipes_in_which_sections_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({**TINY, **changes})


class InThisProcess(Workers):
    """Calls steps where it is: what they import is there already."""

    def __init__(self) -> None:
        pass

    def call(self, module: str, name: str, cfg: Any, inputs: dict[str, Any], **_: Any) -> tuple[Any, Work]:
        return Step.steps[name].fn(cfg, **inputs), Work()


class World:
    """A run of the recipe until tokens, over documents in which every kind is planted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values: set[str] = set()
        self.rows = self._rows()
        (folder / "corpus").mkdir()
        lines = [json.dumps(row, ensure_ascii=False) for row in self.rows]
        (folder / "corpus" / "0.jsonl").write_text("\n".join(lines[::2]) + "\n")
        (folder / "corpus" / "1.jsonl").write_text("\n".join(lines[1::2]) + "\n")
        recipe = {
            **TINY, "redact": {"kinds": list(EVERYTHING)}, "select": {**TINY["select"], "min_words": 40},
            "ingest": {"sources": [{**TINY["ingest"]["sources"][0], "url_field": "url"}]},
        }  # fmt: skip
        (folder / "planted.yaml").write_text(yaml.safe_dump(recipe))
        self.recipe = load_recipe("planted.yaml")
        store = ArtifactStore(settings().storage)
        runner = LocalRunner(store, InThisProcess(), Options(until="card", order=STEPS))
        with executing(runner):
            corpus_steps(self.recipe)
        self.artifacts = {record.step: record.artifact for record in runner.records if record.artifact is not None}

    def _rows(self) -> list[dict[str, Any]]:
        found = []
        for number, document in enumerate(planted_documents(each=1, seed=3)):
            if number % 9 not in (0, 3):
                self.values |= {each.value for each in document.planted}
            email = f"person{number}x@example.org"
            self.values |= {email, f"person{number}x"}
            filler = prose()[number % len(prose())][:400]
            url = f"http://planted.test/{number}?to={quote(email)}"
            row = {"title": f"Written by {email}", "author": {"mail": email}}
            if number % 9 == 0:  # select drops it: a value stands where the excerpt is cut
                text = f"{email} and {email} {'w' * 240} {email}"
            elif number % 9 == 1:  # redact drops it
                text = f"{document.text}\n{filler} " + " ".join(f"{email}, " for _ in range(6))
            elif number % 9 == 3:  # dedup drops it
                text = found[-1]["text"]
            else:
                text = f"{document.text}\n{filler}"
            found.append({"text": text, "url": url, **row})
        return found

    def written(self, step: str) -> Iterator[tuple[str, str]]:
        """Yield (file, its content as text) of everything of a step, Parquet and tokens decoded."""
        artifact = self.artifacts[step]
        yield "manifest", artifact.manifest.model_dump_json()
        for file in artifact.files():
            if file.path.endswith(".parquet"):
                table = pq.read_table(file.local())
                yield (
                    file.path,
                    f"{table.schema.metadata} {table.to_pylist()}".replace("\\n", "\n").replace("\\\\", "\\"),
                )
            elif step == "tokens" and file.path.endswith((".npy", ".bin")) and "ends" not in file.path:
                yield file.path, self._decoded(file)
            yield file.path, file.read_bytes().decode("utf-8", "replace")

    def _decoded(self, file: File) -> str:
        from tokenizers import Tokenizer

        vocabulary = Tokenizer.from_buffer(self.artifacts["tokenizer"].file("tokenizer.json").read_bytes())
        data = np.fromfile(file.local(), np.uint16)
        return vocabulary.decode(data.tolist(), skip_special_tokens=False)

    def leaks(self, text: str) -> list[str]:
        """Return the planted values that a text holds, as they are, JSON-escaped, or percent-encoded."""
        return [
            value
            for value in sorted(self.values)
            if value in text
            or quote(value) in text
            or json.dumps(value)[1:-1] in text
            or value.replace("\n", " ") in text
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("MILLRACE_STORAGE", f"file://{folder}/store")
    settings.cache_clear()
    yield World(folder)
    patch.undo()
    settings.cache_clear()


def test_the_run_has_something_to_hide(world: World) -> None:
    assert len(world.values) > len(PLANTED) * 4
    assert world.leaks(json.dumps(world.rows, ensure_ascii=False)) != []
    assert sum(world.artifacts["redact"].counters.dropped.values()) > 5
    assert sum(world.artifacts["select"].counters.dropped.values()) > 5
    assert sum(world.artifacts["dedup"].counters.dropped.values()) > 0
    before = [text for _, text in world.written("select")]
    assert set(world.leaks("".join(before))) == world.values


def test_nothing_planted_is_in_what_redact_and_later_steps_write(world: World) -> None:
    after = STEPS[STEPS.index("redact") :]
    looked = [step for step in after if step in world.artifacts]
    assert {"redact", "dedup", "split", "tokenizer", "tokens", "card"} <= set(looked)
    for step in looked:
        for path, text in world.written(step):
            assert world.leaks(text) == [], f"{step}/{path}"
    decoded = next(text for path, text in world.written("tokens") if "train" in path)
    assert "<EMAIL>" in decoded


def test_what_select_drops_shows_nothing_planted(world: World) -> None:
    texts = [row["text"] for file in world.artifacts["select"].files("dropped") for row in iter_rows(file)]
    assert any("<EMAIL>" in text for text in texts)
    assert not any("person" in text for text in texts)


def test_the_report_shows_nothing_planted(world: World) -> None:
    steps = [{"step": step, "state": "ran"} for step in world.artifacts]
    run = collect(
        world.artifacts, run_id="r", recipe_name="planted", recipe=world.recipe.to_yaml(), status="failed", steps=steps,
        error=f"select: 3 of 5 dropped, e.g. {world.rows[1]['url']}",
    )  # fmt: skip
    assert {sample.stage for sample in run.dropped} >= {"select", "redact", "dedup"}
    html = render_report(run)
    assert world.leaks(html) == []
    assert world.leaks(run.model_dump_json()) == []
    assert "too_many_pii_spans" in html


def test_a_report_of_a_run_that_never_came_to_redact_shows_nothing_planted(world: World) -> None:
    some = {step: world.artifacts[step] for step in ("ingest", "extract", "annotate", "select")}
    run = collect(some, run_id="r", recipe_name="planted", recipe=world.recipe.to_yaml(), status="failed", steps=[])
    assert run.kept
    assert world.leaks(run.model_dump_json()) == []


def test_explain_tells_what_was_replaced_and_never_the_value(world: World) -> None:
    trail = together("a run", [*world.artifacts.values()])
    outcomes = set()
    told = ""
    for row in world.rows[:40]:
        for way in find_ways(trail, row["url"]).ways:
            told += json.dumps(asdict(way), default=str)
            outcomes |= {(stage.step, stage.outcome) for stage in way.stages}
    assert {("redact", "changed"), ("redact", "dropped"), ("select", "dropped"), ("split", "kept")} <= outcomes
    assert '"replaced_in_text": "' in told
    assert world.leaks(told) == []


def test_whatif_counts_spans_like_select(world: World, tmp_path: Path) -> None:
    from tasks.select import SelectConfig, decide

    table = read_table(world.artifacts["annotate"].files("signals")[0])
    cfg = SelectConfig.everything().model_copy(update={"max_pii_spans": 2})
    over = [count > 2 for count in table["pii_spans"].to_pylist()]
    assert decide(table, cfg).kept.tolist() == [not each for each in over]
    assert any(over)
