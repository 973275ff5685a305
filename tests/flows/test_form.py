"""The form in Prefect's UI, in a browser: opened and submitted as it is, it starts the deployment's recipe."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from flows.recipe import Recipe, load_recipe


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of `millrace up`, all flows deployed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "flows.command", "up"]
    process = subprocess.Popen(command, env={**os.environ, "MILLRACE_PORT": str(port)})
    try:
        end = time.monotonic() + 400
        while "evaluate/pydoc" not in deployments(url):  # the last one
            assert process.poll() is None, "millrace up ended by itself"
            assert time.monotonic() < end, "millrace up takes longer than six minutes"
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=120)


def deployments(url: str) -> dict[str, str]:
    try:
        found = post(f"{url}/api/deployments/filter", {})  # before their flows, which may be more by then
        flows = {flow["id"]: flow["name"] for flow in post(f"{url}/api/flows/filter", {})}
        return {f"{flows[d['flow_id']]}/{d['name']}": d["id"] for d in found}
    except OSError:
        return {}


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.slow
def test_a_form_can_be_submitted_as_it_opens(server: str, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    number = deployments(server)["train-from-scratch/pydoc"]
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(f"{server}/deployments/deployment/{number}/run", timeout=120_000)
        page.get_by_text("trafilatura", exact=True).first.wait_for(timeout=120_000)
        for _ in range(5):
            with page.expect_response(lambda r: r.url.endswith("/create_flow_run"), timeout=60_000) as answer:
                page.get_by_role("button", name="Submit").click()
            status, started = answer.value.status, answer.value.json()
            if status != 503:  # Prefect's server says so while another process writes to its database
                break
            time.sleep(2)
        browser.close()
    assert status == 201, started
    recipe = Recipe.model_validate(started["parameters"]["recipe"])
    assert recipe == load_recipe("pydoc")
