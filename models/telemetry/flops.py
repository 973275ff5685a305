"""What training costs in floating-point operations, and the most that a card does in a second."""

from models.config import ModelConfig, TrainingConfig

# Dense peak of 16-bit matrix products with 32-bit sums in FLOP/s; where a data sheet gives the figure "with sparsity",
# half of it.  Cards are named as torch.cuda.get_device_name does.  Sources: the makers' data sheets and white papers.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,  # A100 data sheet, 2021
    "NVIDIA A800": 312e12,
    "NVIDIA A30": 165e12,  # A30 data sheet, 2021
    "NVIDIA A40": 149.7e12,  # A40 data sheet, 2021
    "NVIDIA A10": 125e12,  # A10 data sheet, 2021
    "NVIDIA RTX A6000": 154.8e12,  # GA102 white paper, 2020
    "NVIDIA GeForce RTX 3090": 71.2e12,  # GA102 white paper, 2020
    "NVIDIA GeForce RTX 4090": 165.2e12,  # Ada white paper, 2022
    "NVIDIA RTX 6000 Ada Generation": 364.2e12,  # data sheet, 2022
    "NVIDIA L4": 121e12,  # L4 data sheet, 2023
    "NVIDIA L40": 181.05e12,  # L40 data sheet, 2022
    "NVIDIA L40S": 362.05e12,  # L40S data sheet, 2023
    "NVIDIA H100 PCIe": 756e12,  # H100 data sheet, 2023
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H800": 989.4e12,
    "NVIDIA H20": 148e12,  # H20 data sheet, 2024
    "NVIDIA H200": 989.4e12,  # H200 data sheet, 2024
    "NVIDIA H200 NVL": 835.5e12,
    "NVIDIA GH200": 989.4e12,  # GH200 data sheet, 2023
    "NVIDIA B200": 2250e12,  # HGX B200 data sheet, 2024
    "NVIDIA GB200": 2500e12,  # GB200 NVL72 data sheet, 2024
    "NVIDIA GeForce RTX 5090": 209.5e12,  # RTX Blackwell white paper, 2025
    "AMD Instinct MI250X": 191.5e12,  # data sheet, 2021: 383 for two dies, each a device of its own
    "AMD Instinct MI300X": 1307.4e12,  # data sheet, 2023
    "AMD Instinct MI325X": 1307.4e12,  # data sheet, 2024
}


def peak_flops(device: str) -> float | None:
    """Return the peak of the card with that name; None for an unknown one, and for a slice of one (MIG).

    The name of a card for servers may go on with its form and memory; GeForce cards with longer names are other ones.
    """
    if " MIG " in device:
        return None
    known = [
        name
        for name in PEAK_FLOPS
        if device == name or (device.startswith((f"{name} ", f"{name}-")) and "GeForce" not in name)
    ]
    return PEAK_FLOPS[max(known, key=len)] if known else None


def utilisation(
    *, flops_per_second: float | None, device: str, precision: str, ranks: int
) -> tuple[float | None, str | None]:
    """Return which share of the ranks' peak is used (MFU), or None and why that is not known."""
    peak = peak_flops(device)
    if peak is None:
        return None, f"no peak FLOP/s is known for {device}"
    if precision == "fp32":
        return None, f"training in fp32, and the peak known for {device} is of 16-bit products"
    if flops_per_second is None:
        return None, "there was but one step"
    return flops_per_second / (peak * ranks), None


def step_flops(training: TrainingConfig, vocab_size: int) -> float:
    """Return the FLOPs of one optimiser step; what activation checkpointing computes again does not count."""
    cfg, objective = training.model, training.objective
    if objective.kind == "denoising":
        source, targets = objective.lengths(training.window)
        return training.batch * sequence_flops(cfg, vocab_size, length=targets, source=source)
    scored = round(objective.probability * training.window) if objective.kind == "masked" else training.window
    return training.batch * sequence_flops(cfg, vocab_size, length=training.window, scored=scored)


def sequence_flops(
    cfg: ModelConfig, vocab_size: int, *, length: int, source: int = 0, scored: int | None = None
) -> float:
    """Return the FLOPs of training on one sequence of `length` positions, and of `source` that an encoder reads.

    The matrix products of the forward pass three times, as the backward pass takes two for each (PaLM, arXiv
    2204.02311, appendix B): attention as if nothing was masked but what a sliding window leaves out, of experts those
    that a position goes through, the output head where positions are `scored` (all by default).
    """
    two = cfg.family == "encoder_decoder"
    causal = cfg.family != "encoder"
    forward = 0.0
    for layer in range(cfg.layers if two else 0):
        forward += source * (_attention(cfg, _reach(cfg, layer, source, causal=False)) + _feed_forward(cfg, layer))
    for layer in range(cfg.resolved_decoder_layers if two else cfg.layers):
        forward += length * (_attention(cfg, _reach(cfg, layer, length, causal=causal)) + _feed_forward(cfg, layer))
        if two:
            forward += length * _queries(cfg, source) + source * _keys(cfg)
    head = cfg.width * vocab_size + (cfg.width * cfg.width if cfg.head_transform else 0)
    return 3.0 * (forward + 2 * head * (length if scored is None else scored))


def _reach(cfg: ModelConfig, layer: int, length: int, *, causal: bool) -> int:
    window = cfg.window(layer)
    return length if window is None else min(window if causal else 2 * window - 1, length)


def _attention(cfg: ModelConfig, reach: int) -> float:
    return _queries(cfg, reach) + _keys(cfg)


def _queries(cfg: ModelConfig, reach: int) -> float:
    """FLOPs a position: its query and output, its product with `reach` keys and the sum of as many values."""
    channels = cfg.heads * cfg.resolved_head_width
    return 4 * cfg.width * channels + 4 * channels * reach


def _keys(cfg: ModelConfig) -> float:
    return 4 * cfg.width * cfg.resolved_kv_heads * cfg.resolved_head_width


def _feed_forward(cfg: ModelConfig, layer: int) -> float:
    matrices = 3 if cfg.gated else 2
    if cfg.moe is None or not cfg.has_experts(layer):
        return 2 * matrices * cfg.width * cfg.resolved_ffn_width
    used = cfg.moe.top_k + cfg.moe.shared_experts
    return 2 * cfg.width * cfg.moe.experts + 2 * matrices * used * cfg.width * cfg.resolved_expert_width
