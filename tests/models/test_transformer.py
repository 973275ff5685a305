"""The network: it sees only the past, and its cache changes nothing."""

import math

import pytest
import torch

from models.config import ModelConfig, MuonConfig
from models.optimizers import build_optimizer, orthogonalise
from models.transformer import IGNORE, Cache, Transformer

SHAPES = [
    {},
    {"kv_heads": 1, "activation": "relu2", "tied_embeddings": True},
    {"kv_heads": 2, "activation": "gelu", "qk_norm": False},
]


def network(**changes: object) -> Transformer:
    """A small network whose branches are not zero, as they are before training."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig.model_validate({"layers": 2, "heads": 4, "width": 32, **changes}), vocab_size=50)
    for p in model.parameters():
        if p.ndim == 2:
            torch.nn.init.normal_(p, std=0.2)
    return model.eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_no_position_sees_what_comes_after_it(shape: dict[str, object]) -> None:
    model = network(**shape)
    tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 50
    before, after = model.logits(tokens), model.logits(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_in_pieces_through_the_cache_is_reading_at_once(shape: dict[str, object]) -> None:
    model = network(**shape)
    tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(1))
    cache = Cache()
    pieces = [model.logits(piece, cache) for piece in tokens.split([5, 1, 4, 2], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model.logits(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_documents_of_one_sequence_are_read_as_if_each_stood_alone(shape: dict[str, object]) -> None:
    model = network(**shape)
    tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[0] * 5 + [1] * 4 + [-1] * 3, [0] * 12])
    apart = model.logits(tokens, documents_BT=documents)
    for row, begin, end in ((0, 0, 5), (0, 5, 9), (1, 0, 12)):
        alone = model.logits(tokens[row : row + 1, begin:end])[0]
        torch.testing.assert_close(apart[row, begin:end], alone, rtol=1e-4, atol=1e-4)
    assert (apart - model.logits(tokens))[0, 5:9].abs().max() > 1e-3


def test_a_fresh_network_guesses_uniformly_and_counts_a_tied_matrix_once() -> None:
    cfg = ModelConfig(layers=2, heads=4, width=64)
    model = Transformer(cfg, vocab_size=500)
    tokens = torch.randint(0, 500, (4, 65), generator=torch.Generator().manual_seed(1))
    assert model(tokens[:, :-1], tokens[:, 1:]).item() == pytest.approx(math.log(500), abs=0.01)
    tied = Transformer(cfg.model_copy(update={"tied_embeddings": True}), vocab_size=500)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (model, tied)]
    assert sizes[0] - sizes[1] == 500 * 64


def test_targets_to_ignore_do_not_count() -> None:
    model = network()
    tokens = torch.randint(0, 50, (1, 9), generator=torch.Generator().manual_seed(1))
    targets = tokens[:, 1:].clone()
    targets[:, 4:] = IGNORE
    torch.testing.assert_close(
        model(tokens[:, :-1], targets, reduction="sum"), model(tokens[:, :4], tokens[:, 1:5], reduction="sum")
    )


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 48, 16), (2, 16, 48)])
def test_newton_schulz_brings_all_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrices, 5))
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_muon_moves_hidden_matrices_and_adamw_the_rest() -> None:
    model = network()
    optimizer = build_optimizer(MuonConfig(kind="muon", learning_rate=0.1, adamw_learning_rate=0.01), model)
    names = {id(p): name for name, p in model.named_parameters()}
    hidden = {names[id(p)] for p in optimizer.param_groups[0]["params"]}
    assert hidden == {n for n, p in model.named_parameters() if p.ndim == 2 and n.startswith("blocks.")}
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(everything) == len({id(p) for p in everything}) == len(list(model.parameters()))
