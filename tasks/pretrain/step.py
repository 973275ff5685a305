"""The step: train, and publish the model with what was measured."""

import shutil

from infra.artifacts import Artifact, Attempt
from infra.manifests import Counters
from infra.steps import step
from models.dial import reasons
from models.job import stop_note
from tasks.pretrain.config import PretrainConfig
from tasks.pretrain.inputs import VERSION, make_job
from tasks.pretrain.supervision import Lines, train

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_METRICS = (
    "tokens_per_second", "mfu", "mfu_reason", "device", "precision_reason", "threads", "ranks", "micro_batch",
    "training_seconds", "data_wait_share", "checkpoint_seconds",
)  # fmt: skip
_VALUES = ("parameters", "steps", "tokens", "bad_steps", "spikes", "rollbacks", "skipped_batches")


@step("pretrain", version=VERSION, timeout_seconds=None, preemptible=True)
def pretrain(
    cfg: PretrainConfig, tokens: Artifact, tokenizer: Artifact, out: Attempt, initial: Artifact | None = None
) -> Counters:
    """Train on train/ of the tokens, validate on validation/; start from the weights of `initial` where it is given.

    Raises UserError, DataError, WorkerDiedError, StepTimeoutError where it makes no progress, and PreemptedError where
    it was told to stop and has saved what it had.
    """
    job = make_job(cfg, tokens, tokenizer, out, initial)
    if cfg.dial is not None:
        why = "".join(f"{reason}\n" for reason in reasons(cfg.dial, cfg.model_dump()))
        out.path("logs/dial.txt").write_text(why, encoding="utf-8")
    report = Lines(out.path("logs/ranks.log"), out.progress)
    try:
        result = train(job, report)
    finally:
        report.close()
        stop_note(job.scratch).unlink(missing_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer.file(name).local(), out.path(name))
    return Counters(
        documents_in=1,
        documents_out=1,
        values={name: result[name] for name in _VALUES},
        metrics={
            name: result[name] for name in (*_METRICS, "validation_loss", "validation_bits_per_byte", "precision")
        },
    )
