"""One self-contained HTML file a run: what happened, to how many documents, and whether the model learned anything.

`collect` reads artifacts into a `RunReport`; `render_report` turns that into HTML, without looking at anything else.

    run = collect({"extract": documents, ...}, run_id=..., recipe_name=..., recipe=..., status=..., steps=...)
    storage.write_bytes(f"runs/{run.run_id}/report.html", render_report(run).encode())
"""

from tasks.report.collect import collect
from tasks.report.render import render_report
from tasks.report.run import (
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
)

__all__ = [
    "Bars",
    "Corpus",
    "CurvePoint",
    "FunnelRow",
    "GeneratedSample",
    "Histogram",
    "LineageInput",
    "LineageNode",
    "ModelNumbers",
    "RunReport",
    "SampleDocument",
    "StepRow",
    "collect",
    "render_report",
]
