"""What only a GPU runs, as far as it shows without one."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from models.config import ModelConfig
from models.engine.precision import newton_schulz_dtype
from models.engine.universal import mended
from models.transformer import Transformer
from models.transformer.attention import Attention


def test_steps_that_a_universal_checkpoint_counts_lie_where_fused_adamw_raises_them() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3, device="meta")) for _ in range(2)]
    optimizer = torch.optim.AdamW(weights)
    with mended(optimizer):  # as DeepSpeed leaves it, with what it has read from a file
        counted = torch.tensor(5.0)
        for p in weights:
            optimizer.state[p] = {"step": counted, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
    assert [optimizer.state[p]["step"].device.type for p in weights] == ["meta", "meta"]


@pytest.mark.parametrize(
    ("dtype", "masked", "heads"),
    [(torch.bfloat16, False, 2), (torch.bfloat16, True, 4), (torch.float32, False, 4), (torch.float32, True, 4)],
)
def test_shared_heads_are_repeated_where_cudas_fused_kernels_want_as_many_of_each(
    dtype: torch.dtype, masked: bool, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[int, bool]]()

    def noted(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: object) -> torch.Tensor:
        asked.append((k.shape[1], bool(options["enable_gqa"])))
        return q

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    cfg = ModelConfig.model_validate({"layers": 1, "heads": 4, "kv_heads": 2, "width": 32, "sequence_length": 8})
    attention = Attention(cfg, 0, causal=True)
    attention.output = torch.nn.Identity()  # type: ignore[assignment]
    with FakeTensorMode():
        q, k = (torch.empty(2, count, 8, 8, dtype=dtype, device="cuda") for count in (4, 2))
        mask = torch.empty(1, 1, 8, 8, dtype=torch.bool, device="cuda") if masked else None
        attention.attend(q, k, k, mask, causal=True)
    assert asked == [(heads, heads == 2)]


def test_muon_multiplies_in_bf16_only_where_training_does() -> None:
    by_precision = {name: newton_schulz_dtype(name) for name in ("fp32", "fp16", "bf16", "bf16_autocast")}
    assert list(by_precision.values()) == [torch.float32] * 2 + [torch.bfloat16] * 2


@pytest.mark.slow
def test_compiled_blocks_are_one_graph_for_all_layers_and_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    compiled = list[torch.fx.GraphModule]()

    def note(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> object:
        compiled.append(graph)
        return graph.forward

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda called, **_: original(called, backend=note))
    torch.compiler.reset()
    cfg = {"layers": 3, "heads": 4, "kv_heads": 2, "width": 32, "sequence_length": 64}
    network = Transformer(ModelConfig.model_validate(cfg), 29)
    network.prepare(compiled=True)
    for length in (64, 16, 32, 48, 64):  # the whole length, then a warm-up of it
        tokens = torch.randint(0, 29, (2, length))
        optimised, _ = network(tokens, tokens, reduction="train")
        optimised.backward()
    assert not counters["graph_break"]
    assert len(compiled) == 4  # a block and the loss, each of a known and of any length
    torch.compiler.reset()
