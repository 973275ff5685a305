"""The network: each family sees what it may and nothing else, and its cache changes nothing, whatever the shape."""

import math
import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from models.config import ModelConfig, MuonConfig
from models.optimizers import build_optimizer, orthogonalise
from models.transformer import IGNORE, PADDING, Cache, Transformer, attention_backend, context, make_context
from models.transformer.masks import Backend, block_mask

DECODERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mqa-relu2-tied": {"kv_heads": 1, "activation": "relu2", "tied_embeddings": True},
    "gqa-gelu": {"kv_heads": 2, "activation": "gelu", "qk_norm": False, "head_width": 12},
    "gpt2": {
        "norm": "layernorm",
        "positions": "learned",
        "activation": "gelu_tanh",
        "bias": True,
        "tied_embeddings": True,
        "initialisation": "gpt2",
        "dropout": 0.1,
    },
    "llama": {"rope_scaling": {"original_length": 8, "factor": 2}, "ffn_width": 40, "logit_softcap": 5.0},
    "post-norm": {"norm_order": "post", "embed_norm": True, "activation": "relu", "positions": "none"},
    "relative": {"positions": "relative", "relative_buckets": 8, "relative_max_distance": 9, "attention_scale": 1.0},
    "window": {"sliding_window": 4, "global_every": 2, "kv_heads": 2},
    "capped": {"attention_softcap": 2.0, "kv_heads": 2, "sliding_window": 6},
    "capped-relative": {"attention_softcap": 2.0, "positions": "relative", "sliding_window": 6},
    "experts": {"moe": {"experts": 4, "top_k": 2, "every": 2, "shared_experts": 1, "expert_width": 16}},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {
        "norm": "layernorm",
        "norm_order": "post",
        "embed_norm": True,
        "positions": "learned",
        "segments": 2,
        "head_transform": True,
        "bias": True,
        "activation": "gelu",
        "tied_embeddings": True,
        "initialisation": "bert",
        "dropout": 0.1,
        "qk_norm": False,
    },
    "modern": {"sliding_window": 4, "activation": "geglu"},
    "relative": {"positions": "relative"},
}
T5S: dict[str, dict[str, Any]] = {
    "t5": {
        "positions": "relative",
        "relative_buckets": 8,
        "relative_max_distance": 9,
        "attention_scale": 1.0,
        "qk_norm": False,
        "activation": "relu",
        "tied_embeddings": True,
        "scale_head": True,
        "initialisation": "t5",
        "decoder_layers": 3,
    },
    "rotary": {"kv_heads": 2, "sliding_window": 5, "moe": {"experts": 3, "top_k": 1}},
}
CAUSAL = [
    *({"family": "decoder", **s} for s in DECODERS.values()),
    *({"family": "encoder_decoder", **s} for s in T5S.values()),
]
CAUSAL_IDS = [*DECODERS, *T5S]


def network(**changes: Any) -> Transformer:
    """A small network whose branches are not zero, as they are before training."""
    torch.manual_seed(0)
    small = {"layers": 2, "heads": 4, "width": 32, "sequence_length": 16}
    model = Transformer(ModelConfig.model_validate({**small, **changes}), vocab_size=50)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2 if p.ndim == 2 else 0.5)
    return model.eval()


def tokens(rows: int = 2, length: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(0, 50, (rows, length), generator=torch.Generator().manual_seed(seed))


def source(shape: dict[str, Any], rows: int = 2) -> dict[str, Tensor]:
    """What the shape's encoder reads, if it has one."""
    return {"source_BS": tokens(rows, 9, seed=2)} if shape.get("family") == "encoder_decoder" else {}


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# --- causal families


@pytest.mark.parametrize("shape", CAUSAL, ids=CAUSAL_IDS)
def test_no_position_sees_what_comes_after_it(shape: dict[str, Any]) -> None:
    model = network(**shape)
    changed = tokens()
    changed[:, 7] = (changed[:, 7] + 1) % 50
    before, after = model.logits(tokens(), **source(shape)), model.logits(changed, **source(shape))
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7] - after[:, 7]).abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize("shape", CAUSAL, ids=CAUSAL_IDS)
def test_reading_in_pieces_through_the_cache_is_reading_at_once(shape: dict[str, Any]) -> None:
    model = network(**shape)
    cache = Cache()
    pieces = [
        model.logits(piece, cache, **(source(shape) if number == 0 else {}))
        for number, piece in enumerate(tokens().split([5, 1, 4, 1, 1], dim=1))
    ]
    close(torch.cat(pieces, dim=1), model.logits(tokens(), **source(shape)))


def drawn(number: int) -> dict[str, Any]:
    """Return one of many shapes that mix what concerns attention."""
    draw = random.Random(number).choice
    window, positions = draw([None, 1, 3, 5, 20]), draw(["rope", "learned", "relative", "none"])
    return {
        "family": draw(["decoder", "encoder_decoder"]) if positions != "none" else "decoder",
        "layers": 3,
        "positions": positions,
        "sliding_window": window,
        "global_every": None if window is None else draw([None, 2, 3]),
        "attention_softcap": draw([None, 1.5]),
        "logit_softcap": draw([None, 4.0]),
        "kv_heads": draw([1, 2, 4]),
        "head_width": draw([None, 6]),
        "attention_scale": draw([None, 1.0]),
        "qk_norm": draw([False, True]),
        "norm_order": draw(["pre", "post"]),
        "moe": draw([None, {"experts": 3, "top_k": 2, "every": 2}]),
        **({"relative_buckets": 8, "relative_max_distance": 9} if positions == "relative" else {}),
    }


@pytest.mark.parametrize("number", range(200, 232))  # the draws in which most pairs of options meet
@torch.inference_mode()
def test_whatever_the_shape_the_cache_gives_what_reading_anew_gives(number: int) -> None:
    shape = drawn(number)
    model, x = network(**shape), tokens(length=14)
    whole = model.logits(x, **source(shape))
    cuts = sorted(random.Random(number).sample(range(1, 14), 4))
    for ends in ([*range(1, 15)], [*cuts, 14]):
        cache = Cache()
        pieces = [
            model.logits(x[:, start:end], cache, **(source(shape) if start == 0 else {}))
            for start, end in pairwise([0, *ends])
        ]
        close(torch.cat(pieces, dim=1), whole)


@pytest.mark.parametrize("shape", DECODERS.values(), ids=DECODERS)
def test_documents_of_one_sequence_are_read_as_if_each_stood_alone(shape: dict[str, Any]) -> None:
    model = network(**shape)
    documents = torch.tensor([[0] * 5 + [1] * 4 + [PADDING] * 3, [0] * 12])
    apart = model.logits(tokens(), documents_BT=documents)
    for row, begin, end in ((0, 0, 5), (0, 5, 9), (1, 0, 12)):
        close(apart[row, begin:end], model.logits(tokens()[row : row + 1, begin:end])[0])
    assert (apart - model.logits(tokens()))[0, 5:9].abs().max() > 1e-3


def test_a_window_reaches_so_many_positions_and_a_global_layer_all() -> None:
    changed = tokens()
    changed[:, 2] = (changed[:, 2] + 1) % 50
    for shape, first_unmoved in (({"layers": 1}, 6), ({"layers": 2}, 9), ({"layers": 2, "global_every": 2}, 12)):
        model = network(sliding_window=4, **shape)
        moved = (model.logits(tokens()) - model.logits(changed)).abs().amax(dim=(0, 2)) > 0
        assert moved.tolist() == [2 <= position < first_unmoved for position in range(12)]


def test_full_attention_bends_the_logits_before_they_are_masked() -> None:
    model = network(layers=1, attention_softcap=0.5, kv_heads=2, qk_norm=False, positions="none")
    attention, x = model.blocks[0].attention, torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(1))
    found = attention(x, make_context(model.cfg, x, causal=True))
    q, k, v = (part(x).view(1, 6, -1, 8).transpose(1, 2) for part in (attention.query, attention.key, attention.value))
    heads = []
    for head in range(4):
        scores = 0.5 * torch.tanh(q[:, head] @ k[:, head // 2].mT / math.sqrt(8) / 0.5)
        scores[:, ~torch.ones(6, 6, dtype=torch.bool).tril()] = -torch.inf
        heads.append(scores.softmax(dim=-1) @ v[:, head // 2])
    close(found, attention.output(torch.cat(heads, dim=-1)))


@pytest.mark.parametrize("shape", ["plain", "window", "capped"])
@pytest.mark.parametrize("apart", [False, True])
@torch.no_grad()  # on a CPU there is no more of FlexAttention
def test_flex_attention_gives_the_numbers_of_a_dense_mask(
    shape: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(**DECODERS[shape])
    documents = torch.tensor([[0] * 5 + [1] * 4 + [PADDING] * 3, [0] * 12]) if apart else None
    dense = model.logits(tokens(), documents_BT=documents)
    monkeypatch.setattr(context, "attention_backend", lambda *_, **__: Backend("flex", "the test asks for it"))
    made = []
    monkeypatch.setattr(context, "block_mask", lambda *a, **k: made.append(1) or block_mask(*a, **k))
    close(model.logits(tokens(), documents_BT=documents), dense)
    assert bool(made) == (apart or shape != "plain")


def test_the_implementation_of_attention_is_chosen_with_its_reason() -> None:
    shape = {"layers": 2, "heads": 4, "width": 128}
    plain, window = ModelConfig.model_validate(shape), ModelConfig.model_validate({**shape, "sliding_window": 8})
    capped = ModelConfig.model_validate({**shape, "attention_softcap": 50.0, "dropout": 0.1})
    assert attention_backend(plain, "cuda", documents=False).name == "sdpa"
    assert attention_backend(plain, "cuda", documents=True).name == "flex"
    assert attention_backend(window, "cuda", documents=False).name == "flex"
    assert attention_backend(window, "cpu", documents=False).name == "sdpa"
    eager = attention_backend(capped, "cuda", documents=True)
    assert eager.name == "eager"
    assert "documents are masked" in eager.reason
    assert "soft-capped at 50" in eager.reason
    assert "no dropout" in eager.reason


# --- families that read both sides


@pytest.mark.parametrize("shape", ENCODERS.values(), ids=ENCODERS)
def test_an_encoder_sees_both_sides_and_never_padding_or_another_document(shape: dict[str, Any]) -> None:
    model = network(family="encoder", **shape)
    documents = torch.tensor([[0] * 5 + [1] * 4 + [PADDING] * 3] * 2)
    before = model.logits(tokens(), documents_BT=documents)
    assert before.isfinite().all()
    for place, moved in ((2, range(5)), (7, range(5, 9)), (10, range(9, 12))):
        changed = tokens()
        changed[:, place] = (changed[:, place] + 1) % 50
        difference = (model.logits(changed, documents_BT=documents) - before).abs().amax(dim=(0, 2)) > 0
        assert difference.tolist() == [position in moved for position in range(12)]
    for begin, end in ((0, 5), (5, 9)):
        close(before[:, begin:end], model.logits(tokens()[:, begin:end]))


def test_segments_tell_the_parts_of_an_input_apart() -> None:
    model = network(family="encoder", **ENCODERS["bert"])
    one, two = torch.zeros(2, 12, dtype=torch.long), torch.tensor([[0] * 6 + [1] * 6] * 2)
    torch.testing.assert_close(model.logits(tokens(), segments_BT=one), model.logits(tokens()))
    assert (model.logits(tokens(), segments_BT=two) - model.logits(tokens())).abs().max() > 1e-3


@pytest.mark.parametrize("shape", T5S.values(), ids=T5S)
def test_a_decoder_reads_all_of_its_own_documents_source_and_no_other(shape: dict[str, Any]) -> None:
    model = network(family="encoder_decoder", **shape)
    documents = torch.tensor([[0] * 5 + [1] * 4 + [PADDING] * 3] * 2)
    read = torch.tensor([[0] * 3 + [1] * 5 + [PADDING]] * 2)
    src = tokens(2, 9, seed=2)
    apart = model.logits(tokens(), None, documents, src, read)
    assert apart.isfinite().all()
    for (begin, end), (first, last) in (((0, 5), (0, 3)), ((5, 9), (3, 8))):
        close(apart[:, begin:end], model.logits(tokens()[:, begin:end], source_BS=src[:, first:last]))
    padded = model.logits(tokens(), source_BS=src, source_documents_BS=torch.tensor([[0] * 8 + [PADDING]] * 2))
    close(padded, model.logits(tokens(), source_BS=src[:, :8]))
    cache = Cache()
    model.logits(tokens()[:, :5], cache, source_BS=src, source_documents_BS=torch.tensor([[0] * 8 + [PADDING]] * 2))
    close(model.logits(tokens()[:, 5:], cache), padded[:, 5:])


# --- parts


def test_learned_positions_end_where_their_table_does() -> None:
    model = network(positions="learned", max_positions=20)
    assert model.logits(tokens(1, 20)).shape == (1, 20, 50)
    with pytest.raises(ValueError, match="21 tokens are more than the 20 learned positions"):
        model.logits(tokens(1, 21))


def test_dropout_is_the_seeds_in_training_and_absent_in_evaluation() -> None:
    model = network(dropout=0.2)
    kept = network()
    torch.testing.assert_close(model.logits(tokens()), kept.logits(tokens()))
    model.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model.logits(tokens()))
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)
    assert (drawn[0] - drawn[2]).abs().max() > 1e-2


@pytest.mark.parametrize("cap", [None, 2.0])
def test_each_place_that_drops_does_so_by_itself(cap: float | None) -> None:
    model = network(family="encoder_decoder", dropout=0.5, attention_softcap=cap)
    assert model.encoder is not None
    kept = model.logits(tokens(), **source({"family": "encoder_decoder"}))
    block = model.blocks[0]
    for place in (model.dropout, block.dropout, block.attention, block.cross, model.encoder.dropout):
        place.train()
        assert (model.logits(tokens(), **source({"family": "encoder_decoder"})) - kept).abs().max() > 1e-2
        model.eval()


@pytest.mark.parametrize("scheme", ["scaled", "gpt2", "bert", "t5"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_fresh_network_guesses_about_uniformly(scheme: str, tied: bool) -> None:
    cfg = ModelConfig.model_validate(
        {
            "layers": 2,
            "heads": 4,
            "width": 64,
            "initialisation": scheme,
            "tied_embeddings": tied,
            "bias": True,
            "scale_head": scheme == "t5" and tied,
        }
    )
    torch.manual_seed(0)
    model = Transformer(cfg, vocab_size=500)
    drawn = tokens(4, 65)
    loss = model(drawn[:, :-1], drawn[:, 1:]).item()
    assert loss == pytest.approx(math.log(500), abs=0.01 if scheme == "scaled" and not tied else 2.0)
    joins = model.blocks[0].ffn.down.weight.std().item()
    assert joins == pytest.approx(
        {"scaled": 0, "gpt2": 0.01, "bert": 0.0176, "t5": 1 / math.sqrt(176)}[scheme], rel=0.1
    )


def test_a_tied_matrix_counts_once() -> None:
    sizes = [sum(p.numel() for p in network(tied_embeddings=tied).parameters()) for tied in (False, True)]
    assert sizes[0] - sizes[1] == 50 * 32


def test_targets_to_ignore_do_not_count() -> None:
    model = network()
    drawn = tokens(1, 9)
    targets = drawn[:, 1:].clone()
    targets[:, 4:] = IGNORE
    torch.testing.assert_close(
        model(drawn[:, :-1], targets, reduction="sum"), model(drawn[:, :4], drawn[:, 1:5], reduction="sum")
    )


@pytest.mark.parametrize("way", ["full", "selective"])
def test_what_is_computed_again_for_the_backward_pass_changes_nothing(way: Any) -> None:
    shape = {**DECODERS["experts"], "dropout": 0.2, "layers": 3}
    gradients = []
    for checkpointing in ("none", way):
        model = network(**shape).train()
        model.prepare(checkpointing=checkpointing)
        held: list[int] = []
        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):  # noqa: B023
            total, _ = model(tokens(), tokens(seed=5), reduction="train")
        total.backward()
        gradients.append((sum(held), total.detach(), [p.grad for p in model.parameters()]))
    plain, again = gradients
    torch.testing.assert_close(plain[1:], again[1:], rtol=0, atol=0)
    assert again[0] < plain[0] / 2


@pytest.mark.long
def test_a_compiled_network_computes_the_same_under_the_same_names() -> None:
    shape = {"kv_heads": 2, "tied_embeddings": True, "layers": 3}
    documents = torch.tensor([[0] * 5 + [1] * 7] * 2)
    results = []
    for compiled in (False, True):
        model = network(**shape).train()
        names = list(model.state_dict())
        model.prepare(checkpointing="selective", compiled=compiled)
        assert list(model.state_dict()) == names
        total, plain = model(tokens(), tokens(seed=5), documents, reduction="train")
        total.backward()
        results.append((total.detach(), plain, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


# --- the optimisers that take its matrices apart


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
