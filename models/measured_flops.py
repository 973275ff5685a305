"""What this machine reaches in training, for budgets that are given as time."""

import time
from typing import Final

import torch

from models.config import ModelConfig
from models.parameters import training_flops
from models.transformer import Transformer

_SHAPE: Final = {"layers": 4, "heads": 4, "width": 256, "sequence_length": 256}
_ON_GPU: Final = {"layers": 4, "heads": 16, "width": 1024, "sequence_length": 1024}
"""What is large enough to keep one busy."""
_VOCABULARY: Final = 8192
_ROWS: Final = 8


def measure_flops(seconds: float = 5.0) -> float:
    """Return the FLOP/s of forward and backward passes of a small decoder, measured for some seconds.

    In fp32 on a CPU and with bf16_autocast, where it has that, on a GPU: there fp32 is an eighth or less of it.  Larger
    models reach more, compiled ones on GPUs half as much again; DeepSpeed and the loader take their share.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cfg = ModelConfig.model_validate(_ON_GPU if device.type == "cuda" else _SHAPE)
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    network = Transformer(cfg, _VOCABULARY).to(device)
    tokens = torch.randint(0, _VOCABULARY, (_ROWS, cfg.sequence_length), device=device)

    def step() -> float:
        network.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss: torch.Tensor = network(tokens, tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()  # waits for the device

    step()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
    per_step = training_flops(cfg, _VOCABULARY) * tokens.numel()
    return steps * per_step / (time.perf_counter() - began)
