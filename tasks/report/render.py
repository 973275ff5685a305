"""Draws a `RunReport` as one HTML file: no script, no request, nothing fetched, readable offline and on paper.

Text from the web and from the model is hostile: everything is escaped by jinja2, control and bidirectional characters
are shown by name instead of obeyed, long runs are cut, addresses are text and not links, and a content security policy
in the page forbids scripts and requests even if all of that failed.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING

from tasks.report import plots
from tasks.report.flow import flow_picture
from tasks.report.run import FunnelRow, MetricValue, RunReport, StepRow
from tasks.report.training import events, series_plots

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

LONGEST_TEXT = 4000
"""Characters shown of any one text; a report stays a page that a phone can open."""

# Control characters but tab and newline; bidirectional marks, embeddings, overrides and isolates (UAX #9), which could
# reverse what stands around them; line separators and the byte-order mark; lone surrogates, which UTF-8 cannot hold.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
# More combining marks on one letter than any script needs paint over the lines around them.
_MARKS = re.compile(
    r"([\u0300-\u036f\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{4})"
    r"[\u0300-\u036f\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)

_REFERENCES = {
    "reference/uniform-bytes": "uniform over bytes",
    "reference/uniform-tokens": "uniform over the vocabulary",
    "reference/unigram": "unigram",
    "reference/5-gram": "5-gram",
    "reference/gzip-9": "gzip\u00a0-9",
    "reference/xz-9": "xz\u00a0-9",
}
_VERDICTS = {
    "below_unigram": "unigram",
    "below_5_gram": "5-gram",
    "below_gzip_9": "gzip\u00a0-9",
    "below_xz_9": "xz\u00a0-9",
}
_COLUMNS = {
    "bits_per_byte": "Bits a byte",
    "nats_per_token": "Nats a token",
    "accuracy": "Right",
    "perplexity": "Perplexity",
    "missing_tokens": "Missing tokens",
    "documents": "Documents",
    "bytes": "Bytes",
}
"""Metrics of held-out text, as far as it has them, with their titles."""


def render_report(run: RunReport) -> str:
    """Render a run as one self-contained HTML document; the same run always gives the same text."""
    widest = max((row.documents_in for row in run.funnel), default=0)
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            run=run,
            style=style(),
            verdict=verdict(run),
            tiles=tiles(run),
            flow=flow_picture(run.steps, run.funnel, vertical=False),
            vertical_flow=flow_picture(run.steps, run.funnel, vertical=True),
            funnel=[(row, plots.funnel_bar(row, widest)) for row in run.funnel],
            tables=[(step, list(tables)) for step, tables in groupby(run.tables, key=lambda table: table.step)],
            languages=plots.category_bars(run.languages) if run.languages else [],
            histograms=[(histogram, plots.histogram_plot(histogram)) for histogram in run.histograms],
            loss=[
                (name, plot)
                for name, log_x in (("linear", False), ("logarithmic", True))
                if (plot := plots.loss_plot(run.curve, log_x=log_x)) is not None
            ],
            series=series_plots(run.curve),
            events=events(run.curve),
            written=[(step, list(rows)) for step, rows in groupby(run.samples, key=lambda sample: sample.step)],
            ladder=ladder(run.evaluation),
            unit=_unit(run.evaluation),
            columns=[(name, title) for name, title in _COLUMNS.items() if name in run.evaluation.get("validation", {})],
            by_source=by_source(run.evaluation),
            other_tasks=other_tasks(run.evaluation),
            steps_by_digest={node.digest: node.step for node in run.lineage},
        )
    )


def verdict(run: RunReport) -> tuple[str, str]:
    """Return ("good" | "fair" | "bad", one sentence) that says what came of the run."""
    if run.status == "failed":
        failed = next((row.step for row in run.steps if row.state == "failed"), None)
        if run.stopped:
            return (
                "fair",
                f"The run was told to stop {f'in {failed}' if failed else 'between two steps'}, and can go on.",
            )
        return "bad", f"The run stopped at {failed}." if failed else "The run stopped before its first step."
    if (classifier := run.evaluation.get("classifier")) is not None:
        return _of_classifier(classifier)
    cost = _cost(run.evaluation, "validation")
    if cost is None:
        return "fair", "The run completed. No model was evaluated."
    judged = run.evaluation.get("verdict", {})
    below = [name for key, name in _VERDICTS.items() if judged.get(key) is True]
    above = [name for key, name in _VERDICTS.items() if judged.get(key) is False]
    what = (
        "bits a byte on held-out text"
        if _unit(run.evaluation) == "bits_per_byte"
        else ("nats a token that is missing in held-out text")
    )
    lead = f"{cost:.2f} {what}"
    if not judged.get("below_unigram"):
        return "bad", f"The model learned nothing worth having: {lead}, no better than counting tokens."
    if above:
        return "fair", f"The model learned: {lead}, better than {_join(below)}, not {_join(above)}."
    return "good", f"The model learned: {lead}, better than {_join(below)}."


def _of_classifier(measured: Mapping[str, MetricValue]) -> tuple[str, str]:
    """Say what a classifier came to; an area of a half is that of a coin."""
    area = float(measured["roc_auc"] or 0)
    found = f"area under the ROC curve {area:.3f} on {measured['documents']:,} documents that were held out"
    if area <= 0.6:
        return "bad", f"The classifier cannot tell the two sets apart: {found}."
    return "good" if area > 0.9 else "fair", f"The classifier tells the two sets apart: {found}."


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def tiles(run: RunReport) -> list[tuple[str, str, str]]:
    """Return the headline numbers as (label, number, remark)."""
    found: list[tuple[str, str, str]] = []
    corpus, model = run.corpus, run.model
    if corpus.documents is not None:
        stages = {row.stage: row.documents_in for row in run.funnel if row.documents_in}
        entered = stages.get("ingest") or next(iter(stages.values()), None)  # what crawls ask for is one source's
        of = "of" if entered is None or corpus.documents <= entered else "from"  # some may be made of others
        found.append(("Documents kept", f"{corpus.documents:,}", f"{of} {entered:,} that came in" if entered else ""))
    if corpus.bytes is not None:
        remark = f"{plots.compact(corpus.tokens)} tokens" if corpus.tokens is not None else ""
        found.append(("Text", byte_size(corpus.bytes), remark))
    if model is not None and model.parameters is not None:
        seen = f"saw {plots.compact(model.tokens)} tokens" if model.tokens is not None else ""
        if model.tokens is not None and corpus.train_tokens:
            seen += f" ({model.tokens / corpus.train_tokens:,.2f} passes)"
        steps = f"{model.steps:,} steps" if model.steps is not None else ""
        found.append(("Parameters", plots.compact(model.parameters), ", ".join(filter(None, (steps, seen)))))
    cost, loss = _cost(run.evaluation, "validation"), model.validation_loss if model is not None else None
    if cost is None and model is not None:
        cost = model.validation_bits_per_byte
    if _unit(run.evaluation) == "nats_per_token" and cost is not None:
        unigram = _cost(run.evaluation, "reference/unigram")
        found.append(("Nats a missing token", f"{cost:.3f}", f"unigram: {unigram:.3f}" if unigram is not None else ""))
    elif cost is not None:
        gzip = _cost(run.evaluation, "reference/gzip-9")
        found.append(("Bits a byte, held out", f"{cost:.3f}", f"gzip -9: {gzip:.3f}" if gzip is not None else ""))
    elif loss is not None:
        found.append(("Validation loss", f"{loss:.3f}", "nats a target"))
    cached = sum(row.state == "cached" for row in run.steps)
    ran = sum(row.state == "ran" for row in run.steps)
    found.append(("Time", duration(run.seconds), f"{ran} {'step' if ran == 1 else 'steps'} ran, {cached} cached"))
    return found


def _unit(evaluation: dict[str, dict[str, MetricValue]]) -> str:
    """Return the metric that models and lines are compared in: nats where the whole text is not predicted."""
    return "nats_per_token" if "missing_tokens" in evaluation.get("validation", {}) else "bits_per_byte"


def _cost(evaluation: dict[str, dict[str, MetricValue]], task: str) -> float | None:
    value = evaluation.get(task, {}).get(_unit(evaluation))
    return float(value) if isinstance(value, int | float) else None


def ladder(evaluation: dict[str, dict[str, MetricValue]]) -> list[tuple[str, float, float, str, bool]]:
    """Return (name, bits or nats, percent of the worst, what it saw, whether it is the model), worst first."""
    rows = [
        (name, _cost(evaluation, task), str(evaluation.get(task, {}).get("saw") or ""), False)
        for task, name in _REFERENCES.items()
    ]
    rows.append(("this model", _cost(evaluation, "validation"), "the training text", True))
    known = [(name, bits, saw, ours) for name, bits, saw, ours in rows if bits is not None]
    worst = max((bits for _, bits, _, _ in known), default=1.0) or 1.0
    if not any(ours for *_, ours in known):
        return []
    return sorted(
        ((name, bits, 100 * bits / worst, saw, ours) for name, bits, saw, ours in known), key=lambda row: -row[1]
    )


def by_source(evaluation: dict[str, dict[str, MetricValue]]) -> list[tuple[str, dict[str, MetricValue]]]:
    """Return the held-out metrics of each source, most bytes first."""
    prefix = "validation/"
    rows = [(task.removeprefix(prefix), row) for task, row in evaluation.items() if task.startswith(prefix)]
    return sorted(rows, key=lambda row: (-float(row[1].get("bytes") or 0), row[0]))


def other_tasks(evaluation: dict[str, dict[str, MetricValue]]) -> list[tuple[str, str, MetricValue]]:
    """Return (task, metric, value) for every task but held-out text, reference lines and verdict."""
    return [
        (task, metric, value)
        for task, row in sorted(evaluation.items())
        if task not in ("validation", "verdict") and not task.startswith(("validation/", "reference/"))
        for metric, value in row.items()
    ]


def visible(text: object, limit: int = LONGEST_TEXT) -> "Markup":
    """Escape text from outside for HTML, show what cannot be seen, and cut it after so many characters."""
    from markupsafe import Markup, escape

    plain = str(text).replace("\r\n", "\n")
    cut = plain[:limit]
    cut = _MARKS.sub(r"\1", cut)
    pieces, end = [], 0
    for match in UNSEEN.finditer(cut):
        pieces.append(escape(cut[end : match.start()]))
        code = ord(match.group())
        name = "" if 0xD800 <= code <= 0xDFFF else unicodedata.name(match.group(), "control character").lower()
        pieces.append(Markup('<span class="ctl" title="{}">U+{}</span>').format(name, f"{code:04X}"))
        end = match.end()
    pieces.append(escape(cut[end:]))
    if len(plain) > limit:
        pieces.append(Markup('<span class="cut">… {} more characters</span>').format(f"{len(plain) - limit:,}"))
    return Markup("").join(pieces)


def _plain(value: object) -> object:
    """Make text that no filter marked up (attributes, say) harmless: unseen characters become U+FFFD."""
    if type(value) is not str:
        return value
    return UNSEEN.sub("\ufffd", value)


def duration(seconds: float) -> str:
    """Write seconds as a person would: 0.4 s, 12 s, 3 min 12 s, 2 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def byte_size(count: float) -> str:
    """Write a number of bytes in powers of 1000: 512 B, 1.2 MB."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}" if count < 1000 * limit else f"{count / limit:,.0f} {unit}"
    return f"{count:.0f} B"


def metric(value: MetricValue) -> str:
    """Write the value of a metric: counts with thousands, fractions with four decimals."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4f}" if abs(value) < 1e5 else f"{value:.4g}"
    return str(value)


def share(part: float, whole: float) -> str:
    """Write a share in percent."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 9.95 or percent == 0 else f"{percent:.1f} %"


def _reasons(row: FunnelRow) -> list[tuple[str, str, int, tuple[str, ...]]]:
    """Return (kind, reason, documents, example URLs), most frequent first."""
    counts = [("dropped", reason, count) for reason, count in row.dropped.items()]
    counts += [("quarantined", reason, count) for reason, count in row.errors.items()]
    counts.sort(key=lambda entry: (-entry[2], entry[1]))
    return [(kind, reason, count, row.examples.get(reason, ())) for kind, reason, count in counts]


def _time_share(row: StepRow, steps: Sequence[StepRow]) -> float:
    longest = max((other.seconds for other in steps), default=0.0)
    return 100 * row.seconds / longest if longest else 0.0


@lru_cache(maxsize=4)
def environment(*packages: str) -> "Environment":
    """Return what renders the templates of the report, and of other packages that share its macros and its look."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, "templates") for name in (*packages, "tasks.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        visible=visible,
        duration=duration,
        byte_size=byte_size,
        compact=plots.compact,
        metric=metric,
        reasons=_reasons,
    )
    environment.globals.update(share=share, time_share=_time_share)
    return environment


@lru_cache(maxsize=1)
def style() -> "Markup":
    """Return the style sheet."""
    from markupsafe import Markup

    return Markup(files("tasks.report").joinpath("templates", "report.css").read_text(encoding="utf-8"))
