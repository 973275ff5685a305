"""DeepSpeed behind a small surface: an engine is built from our own typed configuration, stepped, saved and gathered.

The training loop sees `Engine` (models/engine/interface.py) and knows nothing of how the model is cut over ranks:

    DataParallelEngine    replicas under ZeRO 0 to 3, with offload, each on one rank or cut over a few (AutoTP)
    PipelineEngine        replicas cut into stages that hand activations on, under ZeRO 0 or 1

DeepSpeed ignores keys that it does not know, so it only ever sees a dictionary made here.  Clipping and the check for
non-finite gradients are ours at ZeRO stage 0, where DeepSpeed has no check and would let NaN into the weights.

On two ranks of a CPU all of it gives the curve of one process (tests/models/test_parallel.py), except for

    fp16            refused unless the processor has fp16 arithmetic, by precision.py
    overlap         there are no streams: gradients are reduced after they were computed, and a pipeline's stages wait
                    for what they send

and everywhere for Adafactor under ZeRO 1 to 3, and Muon, LAMB and Adafactor under tensor parallelism, which need whole
matrices.  A rank never holds more of the first weights than its share and one matrix (shares.py), but under tensor
parallelism: AutoTP cuts a network that is there as a whole.
"""

from pathlib import Path

import torch

from models.config import ExecutionConfig, TrainingConfig
from models.engine.data_parallel import DataParallelEngine
from models.engine.interface import Batch, Decision, Engine
from models.engine.pipeline import PipelineEngine
from models.engine.precision import resolve_precision
from models.engine.processes import any_rank, initialise_processes, sum_over_replicas

__all__ = [
    "Batch",
    "Decision",
    "Engine",
    "any_rank",
    "build_engine",
    "initialise_processes",
    "resolve_precision",
    "sum_over_replicas",
]


def build_engine(
    training: TrainingConfig,
    execution: ExecutionConfig,
    *,
    vocab_size: int,
    precision: str,
    device: torch.device,
    initial_weights: Path | None = None,
) -> Engine:
    """Return the engine that `execution` asks for; every rank must call it.

    Its network begins with the weights of the file `initial_weights`, with weights drawn by the seed by default.
    """
    kind = PipelineEngine if execution.pipeline_stages > 1 else DataParallelEngine
    return kind(
        training,
        execution,
        vocab_size=vocab_size,
        precision=precision,
        device=device,
        initial_weights=initial_weights,
    )
