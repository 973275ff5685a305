"""What training takes of memory, by estimate: close to what autograd keeps, and refused before anything is started."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.config import EMAConfig, ExecutionConfig, TrainingConfig
from models.machine_memory import MachineMemory, machine_memory
from models.memory import activation_bytes, estimate, fitting
from models.parameters import count_parameters
from models.transformer import Transformer

GIB = 1 << 30


def training(model: dict[str, Any], **changes: Any) -> TrainingConfig:
    """A small training of a shape."""
    base = {"optimizer": {"kind": "adamw"}, "schedule": {"kind": "cosine", "warmup_steps": 1}, "steps": 9, "batch": 8}
    return TrainingConfig.model_validate({**base, "model": model, **changes})


SMALL = {"layers": 3, "heads": 4, "width": 64, "sequence_length": 64}


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"activation": "relu2", "qk_norm": False, "kv_heads": 2},
        {"norm": "layernorm", "bias": True, "activation": "gelu_tanh", "positions": "learned"},
        {"dropout": 0.1},
        {"attention_softcap": 50.0, "logit_softcap": 30.0},
        {"preset": "bert-tiny"},
        {"preset": "t5-tiny", "decoder_layers": 3},
    ],
    ids=["default", "gqa", "gpt2", "dropout", "softcap", "bert", "t5"],
)
def test_activations_are_what_autograd_keeps(shape: dict[str, Any]) -> None:
    objective = {"bert-tiny": "masked", "t5-tiny": "denoising"}.get(shape.get("preset", ""), "causal")
    cfg = training({**SMALL, **shape}, objective={"kind": objective})
    estimated, _ = activation_bytes(cfg, ExecutionConfig(), vocab_size=50, device="cpu")
    assert kept_by_autograd(cfg) / 1.15 < estimated < kept_by_autograd(cfg) * 1.1


def test_short_sequences_in_bf16_keep_all_scores_on_a_cpu() -> None:
    for model in ({"layers": 2}, {"layers": 2, "sequence_length": 320}):  # the second is long
        cfg = training({**SMALL, **model}, precision="bf16")
        estimated, _ = activation_bytes(cfg, ExecutionConfig(), vocab_size=50, device="cpu")
        assert kept_by_autograd(cfg) / 1.4 < estimated < kept_by_autograd(cfg) * 1.1
        on_gpu, _ = activation_bytes(cfg, ExecutionConfig(), vocab_size=50, device="cuda")
        assert (on_gpu < estimated) == (cfg.model.sequence_length == 64)


def kept_by_autograd(cfg: TrainingConfig) -> float:
    """Return the bytes that autograd keeps of one sequence, measured."""
    network = Transformer(cfg.model, 50).train().to(torch.bfloat16 if cfg.precision == "bf16" else torch.float32)
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            kept[place] = tensor
        return tensor

    tokens = torch.randint(0, 50, (4, cfg.model.sequence_length))
    sources = {}
    if cfg.objective.kind == "denoising":  # targets are fewer than what is read
        sources, tokens = {"source_BS": tokens}, tokens[:, : cfg.objective.lengths(cfg.window)[1]]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(tokens, tokens, **sources)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 4


def test_checkpointing_and_chunks_of_the_loss_save_what_they_are_for() -> None:
    cfg = training({**SMALL, "layers": 12}, batch=4)

    def memory(**execution: Any) -> Any:
        return estimate(cfg, ExecutionConfig(**execution), vocab_size=5000, device="cpu")

    none, selective, full = (memory(activation_checkpointing=kind) for kind in ("none", "selective", "full"))
    assert full.activations < selective.activations / 2 < none.activations / 2
    assert full.activations == 4 * 4 * 64 * (12 * 64 + (none.activations // (4 * 4 * 64) - 3 * 64) // 12 + 3 * 64)
    assert memory(loss_chunk=32).logits * 8 == none.logits  # of 4 times 64 targets
    assert memory(loss_chunk=1000).logits == none.logits


def test_a_denoisers_decoder_has_few_positions_and_the_first_stage_of_a_pipeline_several_micro_batches() -> None:
    denoising = training({"preset": "t5-small"}, objective={"kind": "denoising"})
    held = estimate(denoising, ExecutionConfig(micro_batch=1), vocab_size=32128, device="cuda")
    targets = denoising.objective.lengths(denoising.window)[1]  # type: ignore[union-attr]
    assert targets < 512 / 4
    assert 12 * 32128 * targets <= held.logits <= 16 * 32128 * targets
    chunk = ExecutionConfig(micro_batch=1, loss_chunk=targets // 2)
    assert estimate(denoising, chunk, vocab_size=32128, device="cuda").logits == pytest.approx(
        held.logits / 2, rel=0.01
    )

    cfg = training({**SMALL, "layers": 12}, batch=16)
    stages = [ExecutionConfig(ranks=n, pipeline_stages=n, micro_batch=2) for n in (1, 2, 4)]
    one, two, four = (estimate(cfg, plan, vocab_size=5000, device="cpu") for plan in stages)
    assert (two.activations, two.logits) == (one.activations // 2, one.logits)  # the last: a large vocabulary
    small = [estimate(cfg, plan, vocab_size=50, device="cpu").activations for plan in stages]
    assert small == [one.activations] * 3  # the first: four micro-batches of a quarter of the blocks
    assert four.logits == one.logits


def test_stages_precision_and_offload_take_what_zero_says() -> None:
    cfg = {**SMALL, "layers": 1, "width": 512, "heads": 8}

    def memory(stage: int, ranks: int = 4, precision: str = "fp32", **execution: Any) -> Any:
        plan = ExecutionConfig(zero_stage=stage, ranks=ranks, **execution)
        return estimate(training(cfg, precision=precision), plan, vocab_size=1000, device="cuda")

    whole = memory(0)
    assert (whole.gradients, whole.optimizer) == (whole.weights, 2 * whole.weights)
    one, two, three = (memory(stage) for stage in (1, 2, 3))
    assert one.weights == two.weights == whole.weights == pytest.approx(4 * three.weights, rel=1e-3)
    assert one.optimizer == pytest.approx(12 / 8 * whole.optimizer / 4, rel=1e-3)  # and the master copy
    assert memory(1, precision="bf16").weights * 2 == whole.weights
    assert memory(1, precision="bf16").activations * 2 == whole.activations
    assert memory(1, offload_optimizer="cpu").optimizer == 0
    assert memory(0, ranks=1, micro_batch=2).activations == 2 * memory(0, ranks=1, micro_batch=1).activations


def test_muon_and_lamb_are_counted_as_what_they_keep_and_what_they_take_to_step() -> None:
    def memory(kind: str, stage: int, precision: str = "fp32", **execution: Any) -> Any:
        cfg = training({"preset": "gpt2-124m"}, optimizer={"kind": kind}, precision=precision)
        plan = ExecutionConfig(zero_stage=stage, ranks=8, **execution)
        return estimate(cfg, plan, vocab_size=50257, device="cuda")

    blocks, edges = 12 * 12 * 768 * 768, (50257 + 1024) * 768
    whole, cut = memory("muon", 0), memory("muon", 2)
    assert whole.optimizer == pytest.approx(4 * blocks + 8 * edges, rel=0.01)
    assert cut.optimizer == pytest.approx((8 * blocks + 12 * edges) / 8, rel=0.01)  # and the master copy
    assert whole.step <= 6 * 4 * 2**25 < cut.step <= whole.step + 2 * 4 * 2**25 + 4 * blocks / 7
    assert memory("muon", 2, offload_optimizer="cpu").step < cut.step
    assert memory("muon", 2, "bf16").step < memory("muon", 2, "fp16").step == cut.step  # which it multiplies in fp32
    assert memory("lamb", 3).step == pytest.approx(8 * (blocks + edges) / 8, rel=0.01)
    assert memory("adamw", 3).step == 0


def test_what_cannot_fit_is_refused_with_the_numbers_and_what_would() -> None:
    cfg = training({"preset": "gpt2-124m"}, batch=64)
    machine = MachineMemory("cpu", 10 * GIB, "this machine", shared=True)
    chosen = fitting(cfg, ExecutionConfig(), vocab_size=50257, machine=machine)
    assert chosen.micro_batch == 8
    with pytest.raises(
        ValueError, match=rf"needs about .* GiB \(weights 475 MiB.*has 10.0 GiB.*{chosen.micro_batch} wo"
    ):
        fitting(cfg, ExecutionConfig(micro_batch=64), vocab_size=50257, machine=machine)
    with pytest.raises(ValueError, match=r"for each of 8 ranks.*fewer ranks on this machine.*check_memory=false"):
        fitting(cfg, ExecutionConfig(ranks=8), vocab_size=50257, machine=machine)
    large = training({"preset": "llama-8b", "sequence_length": 2048}, batch=64)
    card = MachineMemory("cuda", 80 * GIB, "NVIDIA H100", shared=False)
    with pytest.raises(
        ValueError, match=r"optimizer 59\.8 GiB.*NVIDIA H100 has 80\.0 GiB.*higher execution.zero_stage"
    ):
        fitting(large, ExecutionConfig(), vocab_size=128256, machine=card)
    small = MachineMemory("cpu", 20 * GIB, "this machine", shared=True)
    for name, length, advice in (
        ("llama-8b", 8192, "use a smaller model, or a higher"),  # whatever activations take, the weights are too large
        ("llama-1b", 16384, "activation_checkpointing=full or use a smaller model"),
    ):
        cfg = training({"preset": name, "sequence_length": length}, batch=1)
        with pytest.raises(ValueError, match=advice):
            fitting(cfg, ExecutionConfig(), vocab_size=65, machine=small)
    on_many = ExecutionConfig(ranks=8, zero_stage=3)
    assert fitting(large, on_many, vocab_size=128256, machine=card).micro_batch in (1, 2)


def test_a_containers_limit_counts_less_what_the_kernel_gives_back(tmp_path: Path) -> None:
    def limited(limit: str) -> MachineMemory:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{60 << 20}\n")
        (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {10 << 20}\nactive_file 7\n")
        return machine_memory(tmp_path)

    assert limited(str(100 << 20)) == MachineMemory("cpu", 50 << 20, "this container", shared=True)
    assert limited("max").name == "this machine"


def test_what_is_cut_is_made_no_larger_than_it_is_and_what_tensor_parallelism_cuts_is_made_whole() -> None:
    cfg = training({**SMALL, "layers": 40, "width": 512, "heads": 8}, batch=2)

    def memory(**execution: Any) -> Any:
        return estimate(cfg, ExecutionConfig(ranks=2, **execution), vocab_size=50, device="cpu")

    whole = 4 * count_parameters(cfg.model, 50).total
    assert memory(zero_stage=3).made == memory(pipeline_stages=2).made == 0
    cut = memory(tensor_parallel=2)
    assert cut.made == whole
    assert replace(cut, weights=0, optimizer=0, gradients=0).total == cut.process + whole
    averaged = cfg.model_copy(update={"ema": EMAConfig()})
    for execution in ({"zero_stage": 3}, {"pipeline_stages": 2}):
        plan = ExecutionConfig(ranks=2, **execution)
        more = estimate(averaged, plan, vocab_size=50, device="cpu").weights - memory(**execution).weights
        assert more == pytest.approx(whole / 2, rel=1e-3)


def test_what_is_offloaded_to_a_disk_without_room_for_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = training({"preset": "llama-8b"})
    machine = MachineMemory("cpu", 2000 * GIB, "this machine", shared=True)
    to_disk = {"zero_stage": 3, "nvme_path": tmp_path / "not" / "made", "micro_batch": 1}
    both = ExecutionConfig(offload_optimizer="nvme", offload_parameters="nvme", **to_disk)
    parameters = ExecutionConfig(offload_parameters="nvme", **to_disk)
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: free._replace(free=60 * GIB))
    fitting(cfg, parameters, vocab_size=128256, machine=machine)
    with pytest.raises(
        ValueError, match=r"needs about 149\.\d GiB in execution.nvme_path=.*its disk has 60\.0 GiB left"
    ):
        fitting(cfg, both, vocab_size=128256, machine=machine)
