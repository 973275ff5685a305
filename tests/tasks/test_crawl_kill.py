"""Kills: a crawl goes on from where it was and asks for nothing again that it has."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.tasks.crawls import children, config, decided, run, start, tree, wait_for
from tests.tasks.web_server import website

UNDER_WAY = 4


@pytest.mark.slow
def test_a_killed_crawl_goes_on_where_it_was_and_asks_for_nothing_twice(tmp_path: Path) -> None:
    """What is under way when the step is killed is still committed, and whoever goes on waits for that."""
    answers = tree(5, 3, random.Random(3), missing=0.1, wait=0.12)
    with website(answers) as site:
        cfg = config(site, host_concurrency=UNDER_WAY, max_pages=100)
        _, expected = run(cfg, tmp_path / "undisturbed")
    assert len(expected) == 100
    with website(answers) as site:
        cfg = config(site, host_concurrency=UNDER_WAY, max_pages=100)
        for least in (1, 30, 80):
            process = start(cfg, tmp_path / "killed")
            wait_for(lambda least=least: len(site.asked) >= least)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert len(site.asked) < 105
        counters, found = run(cfg, tmp_path / "killed")
        twice = {path: site.times(path) for path in site.pages() if site.times(path) > 1}
    assert twice == {}
    assert site.times("/robots.txt") == 1
    assert found == expected
    assert counters.documents_out == 100


@pytest.mark.slow
def test_where_all_is_killed_at_once_only_what_was_under_way_is_asked_for_again(tmp_path: Path) -> None:
    answers = tree(5, 3, random.Random(3), missing=0.1, wait=0.1)
    kills = (4, 50)
    with website(answers) as site:
        cfg = config(site, host_concurrency=UNDER_WAY, max_pages=100)
        frontier = tmp_path / "killed.scratch" / "frontier.db"
        known: set[str] = set()
        asked = 0
        for least in kills:
            process = start(cfg, tmp_path / "killed")
            wait_for(lambda least=least: len(decided(frontier)) >= least)
            for pid in [*children(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait()
            assert [path for path, _ in site.asked[asked:] if path in known] == []
            wait_for(lambda: site.busy == 0)
            known, asked = decided(frontier), len(site.asked)
            assert len(known) < 100
        counters, found = run(cfg, tmp_path / "killed")
        assert [path for path, _ in site.asked[asked:] if path in known] == []
        twice = [path for path in set(site.pages()) if site.times(path) > 1]
    assert len(found) == counters.documents_out == 100
    assert len(twice) <= len(kills) * UNDER_WAY


def test_a_crawl_that_is_killed_sends_no_more_requests_and_leaves_no_process(tmp_path: Path) -> None:
    answers = tree(5, 3)  # 156 pages: for most of a minute
    for answer in answers.values():
        answer.wait = 0.5
    with website(answers) as site:
        process = start(config(site, delay_seconds=0.3), tmp_path / "out")
        wait_for(lambda: len(site.asked) >= 9)
        offspring = children(process.pid)
        assert len(offspring) == 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in offspring))
        asked = len(site.asked)
        assert asked < 100, "it went on for long"
        time.sleep(0.6)
        assert len(site.asked) == asked
