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
from tasks.report.flow import flow_picture
from tasks.report.plots import compact, funnel_bar, histogram_plot, linear_ticks, log_ticks, loss_plot, smooth
from tasks.report.render import duration, ladder, tiles, verdict, visible
from tasks.report.run import TrainingSample

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
            learning_rate=0.003 * min(1.0, step / 100),
            gradient_norm=0.4 + abs(chance.gauss(0, 0.05)),
            tokens_per_second=41_000 + chance.gauss(0, 900) if step else None,
            skipped=step == 400,
            rolled_back_from=640 if step == 601 else None,
        )
        for step in range(0, 1201)
    )
    held_out = {
        "bits_per_byte": 1.402,
        "nats_per_token": 2.1103,
        "perplexity": 8.2507,
        "documents": 19,
        "bytes": 241_222,
    }
    values: dict[str, Any] = {
        "run_id": "20261121-081502-pydoc-7f3a",
        "recipe_name": "pydoc",
        "recipe": "name: pydoc\nsnapshot: '2026-11'\ningest:\n  sources:\n    - kind: crawl\n      start: [http://127.0.0.1/]\n",
        "status": "completed",
        "seconds": 221.4,
        "steps": steps,
        "funnel": funnel,
        "corpus": Corpus(
            documents=371, bytes=4_812_332, tokens=1_350_220, train_tokens=1_280_000, validation_tokens=70_220
        ),
        "model": ModelNumbers(
            parameters=6_291_456,
            steps=1200,
            tokens=9_830_400,
            tokens_per_second=71_230.0,
            validation_loss=2.11,
            validation_bits_per_byte=1.402,
        ),
        "languages": Bars(
            title="Language",
            labels=("en", "de", "fr", "ja", "3 others"),
            all=(470, 31, 19, 11, 9),
            kept=(402, 4, 2, 0, 0),
        ),
        "histograms": (
            Histogram(title="Length", unit="words", edges=edges, all=counts, kept=kept, log=True, thresholds=(50.0,)),
            Histogram(title="Certainty of the language", edges=tuple(i / 30 for i in range(31)), all=counts[::-1]),
        ),
        "kept": tuple(
            SampleDocument(
                url=f"http://127.0.0.1/library/{name}.html",
                text=f"{name} - a module of the standard library.\n\nIt provides access to some variables used "
                "or maintained by the interpreter and to functions that interact strongly with the interpreter. " * 2,
            )
            for name in ("sys", "json", "collections", "asyncio", "مرحبا", "日本語")
        ),
        "dropped": tuple(
            SampleDocument(
                url=f"http://127.0.0.1/{reason}.html",
                text="Home | About | Login " * 9,
                stage="select",
                reasons=(reason, "c4_no_period"),
            )
            for reason in select
        ),
        "curve": curve,
        "evaluation": {
            "validation": held_out,
            "validation/pydoc": held_out,
            "reference/uniform-bytes": {"bits_per_byte": 8.0, "saw": "nothing"},
            "reference/uniform-tokens": {"bits_per_byte": 3.49, "saw": "the vocabulary"},
            "reference/unigram": {"bits_per_byte": 2.61, "saw": "token counts of the training text"},
            "reference/gzip-9": {"bits_per_byte": 1.81, "saw": "the held-out text alone"},
            "reference/xz-9": {"bits_per_byte": 1.39, "saw": "the held-out text alone"},
            "verdict": {"learned": True, "below_unigram": True, "below_gzip_9": True, "below_xz_9": False},
        },
        "samples": tuple(
            TrainingSample(step=step, prompt="The <b>mill", text=f" turns {step}") for step in (300, 1200)
        ),
        "generated": (
            GeneratedSample(
                prompt="The function returns",
                text=" a list of the names.\n\n    >>> dir()\n",
            ),
            GeneratedSample(prompt="class ", text="Counter(dict)\n |  Dict subclass for counting hashable items."),
        ),
        "lineage": tuple(
            LineageNode(
                step=name,
                digest=f"{index:02x}" * 32,
                uri=f"file:///data/artifacts/{name}",
                files=index + 1,
                bytes=10 ** (index % 5 + 3),
                inputs=tuple(
                    LineageInput(role=other, digest=f"{STEPS.index(other):02x}" * 32) for other in READS.get(name, ())
                ),
            )
            for index, name in enumerate(STEPS)
        ),
        "environment": {"git revision": "3f2c9a1", "torch": "2.13.0", "datatrove": "0.10.1", "millrace": "0.1.0"},
    }
    return RunReport.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def browser(chromium: str) -> "Iterator[Browser]":
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync",
            ],
        )  # fmt: skip
        yield found
        found.close()


class Seen:
    """A page that was opened, and everything that it said or asked for."""

    def __init__(self, browser: "Browser", path: Path, html: str, width: int = 1280, **options: Any) -> None:
        path.write_text(html, encoding="utf-8")
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def overflow(self) -> int:
        """Pixels that stand out to the right of the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_opens_in_a_browser_quietly_alone_and_in_full(
    browser: "Browser", tmp_path: Path, width: int, scheme: str
) -> None:
    seen = Seen(browser, tmp_path / "report.html", render_report(example()), width, color_scheme=scheme)
    assert seen.said == []
    assert seen.asked == [(tmp_path / "report.html").as_uri()]
    assert seen.overflow() <= 0
    for section in SECTIONS:
        assert seen.page.locator(f"section#{section} h2").is_visible(), section
    assert "1.40 bits a byte" in seen.page.locator("h1").inner_text()
    assert seen.page.locator(".flow:visible svg g").count() == len(STEPS)
    ink, paper = (
        seen.page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")


def test_a_flow_of_many_steps_stays_legible(browser: "Browser", tmp_path: Path) -> None:
    names = [*(f"step_{n}" for n in range(16)), "repositories", "decontaminate", "common_crawl_index"]
    steps = tuple(StepRow(step=name, state="ran", reads=tuple(names[:n][-9:])) for n, name in enumerate(names))
    seen = Seen(browser, tmp_path / "report.html", render_report(example(steps=steps)))
    assert seen.page.locator(".flow.wide svg g").count() == len(names), "nothing fell out of the picture"
    sizes = seen.page.evaluate(
        """[...document.querySelectorAll('.flow.wide svg g')].map(box => {
            const [name, frame] = ['text', 'rect'].map(part => box.querySelector(part).getBoundingClientRect());
            return [name.height, frame.right - name.right];
        })"""
    )
    assert min(height for height, _ in sizes) > 10, "pixels"
    assert min(room for _, room in sizes) >= 0, "names stay in their boxes"
    assert seen.overflow() <= 0


def test_hostile_text_is_shown_and_does_nothing(browser: "Browser", tmp_path: Path) -> None:
    bad = HOSTILE + "\u202egnp.exe\u0000\ud800" + "W" * 5000 + "Z\u0351" * 50
    run = example(
        recipe_name=bad,
        run_id=bad,
        recipe=bad,
        error=bad,
        resume_command=bad,
        status="failed",
        steps=(StepRow(step=bad, state="failed", why=bad, uri=bad),),
        funnel=(FunnelRow(stage=bad, documents_in=2, documents_out=1, dropped={bad: 1}, examples={bad: (bad,)}),),
        languages=Bars(title="Language", labels=(bad,), all=(1,)),
        kept=(SampleDocument(url=f"javascript:{bad}", text=bad),),
        dropped=(SampleDocument(url=bad, text=bad, stage=bad, reasons=(bad,)),),
        evaluation={**example().evaluation, f"validation/{bad}": {"bits_per_byte": 1.0}, bad: {bad: bad}},
        generated=(GeneratedSample(prompt=bad, text=bad),),
        lineage=(LineageNode(step=bad, digest=bad, uri=bad, inputs=(LineageInput(role=bad, digest=bad, step=bad),)),),
        environment={bad: bad},
        notes=(bad,),
    )
    html = render_report(run)
    html.encode()
    assert "<script" not in html
    assert "\u202e" not in html
    assert "\x00" not in html
    seen = Seen(browser, tmp_path / "report.html", html, 800)
    assert seen.said == []
    assert len(seen.asked) == 1
    assert seen.page.evaluate("window.hurt") is None
    assert seen.page.locator("script, img, a:not([href^='#'])").count() == 0
    seen.page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert seen.overflow() <= 0
    assert "window.hurt=1" in seen.page.locator("#generated .generated").inner_text()
    assert "U+202E" in seen.page.locator("#generated .generated").inner_text()


def test_the_loss_can_be_looked_at_over_logarithmic_steps(browser: "Browser", tmp_path: Path) -> None:
    seen = Seen(browser, tmp_path / "report.html", render_report(example()))
    assert seen.page.locator(".panel.linear").is_visible()
    seen.page.get_by_text("logarithmic steps").click()
    assert seen.page.locator(".panel.logarithmic").is_visible()
    assert not seen.page.locator(".panel.linear").is_visible()


def test_the_training_is_told_with_what_went_wrong_and_what_it_wrote(browser: "Browser", tmp_path: Path) -> None:
    seen = Seen(browser, tmp_path / "report.html", render_report(example()), 800)
    training = seen.page.locator("#training")
    for title in ("Learning rate over steps", "Gradient norm over steps", "Tokens a second over steps"):
        assert training.get_by_role("img", name=title).is_visible()
    panel = training.locator(".panel.linear")
    assert [panel.locator(f".p-{name}").count() for name in ("train", "smooth", "skipped", "rolled-back")] == [1] * 4
    training.get_by_text("2 steps were skipped or gone back from").click()
    assert training.locator("li").all_inner_texts() == [
        "step 400: skipped",
        "step 601: gone back to before it from step 640",
    ]
    assert "The <b>mill turns 1200" in training.locator(".generated").last.inner_text()
    assert seen.said == []
    assert seen.overflow() <= 0


def test_a_smooth_loss_neither_lags_nor_leans_and_a_loss_of_another_objective_says_so() -> None:
    line = [(float(step), 5.0 - step / 100) for step in range(400)]
    assert smooth(line) == [pytest.approx(point) for point in line]
    jagged = smooth([(float(step), float(step % 2)) for step in range(400)])
    assert all(0.4 < value < 0.6 for _, value in jagged[10:-10])
    assert smooth([(0.0, 1.0), (1.0, 2.0)]) == []
    assert "nats a hidden token" in render_report(example(objective="masked"))
    assert "nats a target (what was taken out, and the sentinels)" in render_report(example(objective="denoising"))


def test_a_failed_run_says_where_it_stopped_why_and_how_to_go_on() -> None:
    steps = tuple(
        StepRow(step=name, state="ran" if index < 2 else "failed" if index == 2 else "not reached")
        for index, name in enumerate(STEPS)
    )
    run = RunReport(
        run_id="r",
        recipe_name="pydoc",
        status="failed",
        steps=steps,
        error="extract: 581 of 581 documents were dropped; most often: no text",
        resume_command="millrace run pydoc",
    )
    html = render_report(run)
    assert "The run stopped at extract." in html
    assert "581 of 581 documents were dropped" in html
    assert "millrace run pydoc" in html
    assert html.count('class="not-reached"') == 2 * (len(STEPS) - 3)
    for nothing in ("No stage finished.", "No loss was recorded.", "Nothing was evaluated.", "No artifact was made."):
        assert nothing in html


def test_a_run_that_was_told_to_stop_has_not_failed_and_one_that_is_wrong_is_to_be_mended_first() -> None:
    steps = (StepRow(step="tokens", state="cached"), StepRow(step="pretrain", state="failed"))
    failed = RunReport(run_id="r", recipe_name="x", status="failed", steps=steps, error="why", resume_command="go on")
    stopped = render_report(failed.model_copy(update={"stopped": True}))
    assert "The run was told to stop in pretrain, and can go on." in stopped
    assert '<span class="badge failed">stopped</span>' in stopped
    assert "To go on from there:" in stopped
    assert "Once that is mended, go on with:" in render_report(failed.model_copy(update={"to_mend": True}))


def test_a_run_that_did_nothing_still_has_a_report() -> None:
    html = render_report(RunReport(run_id="r", recipe_name="x", status="failed"))
    assert "The run stopped before its first step." in html


def test_the_same_run_gives_the_same_file() -> None:
    assert render_report(example()) == render_report(example())


def test_rendering_takes_little_of_a_cached_run() -> None:
    run = example()
    started = time.process_time()
    render_report(run)
    assert time.process_time() - started < 0.5


def test_a_stage_that_loses_documents_unaccounted_is_called_out() -> None:
    row = FunnelRow(stage="select", documents_in=10, documents_out=7, dropped={"short": 2})
    assert "does not add up" in render_report(example(funnel=(row,)))
    assert "does not add up" not in render_report(example())


def lines(unigram: float, gzip: float, xz: float, ours: float) -> dict[str, Any]:
    references = {"unigram": unigram, "gzip-9": gzip, "xz-9": xz}
    below = {f"below_{name.replace('-', '_')}": ours < bits for name, bits in references.items()}
    return {
        "validation": {"bits_per_byte": ours},
        **{f"reference/{name}": {"bits_per_byte": bits} for name, bits in references.items()},
        "verdict": below,
    }


@pytest.mark.parametrize(
    ("ours", "tone", "words"),
    [
        (1.0, "good", "better than unigram, gzip\u00a0-9 and xz\u00a0-9."),
        (2.5, "fair", "better than unigram and gzip\u00a0-9, not xz\u00a0-9."),
        (3.5, "fair", "better than unigram, not gzip\u00a0-9 and xz\u00a0-9."),
        (5.0, "bad", "learned nothing"),
    ],
)
def test_the_headline_says_what_the_model_beats(ours: float, tone: str, words: str) -> None:
    found = verdict(example(evaluation=lines(4.0, 3.0, 2.0, ours)))
    assert found[0] == tone
    assert words in found[1]


def test_what_came_in_is_counted_over_all_sources() -> None:
    stages = [("crawl", 25, 16), ("ingest", 165, 146), ("extract", 146, 140)]
    funnel = tuple(FunnelRow(stage=name, documents_in=given, documents_out=out) for name, given, out in stages)
    for documents, remark in ((120, "of 165 that came in"), (180, "from 165 that came in")):  # some are made of others
        assert tiles(example(funnel=funnel, corpus=Corpus(documents=documents)))[0] == (
            "Documents kept", str(documents), remark
        )  # fmt: skip


def test_how_often_the_text_was_read_is_said() -> None:
    assert ("Parameters", "6.29M", "1,200 steps, saw 9.83M tokens (7.68 passes)") in tiles(example())


def test_the_model_stands_among_the_reference_lines_by_its_bits() -> None:
    assert [name for name, *_ in ladder(lines(4.0, 3.0, 2.0, 2.5))] == [
        "unigram",
        "gzip\u00a0-9",
        "this model",
        "xz\u00a0-9",
    ]


def test_text_is_escaped_cut_and_its_unseen_characters_named() -> None:
    assert visible("<b>&") == "&lt;b&gt;&amp;"
    assert "U+202E" in visible("a\u202eb")
    assert "right-to-left override" in visible("a\u202eb")
    assert "U+D800" in visible("\ud800")
    assert visible("می\u200cخواهم \U0001f469\u200d\U0001f4bb\tx\ny") == "می\u200cخواهم \U0001f469\u200d\U0001f4bb\tx\ny"
    assert "90 more characters" in visible("x" * 100, 10)
    assert len(str(visible("e" + "\u0301" * 1000))) < 10


def test_every_part_of_a_bar_stands_for_its_documents() -> None:
    row = FunnelRow(stage="s", documents_in=100, documents_out=60, dropped={"a": 20, "b": 10}, quarantined=10)
    assert [(part.kind, part.start, part.width) for part in funnel_bar(row, 200)] == [
        ("kept", 0.0, 30.0), ("dropped", 30.0, 15.0), ("quarantined", 45.0, 5.0),
    ]  # fmt: skip


def test_the_flow_draws_every_input_once() -> None:
    run = example()
    flow = flow_picture(run.steps, run.funnel, vertical=False)
    assert len(flow.boxes) == len(STEPS)
    assert len(flow.arrows) + len(flow.skips) == sum(map(len, READS.values()))


@pytest.mark.parametrize("vertical", [False, True])
def test_a_step_that_reads_the_whole_corpus_does_not_hide_the_other_arrows(vertical: bool) -> None:
    steps = [StepRow(step=f"s{n}", state="ran", reads=(f"s{n - 1}",) if n else ()) for n in range(30)]
    steps.append(StepRow(step="card", state="ran", reads=tuple(step.step for step in steps)))
    flow = flow_picture(steps, (), vertical=vertical)
    assert (len(flow.boxes), len(flow.arrows), len(flow.skips)) == (31, 30, 0)
    assert vertical or flow.width < 1200


def test_a_curve_of_any_length_is_drawn_with_bounded_points() -> None:
    long = [CurvePoint(step=step, train=5.0 / (1 + step)) for step in range(100_000)]
    for log_x in (False, True):
        plot = loss_plot(long, log_x=log_x)
        assert plot is not None
        assert plot.paths["train"].count("L") <= 401
        assert "nan" not in plot.paths["train"]


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    curve = [CurvePoint(step=step, train=math.nan if step == 3 else 2.0) for step in range(6)]
    plot = loss_plot(curve, log_x=False)
    assert plot is not None
    assert plot.paths["train"].count("L") == 4
    assert loss_plot([CurvePoint(step=1, train=math.inf)], log_x=True) is None


def test_ticks_are_round_and_within_the_axis() -> None:
    assert linear_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert linear_ticks(0.93, 1.07, 3) == [0.95, 1.0, 1.05]
    assert log_ticks(1, 1e6) == [1, 10, 100, 1000, 10_000, 100_000, 1_000_000]
    assert linear_ticks(3, 3) == [3]


def test_a_histogram_of_one_bin_can_be_drawn() -> None:
    plot = histogram_plot(Histogram(title="t", edges=(1.0, 2.0), all=(3,), kept=(0,), log=True))
    assert plot.paths["all"].startswith("M0 1000")
    assert plot.paths["kept"] == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0012, "0.0012"),
        (0.00012, "1.2e-04"),
        (999, "999"),
        (999_950, "1M"),
        (1234, "1.23k"),
        (3.5e9, "3.5G"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12.4, "12 s"), (59.7, "1 min 0 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")],
)
def test_times_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
