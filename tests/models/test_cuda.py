"""What only a GPU runs, as far as it shows without one."""

import pytest
import torch

from models.config import ModelConfig
from models.engine.universal import mended
from models.transformer import Transformer


def test_steps_that_a_universal_checkpoint_counts_lie_where_fused_adamw_raises_them() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3, device="meta")) for _ in range(2)]
    optimizer = torch.optim.AdamW(weights)
    with mended(optimizer):  # as DeepSpeed leaves it, with what it has read from a file
        counted = torch.tensor(5.0)
        for p in weights:
            optimizer.state[p] = {"step": counted, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
    assert [optimizer.state[p]["step"].device.type for p in weights] == ["meta", "meta"]


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
