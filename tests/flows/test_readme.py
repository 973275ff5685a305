"""The README's commands are commands: each is parsed, and each run is planned on stand-ins for the files it names."""

import bz2
import gzip
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from infra.serve_local import WORK_POOL
from tests.running import World

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands(program: str) -> Iterator[list[str]]:
    for block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == [program]:
                yield words[1:]


def runs() -> list[list[str]]:
    return [words for words in commands("millrace") if words[0] in ("run", "plan")]


@pytest.fixture
def files() -> None:
    """The files that the README names, in the working directory."""
    page = "<html><body><p>The water of the race turns the wheel.</p></body></html>"
    response = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{page}"
    record = (
        "WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:0b5ab46e-4b4a-4e9c-a47a-5a3f2f3c1a11>\r\n"
        "WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Target-URI: http://example.org/\r\n"
        f"Content-Type: application/http;msgtype=response\r\nContent-Length: {len(response)}\r\n\r\n{response}\r\n\r\n"
    )
    Path("pages.warc.gz").write_bytes(gzip.compress(record.encode()))
    Path("tinyshakespeare.txt").write_text("First Citizen:\nBefore we proceed any further, hear me speak.\n")
    Path("notes").mkdir()
    Path("notes/one.jsonl").write_text(json.dumps({"body": "A note."}) + "\n")
    Path("dumps").mkdir()
    Path("dumps/enwiki-20260101-pages-articles-multistream.xml.bz2").write_bytes(bz2.compress(b"<mediawiki/>"))
    Path("stories").mkdir()
    Path("stories/train.jsonl").write_text(json.dumps({"story": "Once upon a time."}) + "\n")
    Path("projects/one").mkdir(parents=True)
    Path("projects/one/main.py").write_text("pass\n")
    Path("books").mkdir()
    Path("books/one.epub").touch()
    Path("books/two.pdf").touch()
    Path("books/three.txt").write_text("The water of the race turns the wheel.\n")
    Path("texts").mkdir()
    Path("texts/one.txt").write_text("The water of the race turns the wheel.\n")
    Path("blocklists/adult").mkdir(parents=True)
    Path("blocklists/adult/domains").write_text("adult.test\n")
    Path("blocklists/en.txt").write_text("drat\n")
    Path("quiz.jsonl").write_text(json.dumps({"question": "What turns the wheel?", "answer": "Water."}) + "\n")
    for block in blocks("yaml"):
        name = re.match(r"# (\S+\.yaml)\n", block)
        assert name, f"a recipe in the README without its file name: {block}"
        Path(name[1]).write_text(block)


def test_every_command_is_one() -> None:
    from flows.command import app

    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    found = list(commands("millrace"))
    assert len(found) >= 10
    for words in found:
        context = group.make_context("millrace", list(words), resilient_parsing=False)
        name, command, rest = group.resolve_command(context, list(words))
        assert command is not None
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("words", runs(), ids=" ".join)
def test_every_run_can_be_planned(words: list[str], files: None, s3_bucket: str) -> None:
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).put_file("pages.warc.gz", f"{s3_bucket}/crawl/pages.warc.gz")
    words = [word.replace("s3://bucket", s3_bucket) for word in words]
    plan = World(Path.cwd()).ask("plan", *words[1:], "--json")
    assert json.loads(plan.stdout)["steps"]


def test_the_commands_of_make_are_targets() -> None:
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    assert {words[0] for words in commands("make")} <= set(targets)
    assert {"demo", "test", "lint", "clean"} <= set(targets)


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_workers_are_started_on_the_pool_that_runs_are_sent_to() -> None:
    assert [words for words in commands("prefect") if "--pool" in words and WORK_POOL not in words] == []
    assert any("--pool" in words for words in commands("prefect"))
