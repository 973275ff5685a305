"""Small steps for the tests of the machinery that runs steps; workers import them by this module's name."""

import json
import os
import signal
import time
from typing import Annotated, Literal

from infra.artifacts import Artifact, Attempt
from infra.errors import UserError
from infra.manifests import Counters, File
from infra.steps import Execution, Gate, StepConfig, step


class SourceConfig(StepConfig):
    count: int = 3
    text: str = "x"
    threads: Annotated[int, Execution] = 1


class ShoutConfig(StepConfig):
    times: int = 1
    fail: Literal["", "user", "exit", "hang", "flaky"] = ""
    calls: Annotated[str, Execution] = ""
    gate: Annotated[Gate, Execution] = Gate()


class JoinConfig(StepConfig):
    pass


@step("source", version=1)
def source(cfg: SourceConfig, out: Attempt) -> Counters:
    for i in range(cfg.count):
        out.path(f"documents/{i:05d}.txt").write_text(f"{cfg.text}{i}")
    return Counters(documents_in=cfg.count, documents_out=cfg.count)


def _called(cfg: ShoutConfig, name: str) -> None:
    if cfg.calls:
        with open(cfg.calls, "a") as stream:
            stream.write(f"{name}\n")


@step("shout", version=1, shards={"documents": "documents"})
def shout(cfg: ShoutConfig, documents: File, out: Attempt) -> Counters:
    text = documents.local().read_text()
    _called(cfg, text)
    if cfg.fail == "user" and text.endswith("1"):
        raise UserError("shout.text: is wrong")
    if cfg.fail == "exit" and text.endswith("1"):
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.fail == "hang" and text.endswith("1"):
        time.sleep(3600)
    if cfg.fail == "flaky" and text.endswith("1") and not (out.scratch / "tried").exists():
        (out.scratch / "tried").write_text("")
        raise ConnectionResetError("the wire was cut")
    counters = Counters()
    if text.endswith("2"):
        counters.drop("two", f"http://site/{text}")
    else:
        counters.keep()
    out.path("documents/part.txt").write_text(text.upper() * cfg.times)
    out.path("logs/time.txt").write_text(str(time.time()))
    return counters


@step("join", version=1, reads={"documents": ("documents",)})
def join(cfg: JoinConfig, documents: Artifact, out: Attempt) -> Counters:
    texts = [f.local().read_text() for f in documents.files("documents")]
    out.path("joined.json").write_text(json.dumps(texts))
    return Counters(documents_in=len(texts), documents_out=len(texts))
