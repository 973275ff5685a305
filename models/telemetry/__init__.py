"""What a run says about itself: the deterministic curve, and beside it times, throughput, memory and trackers."""

from models.telemetry.curve import SAMPLES, Curve
from models.telemetry.flops import PEAK_FLOPS, peak_flops, sequence_flops, step_flops, utilisation
from models.telemetry.logs import Logs
from models.telemetry.meter import Meter, TimeLeft, memory
from models.telemetry.trackers import Outcome, require_trackers

__all__ = [
    "PEAK_FLOPS",
    "SAMPLES",
    "Curve",
    "Logs",
    "Meter",
    "Outcome",
    "TimeLeft",
    "memory",
    "peak_flops",
    "require_trackers",
    "sequence_flops",
    "step_flops",
    "utilisation",
]
