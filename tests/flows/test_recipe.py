from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from flows.classifier_recipe import load_any
from flows.recipe import Recipe, load_recipe
from flows.recipe_file import shipped
from infra.errors import UserError
from tests.running import TINY


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_valid_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    loaded = load_any(name)
    assert loaded.name == name
    again = tmp_path / "again.yaml"
    again.write_text(loaded.to_yaml())
    assert load_any(str(again)) == loaded


def test_there_are_the_three_promised_recipes() -> None:
    assert {"pydoc", "web-pages", "shakespeare-char"} <= set(shipped())


def test_set_and_input_replace_fields(recipe: Path) -> None:
    loaded = load_recipe(str(recipe), sets=["select.min_words=77", "ingest.sources.0.name=mine"], inputs=["a", "b"])
    assert loaded.select is not None
    assert loaded.select.min_words == 77
    assert loaded.ingest.sources[0].name == "mine"
    assert loaded.ingest.sources[0].paths == ["a", "b"]  # type: ignore[union-attr]


def test_a_recipe_can_extend_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump({"extends": "pydoc", "name": "mine", "pretrain": {"steps": 7, "schedule": {"warmup_steps": 2}}})
    )
    loaded, base = load_recipe(str(path)), load_recipe("pydoc")
    assert (loaded.name, loaded.pretrain.steps) == ("mine", 7)
    assert loaded.pretrain.model == base.pretrain.model
    assert loaded.ingest == base.ingest
    assert Recipe.model_validate({"extends": "pydoc", "name": "mine"}).ingest == base.ingest


def test_a_recipe_can_extend_one_that_extends_another(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("extends: shakespeare-char\nname: first\npretrain: {steps: 7, schedule: {warmup_steps: 2}}\n")
    second.write_text(f"extends: {first}\nname: second\npretrain: {{batch: 4}}\n")
    loaded = load_recipe(str(second), inputs=["a.txt"])
    assert (loaded.name, loaded.pretrain.steps, loaded.pretrain.batch) == ("second", 7, 4)
    assert loaded.ingest.sources[0].paths == ["a.txt"]  # type: ignore[union-attr]
    first.write_text(f"extends: {second}\nname: first\n")
    with pytest.raises(UserError, match="extends itself, by way of"):
        load_recipe(str(second))


_SLICE = {"kind": "common_crawl", "name": "x", "snapshots": ["CC-MAIN-2026-01"], "domains": ["a.example"]}
_NO_SIGNALS: dict[str, object] = {"annotate": None, "select": None, "redact": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"select": {"min_wrods": 3}}, r"select\.min_wrods: unknown key; did you mean min_words\?"),
        ({"selekt": {}}, r"selekt: unknown key; did you mean select\?"),
        ({"select": {"min_words": "many"}}, r"select\.min_words: .*integer.*'many'"),
        ({"extract": {"extractor": "magic"}}, r"extract\.extractor: .*'trafilatura'.*'magic'"),
        ({"tokenizer": {"vocab_size": 512}}, r"tokenizer\.kind: required and missing; there is bpe, "),
        (
            {"tokenizer": {"kind": "bpe", "vocab_sise": 5}},
            r"tokenizer\.vocab_sise: unknown key; did you mean vocab_size",
        ),
        ({"tokenizer": {"kind": "bpe", "vocab_size": 12}}, r"tokenizer\.vocab_size: 12 is less than the 257 of all"),
        ({"tokenizer": {"kind": "unigram", "regex": "(a"}}, r"tokenizer\.regex: '\(a' is no regular expression"),
        (
            {"tokenizer": {"kind": "spm"}},
            r"tokenizer\.kind: no kind is called 'spm'; there is bpe, wordpiece, unigram, characters, model$",
        ),
        ({"tokenizer": "bpe"}, r"tokenizer: must be a mapping with a kind; there is bpe, "),
        (
            {"ingest": {"sources": [{"kind": "wrac", "name": "x"}]}},
            r"ingest\.sources\[0\]\.kind: no kind is called 'wrac'; did you mean warc\? there is crawl, code, .*files",
        ),
        (
            {"ingest": {"sources": [{"name": "x"}]}},
            r"ingest\.sources\[0\]\.kind: required and missing; there is crawl, code, ",
        ),
        (
            {"ingest": {"sources": [{**_SLICE, "archive": "wet"}]}},
            r"ingest\.sources\[0\]\.archive: the URL index knows",
        ),
        (
            {"ingest": {"sources": [{**_SLICE, "domains": ["a.example", "x/y"]}]}},
            r"ingest\.sources\[0\]\.domains: 'x/y' is no domain",
        ),
        (
            {"ingest": {"sources": [{"kind": "warc", "name": "x", "path": []}]}},
            r"ingest\.sources\[0\]\.path: unknown key; did you mean paths\?",
        ),
        ({"ingest": {"sources": []}}, r"ingest\.sources: .*at least 1"),
        ({"annotate": None, "select": {}}, "select needs the signals of annotate"),
        (
            {"normalise": {"line_rules": {"preset": "c4", "except_sources": ["cod"]}}},
            r"normalise\.line_rules\.except_sources: no source is called 'cod'; there is \w+",
        ),
        (
            {"dedup": {"keep": "first", "source_order": ["buks"]}},
            r"dedup\.source_order: no source is called 'buks'; there is \w+",
        ),
        (
            {"augment": {"methods": [{"kind": "synonyms", "table": "t.tsv", "choose": {"sources": ["buks"]}}]}},
            r"augment\.methods\[0\]\.choose\.sources: no source is called 'buks'; there is \w+",
        ),
        (
            {**_NO_SIGNALS, "split": {"method": "stratified", "strata": ["language"]}},
            r"split\.strata: languages are found by annotate",
        ),
        ({**_NO_SIGNALS, "mix": {"by": "language"}}, r"mix\.by: languages are found by annotate"),
        (
            {
                **_NO_SIGNALS,
                "augment": {"methods": [{"kind": "synonyms", "table": "t", "choose": {"languages": ["en"]}}]},
            },
            r"augment\.methods\[0\]\.choose\.languages: languages are found by annotate",
        ),
        ({"dedup": {"keep": "best_quality"}}, r"dedup\.keep: best_quality needs .*annotate\.quality"),
        ({"annotate": {"minhash": None}, "dedup": {"verify": {"jaccard": 0.8}}}, r"dedup\.verify: needs .*minhash"),
        ({"dedup": {"keep": ["longest", "biggest"]}}, r"dedup\.keep\[1\]: .*'longest', 'newest'"),
        ({"normalise": {"line_rules": {"preset": "c5"}}}, r"normalise\.line_rules\.preset: .*'c4'.*'c5'"),
        (
            {"pretrain": {**TINY["pretrain"], "model": {"width": 30, "heads": 4}}},
            r"pretrain\.model: width=30 .*heads=4",
        ),
        ({"name": "Not A Name"}, r"name: .*'Not A Name'"),
    ],
)
def test_each_mistake_is_one_line_that_names_the_field(recipe: Path, changes: dict[str, object], words: str) -> None:
    recipe.write_text(yaml.safe_dump({**TINY, **changes}))
    with pytest.raises(UserError, match=words) as caught:
        load_recipe(str(recipe))
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_all_mistakes_are_told_at_once(recipe: Path) -> None:
    recipe.write_text(yaml.safe_dump({**TINY, "selekt": {}, "split": {"method": "dice"}}))
    with pytest.raises(UserError, match=r"split\.method.*selekt|selekt.*split\.method"):
        load_recipe(str(recipe))


def test_a_wrong_entry_does_not_also_make_its_list_too_short(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("extends: web-pages\nname: one\ndecontaminate: {sets: [{kind: files, name: quiz, pathz: [x]}]}\n")
    with pytest.raises(UserError, match="pathz") as caught:
        load_recipe(str(path))
    assert "at least" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not valid YAML"),
        ("- a\n- b", "must be a mapping"),
        ("", "must be a mapping"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(recipe: Path, text: str, words: str) -> None:
    recipe.write_text(text)
    with pytest.raises(UserError, match=words):
        load_recipe(str(recipe))


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("select.min_words", "SECTION.FIELD=VALUE"),
        ("ingest.sources.7.name=x", r"entries 0 to 0"),
        ("name.first=x", "name is a value"),
        ("select.min_words=[1", "not valid YAML"),
        ("nothing.here=1", "nothing: unknown key"),
        ("steps=7", r"steps: unknown key; did you mean pretrain\.steps\?"),
        ("pretrain.ranks=2", r"pretrain\.ranks: unknown key; did you mean execution\.ranks\?"),
        ("pretrain.optimizer={kind: lion, iterations: 5}", r"kind=muon has it, kind=lion has not; `--set \"pretrain\."),
        ("pretrain.execution.telemetry=wandb", r"telemetry: must be a list, as in \[a, b\] \(given 'wandb'\)"),
        ("pretrain.execution=3", r"execution: must be a mapping, as in \{key: value\}"),
        ("pretrain.execution.keep_steps=[0]", r"keep_steps\[0\]: Input should be greater"),
        ("pretrain.preset={a: 1}", "preset: there is none called {'a': 1}"),
    ],
)
def test_a_wrong_set_is_named(recipe: Path, assignment: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_recipe(str(recipe), sets=[assignment])


def test_a_date_as_snapshot_is_text(recipe: Path) -> None:
    assert load_recipe(str(recipe), sets=["snapshot=2027-01-31"]).snapshot == "2027-01-31"
    recipe.write_text(yaml.safe_dump(TINY) + "snapshot: 2027-02-28\n")
    assert load_recipe(str(recipe)).snapshot == "2027-02-28"


def test_times_of_slurm_are_read_as_they_are_written(recipe: Path) -> None:
    for written, meant in (("10:30:00", "10:30:00"), ("60", "60"), ("90:00", "90:00")):
        sets = ["pretrain.execution.launcher=slurm", f"pretrain.execution.slurm.time={written}"]
        slurm = load_recipe(str(recipe), sets=sets).pretrain.execution.slurm
        assert slurm is not None
        assert slurm.time == meant


def test_an_unknown_name_lists_what_is_shipped() -> None:
    with pytest.raises(UserError, match=r"nothing: no such recipe; .*pydoc.*web-pages"):
        load_recipe("nothing")
    with pytest.raises(UserError, match=r"nothing\.yaml: no such file"):
        load_recipe("nothing.yaml")


def test_the_form_in_the_ui_asks_for_nothing_that_extends_gives() -> None:
    schema = Recipe.model_json_schema()
    assert "required" not in schema
    assert schema["additionalProperties"] is False
    assert schema["properties"]["snapshot"]["description"].startswith("Label of the state")
    sources = schema["$defs"]["IngestSection"]["properties"]["sources"]["items"]
    assert sources["discriminator"]["propertyName"] == "kind"


def test_a_scheduled_run_can_crawl_once_a_day() -> None:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert Recipe.model_validate({"extends": "pydoc", "snapshot": "{date}"}).snapshot in (
        today,
        f"{datetime.now(UTC):%Y-%m-%d}",
    )
