"""What a user of an endpoint relies on: nothing half rewritten, nothing paid twice, no key anywhere, clear errors."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.errors import DataError, StorageError, UserError
from infra.settings import settings
from tasks.augment.by_endpoint import _REFUSAL
from tasks.augment.config import Prompts, Rephrase
from tasks.augment.prompts import messages, prompts_of
from tests.running import ROOT
from tests.tasks.augmented import made, reasons, run
from tests.tasks.chat_server import Answer, Asked, ChatServer, chat_server, completion, failure
from tests.tasks.text_corpus import document, rows

KEY = "sk-never-to-be-seen-4711"


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MILLRACE_WORKSPACE", str(tmp_path / "workspace"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def shouted(asked: Asked, before: int) -> Answer:
    return completion(asked.text.upper())


def endpoint(server: ChatServer, **more: Any) -> dict[str, Any]:
    task = {"kind": "rephrase", "style": "easy"}
    fast = {"retry_seconds": 0.01, "timeout_seconds": 5}
    return {"kind": "endpoint", "base_url": server.url, "model": "m", "task": task, **fast, **more}


def texts(count: int) -> list[dict[str, Any]]:
    return [document(f"some text {i}", f"http://x/{i}", language="en") for i in range(count)]


def test_a_document_is_rephrased_and_marked(tmp_path: Path) -> None:
    with chat_server(shouted) as server:
        cfg = endpoint(server, temperature=0.5, max_tokens=99, sampling_seed=7, parameters={"top_p": 0.9}, copies=2)
        out, counters = run(tmp_path, texts(3), cfg, max_failed=1)
    assert [row["text"] for copies in made(out).values() for row in copies] == [f"SOME TEXT {i}" for i in range(3)]
    assert counters.dropped == {"repeated": 3}
    (row,) = made(out)[texts(1)[0]["id"]]
    assert row["augmented"] == {
        "of": texts(1)[0]["id"], "copy": 0, "by": "endpoint", "model": "m", "task": "rephrase/easy",
    }  # fmt: skip
    bodies = [asked.body for asked in server.asked]
    assert {body["seed"] for body in bodies} == {7, 8}
    for body in bodies:
        assert (body["model"], body["temperature"], body["max_tokens"], body["top_p"]) == ("m", 0.5, 99, 0.9)
    assert counters.metrics["requests_augment.methods[0]"] == 6
    assert counters.metrics["prompt_tokens_augment.methods[0]"] == 60


def test_back_translation_asks_twice_and_names_both_languages(tmp_path: Path) -> None:
    with chat_server(lambda asked, before: completion(f"<{asked.text}>")) as server:
        cfg = endpoint(server, task={"kind": "back_translate", "pivot": "French"})
        out, _ = run(tmp_path, texts(1), cfg)
    assert [row["text"] for copies in made(out).values() for row in copies] == ["<<some text 0>>"]
    assert ["into French" in asked.prompt for asked in server.asked] == [True, False]
    assert "into English" in server.asked[1].prompt
    assert server.asked[1].text == "<some text 0>"


def test_prompts_of_ones_own_leave_braces_of_the_text_alone() -> None:
    task = Prompts(kind="prompts", name="x", prompts=("In {language}: {text} {text}",), system="Be kind.")
    assert messages(task, task.prompts[0], "{language} {text}", "de") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "In German: {language} {text} {text}"},
    ]
    for style in ("easy", "medium", "hard", "wiki", "qa"):
        task_ = Rephrase(kind="rephrase", style=style)
        (asked,) = messages(task_, prompts_of(task_)[0], "A text.", None)
        assert asked["content"].endswith("\n\nA text.")
        assert "{" not in asked["content"]


def test_long_documents_are_cut_between_paragraphs_and_put_together_again(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {i}. " + "word " * 30 for i in range(8)).strip()
    with chat_server(shouted) as server:
        out, _ = run(tmp_path, [document(text)], endpoint(server, piece_characters=400))
    assert len(server.asked) == 4
    assert all(len(asked.text) <= 400 for asked in server.asked)
    ((row,),) = made(out).values()
    assert row["text"] == text.upper()


def one_bad(answer: Answer) -> Any:
    """Answers well but where `bad` is in the text."""
    return lambda asked, before: answer if "bad" in asked.text else shouted(asked, before)


@pytest.mark.parametrize(
    ("answer", "reason", "tries"),
    [
        (completion("HALF A TEX", "length"), "truncated", 1),
        (completion("", "stop"), "empty", 1),
        (completion(None), "empty", 1),
        (completion("<think>What could it mean?</think>  "), "empty", 1),
        (completion("No.", "content_filter"), "refused", 1),
        (completion(None, refusal="I would rather not."), "refused", 1),
        (completion("I'm sorry, but I can't help with that."), "refused", 1),
        (failure(400, "too many tokens"), "rejected", 1),
        (failure(422), "rejected", 1),
        (Answer(b"<html>not JSON"), "invalid_answer", 3),
        (Answer(b'{"choices": []}'), "invalid_answer", 3),
        (Answer(b'{"choices": [{"message": {"content": [1]}}]}'), "invalid_answer", 3),
        (Answer(b"[" * 100_000), "invalid_answer", 3),
        (completion("bad is here too"), "unchanged", 1),
    ],
)  # fmt: skip
def test_an_answer_that_will_not_do_drops_the_whole_document(
    tmp_path: Path, answer: Answer, reason: str, tries: int
) -> None:
    bad = "fine paragraph one, " * 8 + "\n" + "bad is here too"
    if reason == "unchanged":
        bad = "bad is here too"
    documents = [document("good one"), document(bad), document("good two")]
    with chat_server(one_bad(answer)) as server:
        out, counters = run(tmp_path, documents, endpoint(server, tries=3, piece_characters=170, concurrency=1))
    assert counters.dropped == {reason: 1}
    assert reasons(out) == {documents[1]["id"]: [reason]}
    assert sorted(row["text"] for copies in made(out).values() for row in copies) == ["GOOD ONE", "GOOD TWO"]
    assert sum("bad" in asked.text for asked in server.asked) == tries
    assert server.url not in json.dumps(rows(out, "dropped"))


def test_a_text_that_is_far_shorter_or_longer_is_dropped(tmp_path: Path) -> None:
    said = {"one": "x", "two": "loop " * 40, "three": "about as long"}
    documents = [document(f"{word} and some more", f"http://x/{word}") for word in said]
    with chat_server(lambda asked, before: completion(said[asked.text.split()[0]])) as server:
        cfg = endpoint(server, min_length_ratio=0.5, max_length_ratio=2)
        out, _ = run(tmp_path, documents, cfg, max_failed=1)
    assert reasons(out) == {documents[0]["id"]: ["too_short"], documents[1]["id"]: ["too_long"]}
    assert list(made(out)) == [documents[2]["id"]]


def test_a_model_that_thinks_aloud_is_heard_without_it(tmp_path: Path) -> None:
    with chat_server(lambda asked, before: completion(f"<think>\nhm\n</think>\n{asked.text}!")) as server:
        out, _ = run(tmp_path, texts(1), endpoint(server))
    assert [row["text"] for copies in made(out).values() for row in copies] == ["some text 0!"]


@pytest.mark.parametrize(
    ("text", "declines"),
    [
        ("I’m sorry, but I cannot assist with this request.", True),
        ("Sorry, I can't rephrase that.", True),
        ("I cannot help you with that.", True),
        ("As an AI language model, I", True),
        ("I'm sorry to hear that the mill is closed.", False),
        ("I cannot see the sea from here.", False),
        ("The clerk said: I'm sorry, but I can't help with that.", False),
    ],
)
def test_refusals_are_told_from_texts(text: str, declines: bool) -> None:
    assert bool(_REFUSAL.match(text)) == declines


def test_a_text_that_begins_like_a_refusal_is_not_one(tmp_path: Path) -> None:
    text = "I'm sorry, but I can't come to supper, she wrote."
    with chat_server(shouted) as server:
        out, _ = run(tmp_path, [document(text)], endpoint(server))
    assert [row["text"] for copies in made(out).values() for row in copies] == [text.upper()]


@pytest.mark.parametrize(
    "trouble",
    [failure(429), failure(500), failure(503, "later"), Answer(b"garbage"), Answer(b'{"choices": null}'),
     completion("too late", "stop")],
)  # fmt: skip
def test_what_may_go_away_is_tried_again(tmp_path: Path, trouble: Answer) -> None:
    slow = b"too late" in (trouble.body if isinstance(trouble.body, bytes) else b"")
    if slow:
        trouble = Answer(trouble.body, wait=4)

    def reply(asked: Asked, before: int) -> Answer:
        return trouble if before == 0 else shouted(asked, before)

    with chat_server(reply) as server:
        out, _ = run(tmp_path, texts(2), endpoint(server, timeout_seconds=1.5 if slow else 60))
    assert sorted(row["text"] for copies in made(out).values() for row in copies) == ["SOME TEXT 0", "SOME TEXT 1"]
    assert len(server.asked) == 4


def test_all_requests_wait_as_long_as_the_server_asks_for(tmp_path: Path) -> None:
    def reply(asked: Asked, before: int) -> Answer:
        return failure(429, Retry_After="1") if len(server.asked) == 1 else shouted(asked, before)

    with chat_server(reply) as server:
        out, _ = run(tmp_path, texts(3), endpoint(server, concurrency=1))
        first, *later = [asked.at for asked in server.asked]
        assert len(later) == 3
        assert all(at - first >= 0.99 for at in later)
        server.asked.clear()
        with pytest.raises(UserError, match=r"max_wait_seconds: .* asks to wait 1 s.*run again later"):
            run(tmp_path, [document("more")], endpoint(server, max_wait_seconds=0.5), name="impatient")
    assert len(made(out)) == 3


def test_no_more_requests_are_under_way_than_allowed_and_as_many_as_that(tmp_path: Path) -> None:
    gate = time.monotonic() + 60

    def reply(asked: Asked, before: int) -> Answer:
        while server.most_busy < 3 and time.monotonic() < gate:
            time.sleep(0.01)
        return shouted(asked, before)

    with chat_server(reply) as server:
        out, _ = run(tmp_path, texts(12), endpoint(server, concurrency=3))
    assert server.most_busy == 3
    assert [row["text"] for copies in made(out).values() for row in copies] == [f"SOME TEXT {i}" for i in range(12)]


def test_a_server_that_stays_away_is_trouble_that_may_go_away(tmp_path: Path) -> None:
    with chat_server(lambda asked, before: failure(502, "bad gateway")) as server:
        cfg = endpoint(server, tries=2, concurrency=1)
        with pytest.raises(StorageError, match=r"status 502 bad gateway"):
            run(tmp_path, texts(3), cfg)
        assert 2 <= len(server.asked) < 6, "each of three texts was asked for twice"
    with pytest.raises(StorageError, match="refused"):
        run(tmp_path, texts(1), cfg, name="gone")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (failure(401, f"Incorrect API key provided: {KEY}"), r"methods\[0\]\.api_key_env: the key in MILL_KEY "
         r"was not accepted \(.*provided: \*\*\*\)"),
        (failure(404, "The model `m` does not exist"), r"methods\[0\]: no such address, or no model m there"),
        (failure(429, "You exceeded your quota", "insufficient_quota"), "You exceeded your quota"),
        (Answer(b"", 308, {"Location": "https://elsewhere.test/v1"}), "base_url: .* leads to https://elsewhere.test/v1"),
    ],
)  # fmt: skip
def test_what_no_repeat_will_mend_is_one_clear_line_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, words: str
) -> None:
    monkeypatch.setenv("MILL_KEY", KEY)
    with chat_server(lambda asked, before: answer) as server:
        with pytest.raises(UserError, match=words) as caught:
            run(tmp_path, texts(1), endpoint(server, api_key_env="MILL_KEY"))
        assert len(server.asked) == 1
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_names_its_variable_before_anything_is_asked(tmp_path: Path) -> None:
    with chat_server(shouted) as server:
        with pytest.raises(UserError, match=r"api_key_env: the environment variable MILL_NO_KEY is not set"):
            run(tmp_path, texts(1), endpoint(server, api_key_env="MILL_NO_KEY"))
        assert not server.asked


def test_the_key_is_sent_and_left_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MILL_KEY", KEY)

    def reply(asked: Asked, before: int) -> Answer:
        if "text 1" in asked.text:
            return failure(400, f"no, {asked.authorization}")
        return failure(503, f"{asked.authorization}") if before == 0 else shouted(asked, before)

    with chat_server(reply) as server, caplog.at_level(logging.DEBUG):
        out, _ = run(tmp_path, texts(4), endpoint(server, api_key_env="MILL_KEY"))
        with pytest.raises(DataError, match=r"\*\*\*") as caught:
            run(tmp_path, texts(2)[1:], endpoint(server, api_key_env="MILL_KEY"), name="failing")
    assert {asked.authorization for asked in server.asked} == {f"Bearer {KEY}"}
    assert KEY not in caplog.text + str(caught.value)
    assert len(made(out)) == 3
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".sqlite" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    for folder in ("documents", "dropped"):
        assert KEY not in json.dumps(rows(out, folder))


def test_a_method_that_mostly_fails_stops_the_run_and_names_the_reason(tmp_path: Path) -> None:
    with chat_server(lambda asked, before: failure(400, "no such parameter: top_q")) as server:
        words = r"\[0\]: 20 of 20 attempts have failed \(limit 50%\), most often: rejected \(20\), .*top_q; raise aug"
        with pytest.raises(DataError, match=words):
            run(tmp_path, texts(100), endpoint(server, concurrency=1))
        assert len(server.asked) < 30
    with chat_server(lambda asked, before: Answer(b"<html>a web page")) as server:
        with pytest.raises(DataError, match=r"methods\[0\]: .*no chat completion but '<html>a web page'"):
            run(tmp_path, texts(100), endpoint(server, tries=2, concurrency=1), name="page")
        assert len(server.asked) < 8


def test_the_budget_is_of_requests_and_the_same_whatever_is_known(tmp_path: Path) -> None:
    documents = [document(f"{i} " + "word " * 30 * (1 + i % 3), f"http://x/{i}") for i in range(20)]
    cfg: dict[str, Any] = {"piece_characters": 160, "max_requests": 7}
    with chat_server(shouted) as server:
        out, _ = run(tmp_path, documents, endpoint(server, **cfg))
        asked = len(server.asked)
        again, counters = run(tmp_path, documents, endpoint(server, **cfg), name="again")
        assert len(server.asked) == asked  # every answer was known
        assert counters.metrics["known_answers"] == asked
        cfg["max_requests"] = 1
        with pytest.raises(UserError, match=r"max_requests: 1 are fewer than the \d"):
            run(tmp_path, documents[2:3], endpoint(server, **cfg), name="poor")
    assert 4 <= asked <= 7
    assert list(made(again)) == list(made(out))
    assert rows(again, "documents") == rows(out, "documents")


def test_copies_are_answers_of_their_own(tmp_path: Path) -> None:
    with chat_server(lambda asked, before: completion(f"answer {len(server.asked)}")) as server:
        out, _ = run(tmp_path, texts(1), endpoint(server, copies=3, concurrency=1))
    assert [row["text"] for copies in made(out).values() for row in copies] == ["answer 1", "answer 2", "answer 3"]


SCRIPT = """
import sys, json
from pathlib import Path
from tests.tasks.augmented import run
from tests.tasks.test_augment_endpoint import texts
run(Path(sys.argv[1]), texts(40), json.loads(sys.argv[2]), name="killed")
"""


def test_a_killed_run_goes_on_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    with chat_server(lambda asked, before: Answer(completion(asked.text.upper()).body, wait=0.15)) as server:
        cfg = endpoint(server, concurrency=2)
        arguments = [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(cfg)]
        process = subprocess.Popen(arguments, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        until = time.monotonic() + 240
        while len(server.asked) < 12 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = len(server.asked)
        assert 12 <= before < 40
        assert not (tmp_path / "killed" / "documents" / "00000.parquet").exists() or before < 40
        out, _ = run(tmp_path, texts(40), cfg, name="resumed")
    asked = Counter(each.text for each in server.asked)
    assert len(asked) == 40
    assert asked.total() <= 40 + 2  # no more than was under way
    assert [row["text"] for copies in made(out).values() for row in copies] == [f"SOME TEXT {i}" for i in range(40)]


def test_what_was_answered_before_an_error_is_kept(tmp_path: Path) -> None:
    broken = True

    def reply(asked: Asked, before: int) -> Answer:
        return failure(401) if broken and asked.text.endswith("7") else shouted(asked, before)

    with chat_server(reply) as server:
        with pytest.raises(UserError):
            run(tmp_path, texts(10), endpoint(server, concurrency=1))
        paid = {asked.text for asked in server.asked} - {"some text 7"}
        assert len(paid) >= 7
        broken = False
        server.asked.clear()
        out, _ = run(tmp_path, texts(10), endpoint(server, concurrency=1), name="again")
    assert not paid & {asked.text for asked in server.asked}
    assert len(made(out)) == 10


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "workspace" / "augment" / "answers.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database" * 100)
    with chat_server(shouted) as server, pytest.raises(UserError, match=r"answers\.sqlite: .*move it away"):
        run(tmp_path, texts(1), endpoint(server))


def test_the_address_is_no_part_of_identity_and_the_model_is() -> None:
    from tasks.augment import AugmentConfig

    def identity(**more: Any) -> Any:
        method = {"kind": "endpoint", "base_url": "http://a/v1", "model": "m", "task": {"kind": "rephrase"}, **more}
        return AugmentConfig.model_validate({"methods": [method]}).identity()

    same = identity()
    assert identity(base_url="http://b:9/v1/chat/completions", api_key_env="K", concurrency=2, tries=9) == same
    assert identity(model="n") != same
    assert identity(task={"kind": "back_translate"}) != same
