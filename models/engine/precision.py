"""The arithmetic of training: what the device can do, and why."""

import torch

from infra.errors import UserError


def resolve_precision(precision: str) -> tuple[str, str]:
    """Return the precision to train in and the reason, which is worth printing where it was "auto".

    Raises UserError where this device cannot compute in it.
    """
    if precision == "fp16":
        _require_fp16()
    if precision != "auto":
        return precision, "the recipe says so"
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16_autocast", f"{torch.cuda.get_device_name()} multiplies bf16 in hardware"
        return "fp32", f"{torch.cuda.get_device_name()} has no bf16 arithmetic"
    if torch.cpu._is_avx512_bf16_supported():
        return "bf16_autocast", "this processor has AVX512-BF16"
    return "fp32", "this processor has no AVX512-BF16, and emulated bf16 is slower than fp32"


def newton_schulz_dtype(precision: str) -> torch.dtype:
    """Return what Muon's matrices are orthogonalised in: bf16 where training has it; cards that take fp16 do not."""
    return torch.bfloat16 if precision in ("bf16", "bf16_autocast") else torch.float32


def _require_fp16() -> None:
    from deepspeed.accelerator import get_accelerator

    if not get_accelerator().is_fp16_supported():
        raise UserError(
            "pretrain: precision=fp16 cannot run here: this processor has no fp16 arithmetic (AVX512-FP16 or AMX-FP16) "
            "for DeepSpeed to compute in; use precision=bf16_autocast or fp32, or a GPU"
        )
