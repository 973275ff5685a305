"""The report of a run: what a person sees, that hostile text cannot hurt it, and that it stands alone."""

import math
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.report import (
    Bars,
    Corpus,
    CurvePoint,
    FunnelRow,
    GeneratedSample,
    Histogram,
    LineageInput,
    LineageNode,
    ModelNumbers,
    RunReport,
    SampleDocument,
    StepRow,
    render_report,
)
from tasks.report.plots import compact, flow_picture, funnel_bar, histogram_plot, linear_ticks, log_ticks, loss_plot
from tasks.report.render import duration, ladder, verdict, visible

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "</style></script><script>window.hurt=1</script><img src=x onerror='window.hurt=2'><b onclick=hurt>"
SECTIONS = ["flow", "funnel", "corpus", "documents", "training", "evaluation", "generated", "lineage", "recipe"]

READS = {
    "ingest": ("crawl",), "extract": ("ingest",), "annotate": ("extract",), "select": ("extract", "annotate"),
    "dedup": ("select",), "split": ("dedup",), "tokenizer": ("split",), "tokens": ("split", "tokenizer"),
    "pretrain": ("tokens", "tokenizer"), "evaluate": ("pretrain", "split", "tokens"),
}  # fmt: skip
STEPS = ["crawl", *READS]


def example(**changes: Any) -> RunReport:
    """A run as the recipe `pydoc` makes it, with made-up numbers."""
    chance = random.Random(7)
    seconds = [48.2, 0.9, 14.6, 21.3, 1.1, 6.2, 0.4, 2.8, 1.9, 141.0, 12.5]
    steps = tuple(
        StepRow(
            step=name,
            state="cached" if index < 3 else "ran",
            digest=f"{index:02x}" * 32,
            seconds=0.0 if index < 3 else seconds[index],
            why="" if index < 3 else ("params: select.gopher.min_words 50 → 20" if index == 4 else "inputs"),
            cpu_seconds=seconds[index] * 1.7,
            peak_memory=int(chance.uniform(1e8, 2e9)),
            reads=READS.get(name, ()),
        )
        for index, name in enumerate(STEPS)
    )
    select = {"gopher_below_alpha_threshold": 61, "c4_too_few_sentences": 40, "language": 22, "fineweb_short_lines": 9}
    funnel = (
        FunnelRow(stage="ingest", documents_in=585, documents_out=581, dropped={"not a page": 4}),
        FunnelRow(
            stage="extract",
            documents_in=581,
            documents_out=540,
            dropped={"no text": 38},
            quarantined=3,
            errors={"timeout": 2, "ParserError": 1},
            examples={"no text": ("http://127.0.0.1/a.html", "http://127.0.0.1/b.html"), "timeout": ("http://x/",)},
        ),
        FunnelRow(stage="annotate", documents_in=540, documents_out=540),
        FunnelRow(
            stage="select",
            documents_in=540,
            documents_out=408,
            dropped=select,
            examples={reason: (f"http://pydoc.example/{reason}.html",) for reason in select},
        ),
        FunnelRow(stage="dedup", documents_in=408, documents_out=371, dropped={"exact": 12, "minhash": 25}),
        FunnelRow(stage="split", documents_in=371, documents_out=371),
    )
    edges = tuple(10 ** (1 + 3.5 * index / 30) for index in range(31))
    counts = tuple(round(60 * math.exp(-(((index - 16) / 6) ** 2))) for index in range(30))
    kept = tuple(round(count * (0.2 + 0.75 * index / 30)) for index, count in enumerate(counts))
    curve = tuple(
        CurvePoint(
            step=step,
            tokens=step * 8192,
            train=1.9 + 6.1 * math.exp(-step / 60) + 0.8 / (1 + step / 100) + chance.gauss(0, 0.06),
            validation=2.05 + 6 * math.exp(-step / 60) + 0.8 / (1 + step / 100) if step % 100 == 0 and step else None,
        )
        for step in range(0, 1201)
    )
    values: dict[str, Any] = dict(
        run_id="20261121-081502-pydoc-7f3a",
        recipe_name="pydoc",
        recipe="name: pydoc\nsnapshot: '2026-11'\ningest:\n  sources:\n    - kind: crawl\n      start: [http://127.0.0.1/]\n",
        status="completed",
        seconds=221.4,
        steps=steps,
        funnel=funnel,
        corpus=Corpus(
            documents=371, bytes=4_812_332, tokens=1_350_220, train_tokens=1_280_000, validation_tokens=70_220
        ),
        model=ModelNumbers(
            parameters=6_291_456, steps=1200, tokens=9_830_400, tokens_per_second=71_230.0, validation_loss=2.11,
            validation_bits_per_byte=1.402,
        ),
        languages=Bars(
            title="Language", labels=("en", "de", "fr", "ja", "3 others"), all=(470, 31, 19, 11, 9), kept=(402, 4, 2, 0, 0)
        ),
        histograms=(
            Histogram(title="Length", unit="words", edges=edges, all=counts, kept=kept, log=True, thresholds=(50.0,)),
            Histogram(title="Certainty of the language", edges=tuple(i / 30 for i in range(31)), all=counts[::-1], kept=kept[::-1]),
        ),
        kept=tuple(
            SampleDocument(
                url=f"http://127.0.0.1/library/{name}.html",
                text=f"{name} - a module of the standard library.\n\nThis module provides access to some variables used or "
                "maintained by the interpreter and to functions that interact strongly with the interpreter. " * 2,
            )
            for name in ("sys", "json", "collections", "asyncio", "مرحبا", "日本語")
        ),
        dropped=tuple(
            SampleDocument(url=f"http://127.0.0.1/{reason}.html", text="Home | About | Login " * 9, stage="select", reasons=(reason, "c4_no_period"))
            for reason in select
        ),
        curve=curve,
        evaluation={
            "validation": {"bits_per_byte": 1.402, "nats_per_token": 2.1103, "perplexity": 8.2507, "documents": 19, "bytes": 241_222, "tokens": 70_220},
            "validation/pydoc": {"bits_per_byte": 1.402, "nats_per_token": 2.1103, "perplexity": 8.2507, "documents": 19, "bytes": 241_222, "tokens": 70_220},
            "reference/uniform-bytes": {"bits_per_byte": 8.0, "saw": "nothing"},
            "reference/uniform-tokens": {"bits_per_byte": 3.49, "saw": "the vocabulary"},
            "reference/unigram": {"bits_per_byte": 2.61, "saw": "token counts of the training text"},
            "reference/gzip-9": {"bits_per_byte": 1.81, "saw": "the held-out text alone"},
            "reference/xz-9": {"bits_per_byte": 1.39, "saw": "the held-out text alone"},
            "verdict": {"learned": True, "below_unigram": True, "below_gzip_9": True, "below_xz_9": False},
        },
        generated=(
            GeneratedSample(prompt="The function returns", text=" a list of the names of all modules that are imported by the given path. If the path is None, the default is used.\n\n    >>> import pkgutil\n"),
            GeneratedSample(prompt="class ", text="Counter(dict)\n |  Dict subclass for counting hashable items."),
        ),
        lineage=tuple(
            LineageNode(
                step=name,
                digest=f"{index:02x}" * 32,
                uri=f"file:///data/artifacts/{name}",
                files=index + 1,
                bytes=10 ** (index % 5 + 3),
                inputs=tuple(LineageInput(role=other, digest=f"{STEPS.index(other):02x}" * 32) for other in READS.get(name, ())),
            )
            for index, name in enumerate(STEPS)
        ),
        environment={"git revision": "3f2c9a1", "torch": "2.13.0", "datatrove": "0.10.1", "millrace": "0.1.0"},
    )  # fmt: skip
    return RunReport.model_validate({**values, **changes})
