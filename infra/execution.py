"""Building artifacts: claim, run in a worker, gate, publish. No Prefect here; infra/orchestration.py adds it."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from infra.artifacts import Artifact, ArtifactStore, Claim, Work
from infra.errors import MillraceError, UserError, reason, told_to_stop
from infra.manifests import Counters, File, Identity
from infra.preemption import NOTE
from infra.processes import Workers
from infra.steps import Gate, Pending, Step

log = logging.getLogger(__name__)

Inputs = dict[str, Artifact]
State = Literal["ran", "cached", "failed", "pending"]


@dataclass
class StepRecord:
    """What became of one step in one run."""

    step: str
    state: State
    seconds: float = 0.0
    why: str = ""
    artifact: Artifact | None = None
    shards: int = 0
    shards_cached: int = 0
    label: str = ""
    stopped: bool = False
    """Whether a step that is "failed" was told to stop."""


@dataclass(frozen=True)
class Options:
    """Which part of the steps a run is about: `--from`, `--until` and `--force` of the command.

    `order` are the names of the recipe's steps in the order in which data flows; `within` fills it in.
    """

    from_step: str | None = None
    until: str | None = None
    force: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    def within(self, known: list[str]) -> "Options":
        """Return the options with their order; raises UserError that names an unknown step and those of the recipe."""
        for option, names in (("--from", [self.from_step]), ("--until", [self.until]), ("--force", self.force)):
            for name in names:
                if name is not None and name not in known:
                    raise UserError(f"{option} {name}: the recipe has no such step; it has {', '.join(known)}")
        return replace(self, order=tuple(known))

    def after_until(self, step: str) -> bool:
        """Tell whether the run stops before `step`."""
        return self.until is not None and self.order.index(step) > self.order.index(self.until)

    def before_from(self, step: str) -> bool:
        """Tell whether `step` must be there already."""
        return self.from_step is not None and self.order.index(step) < self.order.index(self.from_step)


@dataclass(frozen=True)
class Progress:
    """How far the work on a step is: `done` of `total` (None: unknown) in `unit`."""

    step: str
    done: int
    total: int | None
    unit: str
    latest: dict[str, float] = field(default_factory=dict)
    """The last value of what the work measures, by name."""


Listener = Callable[[Progress], None]


@dataclass
class Builder:
    """Builds artifacts in worker processes; every method may be called from several threads."""

    store: ArtifactStore
    workers: Workers
    listener: Listener = field(default=lambda progress: None)

    def whole(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> tuple[Artifact, bool]:
        """Return the artifact of a step and whether it was built here (False: another worker was first)."""
        return self._build(step, cfg, dict(inputs), step.identity(cfg, inputs), gated=True)

    def shard(self, step: Step[Any, ...], cfg: Any, inputs: dict[str, Artifact | File]) -> tuple[Artifact, bool]:
        """Return the artifact of one shard and whether it was built here; gates look at the sum, not at shards."""
        return self._build(step, cfg, inputs, step.shard_identity(cfg, inputs), gated=False)

    def join(self, step: Step[Any, ...], cfg: Any, inputs: Inputs, shards: list[Artifact], seconds: float) -> Artifact:
        """Publish the artifact that lists the shards, after its gate; raises DataError outside of the gate's band."""
        identity = step.identity(cfg, inputs)
        counters = Counters.total(shard.counters for shard in shards)
        check_gate(step.name, cfg, counters)
        work = Work(
            seconds,
            sum(shard.manifest.cpu_seconds for shard in shards),
            max((shard.manifest.peak_memory_bytes for shard in shards), default=0),
        )
        with self.store.claim(identity) as claim:
            if isinstance(claim, Artifact):
                return claim
            return self.store.publish_shards(claim, shards, counters, work)

    def _build(
        self, step: Step[Any, ...], cfg: Any, inputs: dict[str, Any], identity: Identity, *, gated: bool
    ) -> tuple[Artifact, bool]:
        with self.store.claim(identity, waiting=self._waiting(step.name)) as claim:
            if isinstance(claim, Artifact):
                if gated:
                    check_gate(step.name, cfg, claim.counters)
                return claim, False
            counters, work = self._call(step, cfg, inputs, claim)
            counters.check(step.name)
            if gated:
                check_gate(step.name, cfg, counters)
            return self.store.publish(claim, counters, work), True

    def _call(self, step: Step[Any, ...], cfg: Any, inputs: dict[str, Any], claim: Claim) -> tuple[Counters, Work]:
        value, work = self.workers.call(
            step.fn.__module__,
            step.fn.__name__,
            cfg,
            {**inputs, "out": claim.attempt},
            timeout=cfg.step_timeout_seconds or step.timeout_seconds,
            lost=claim.lease.lost,
            tick=self._ticker(step.name, claim),
            note=claim.attempt.scratch / NOTE if step.preemptible else None,
        )
        return value, work

    def _ticker(self, name: str, claim: Claim) -> Callable[[], None]:
        path = claim.attempt.progress_file
        last = [b""]

        def tick() -> None:
            try:
                data = path.read_bytes() if path else b""
            except FileNotFoundError:
                return
            if data and data != last[0]:
                last[0] = data
                self.listener(Progress(name, **json.loads(data)))

        return tick

    @staticmethod
    def _waiting(name: str) -> Callable[[float], None]:
        said = threading.Event()

        def waiting(seconds: float) -> None:
            if seconds > 2 and not said.is_set():
                said.set()
                log.info("%s: another run is building the same artifact; waiting for it", name)

        return waiting


def check_gate(name: str, cfg: Any, counters: Counters) -> None:
    """Hold the counters against the gate of the config, if it declares one."""
    gate = getattr(cfg, "gate", None)
    if isinstance(gate, Gate):
        gate.check(name, counters, source=str(getattr(cfg, "name", "")))


def _label(cfg: Any) -> str:
    """Return the name of the source that a step works on, for steps that run once a source."""
    return str(getattr(getattr(cfg, "source", cfg), "name", ""))


class StepRunner:
    """Decides for each step of a run: not reached, cached, or to be built (by `build`, which a subclass gives).

    A step that a run asks for twice (two flows that share a part) is resolved once.
    """

    def __init__(self, store: ArtifactStore, options: Options | None = None) -> None:
        self.store = store
        self.options = options or Options()
        self.records: list[StepRecord] = []
        self.started: Callable[[str], None] = lambda step: None
        self.finished: Callable[[StepRecord], None] = lambda record: None
        self._forced: set[str] = set()
        self._resolved: dict[str, Artifact] = {}
        self._made: dict[str, Artifact] = {}

    def run(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> Artifact:
        """Return the artifact of `step`, or a Pending where an input is pending or the run stops before it."""
        if cfg is None:
            raise MillraceError(f"{step.name}: called without a config")
        label = _label(cfg)
        made = self._made_or_pending(step, cfg, inputs)
        self._made[f"{step.name}/{label}" if label else step.name] = made
        return made

    def made(self) -> dict[str, Artifact]:
        """Return what `run` has returned so far, in order, by step, or `STEP/SOURCE` where it has a source."""
        return dict(self._made)

    def _made_or_pending(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> Artifact:
        waiting = [v for v in inputs.values() if isinstance(v, Pending)]
        if waiting or self.options.after_until(step.name):
            return self._pending(step, cfg, inputs)
        key = step.identity(cfg, inputs).digest
        if key not in self._resolved:
            self._resolved[key] = self._resolve(step, cfg, inputs)
        return self._resolved[key]

    def _pending(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> Artifact:
        label = _label(cfg)
        if not any((r.step, r.label, r.state) == (step.name, label, "pending") for r in self.records):
            why = self.why_pending(step, cfg, inputs)
            self.records.append(StepRecord(step.name, "pending", why=why, label=label))
        pending: Any = Pending(step.name, "not reached")
        return pending  # type: ignore[no-any-return]

    def why_pending(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> str:
        """Say why a step is not resolved."""
        return "not reached"

    def _resolve(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> Artifact:
        record = StepRecord(step.name, "failed", label=_label(cfg))
        self.records.append(record)
        self.started(step.name)
        began = time.monotonic()
        try:
            artifact = self.build(step, cfg, inputs, record)
            record.artifact = None if isinstance(artifact, Pending) else artifact
        except BaseException as exc:
            record.why = reason(exc)
            record.stopped = told_to_stop(exc)
            raise
        finally:
            record.seconds = time.monotonic() - began
            self.finished(record)
        return artifact

    def build(self, step: Step[Any, ...], cfg: Any, inputs: Inputs, record: StepRecord) -> Artifact:
        """Return the artifact of a step and set the record's state and reason."""
        raise NotImplementedError

    def cached(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> Artifact | None:
        """Look the artifact up, hold it against today's gate, and mind `--from` and `--force`."""
        identity = step.identity(cfg, inputs)
        found = self.store.lookup(identity)
        if found is not None and step.name in self.options.force:
            return None
        if found is not None:
            check_gate(step.name, cfg, found.counters)
        elif self.options.before_from(step.name):
            raise UserError(
                f"--from {self.options.from_step}: the earlier step {step.name} is not cached; "
                f"run without --from, or --from {step.name}"
            )
        return found

    def reusable(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> Artifact | None:
        """Return the published artifact unless `--force` names the step; then take it back, once."""
        if step.name not in self.options.force:
            return self.cached(step, cfg, inputs)
        identity = step.identity(cfg, inputs)
        published = self.store.lookup(identity)
        if identity.digest in self._forced:
            return published
        shards = [step.shard_identity(cfg, part).digest for part in step.split(inputs)] if step.shards else []
        self.store.withdraw(identity, shards)
        self._forced.add(identity.digest)
        return None


class LocalRunner(StepRunner):
    """Runs steps with a Builder and without Prefect: for tests, benchmarks and notebooks."""

    def __init__(self, store: ArtifactStore, workers: Workers, options: Options | None = None) -> None:
        super().__init__(store, options)
        self.builder = Builder(store, workers)

    def build(self, step: Step[Any, ...], cfg: Any, inputs: Inputs, record: StepRecord) -> Artifact:
        """Build shards one after the other."""
        if (found := self.reusable(step, cfg, inputs)) is not None:
            record.state, record.why = "cached", "published before"
            return found
        if not step.shards:
            artifact, built = self.builder.whole(step, cfg, inputs)
        else:
            began = time.monotonic()
            results = [self.builder.shard(step, cfg, part) for part in step.split(inputs)]
            built = any(new for _, new in results)
            artifact = self.builder.join(step, cfg, inputs, [a for a, _ in results], time.monotonic() - began)
        record.state = "ran" if built else "cached"
        return artifact
