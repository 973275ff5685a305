"""The dial: from a depth or a budget to a training that validates, with a reason for each number."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from flows.recipe import Recipe
from flows.recipe_file import read_recipe
from models.dial import reasons
from models.parameters import multiplied, training_flops
from models.presets import gives_way
from tasks.pretrain import PretrainConfig


def dialled(**training: Any) -> PretrainConfig:
    """A training from a dial with a vocabulary of 4,096."""
    dial = {"vocab_size": 4096, **training.pop("dial")}
    return PretrainConfig.model_validate({"dial": dial, **training})


def test_a_deeper_model_is_wider_and_sees_twenty_tokens_a_parameter() -> None:
    sizes = []
    for depth in (1, 2, 3, 4, 6, 8, 12, 20):
        cfg = dialled(dial={"depth": depth})
        assert (cfg.model.layers, cfg.model.width) == (depth, 64 * depth)
        tokens = cfg.steps * cfg.batch * cfg.model.sequence_length
        assert tokens / multiplied(cfg.model, 4096) == pytest.approx(20, rel=0.01)
        assert math.log2(cfg.batch).is_integer()
        sizes.append((cfg.model.sequence_length, cfg.batch * cfg.model.sequence_length, tokens))
    assert sizes == sorted(sizes)
    assert [sorted(column) for column in zip(*sizes, strict=True)] == [list(c) for c in zip(*sizes, strict=True)]


def test_a_budget_is_spent_on_the_deepest_model_that_it_can_train_to_the_end() -> None:
    depths = []
    for flops in (1e13, 1e15, 1e17, 1e19):
        cfg = dialled(dial={"flops": flops})
        spent = cfg.steps * cfg.batch * cfg.model.sequence_length * training_flops(cfg.model, 4096)
        assert spent == pytest.approx(flops, rel=0.01)
        depths.append(cfg.model.layers)
        deeper = dialled(dial={"depth": cfg.model.layers + 1})
        optimal = deeper.steps * deeper.batch * deeper.model.sequence_length * training_flops(deeper.model, 4096)
        assert optimal > 0.99 * flops
    assert depths == sorted(set(depths))
    timed = dialled(dial={"minutes": 10, "flops_per_second": 1e17 / 600})
    assert timed.identity() == dialled(dial={"flops": 1e17}).identity()


def test_keys_of_the_recipe_take_the_place_of_the_dials_and_what_follows_is_derived_from_them() -> None:
    plain = dialled(dial={"depth": 4})
    wider = dialled(dial={"depth": 4}, model={"width": 512})
    assert wider.model.width == 512
    assert wider.steps * wider.batch * wider.model.sequence_length > (
        2 * plain.steps * plain.batch * plain.model.sequence_length
    )
    own = dialled(dial={"depth": 4}, steps=7, optimizer={"kind": "adamw"}, schedule={"warmup_steps": 1})
    assert (own.steps, own.optimizer.kind, own.schedule.warmup_steps) == (7, "adamw", 1)
    assert own.optimizer.learning_rate == pytest.approx(0.0035, rel=0.1)
    said = {reason.field: reason.why for reason in reasons(own.dial, own.model_dump())}  # type: ignore[arg-type]
    assert said["steps"].startswith("the recipe says so; the dial would take 2,")
    assert "arXiv 2401.02954" in said["optimizer.learning_rate"]
    shaped = dialled(dial={"flops": 1e16}, model={"preset": "llama-tiny"})
    assert (shaped.model.layers, shaped.model.width) == (6, 288)


def test_a_dial_written_out_is_the_same_model_with_the_same_reasons() -> None:
    cfg = dialled(dial={"flops": 3e16})
    assert cfg.dial is not None
    again = PretrainConfig.model_validate(cfg.model_dump())
    assert reasons(cfg.dial, again.model_dump()) == reasons(cfg.dial, cfg.model_dump())
    assert not any("the recipe says so" in str(reason) for reason in reasons(cfg.dial, cfg.model_dump()))
    written = PretrainConfig.model_validate({k: v for k, v in cfg.model_dump().items() if k != "dial"})
    assert written.identity() == cfg.identity()


@pytest.mark.parametrize(
    ("dial", "said"),
    [
        ({}, "takes one of depth, flops and minutes, not none of them"),
        ({"depth": 4, "flops": 1e15}, "not depth and flops"),
        ({"minutes": 5}, "minutes needs flops_per_second"),
        ({"flops": 17}, r"a budget of 17 FLOPs is below 1e\+09"),
        ({"depth": 4, "vocab_size": None}, "say how many tokens the vocabulary will have"),
        ({"dept": 4}, "dept"),
    ],
)
def test_a_dial_that_says_too_little_or_too_much_is_refused(dial: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        dialled(dial=dial)


def test_a_recipe_counts_with_the_vocabulary_that_its_tokenizer_is_asked_for() -> None:
    def vocabulary(*sets: str) -> int | None:
        data = read_recipe("shakespeare-char", ["pretrain.dial.depth=2", *sets])
        recipe = Recipe.model_validate(data)
        assert recipe.pretrain.dial is not None
        assert (recipe.pretrain.model.layers, recipe.pretrain.model.width) == (2, 128)
        assert Recipe.model_validate(recipe.model_dump()).pretrain == recipe.pretrain
        return recipe.pretrain.dial.vocab_size

    assert vocabulary() == 256
    assert vocabulary("tokenizer={kind: bpe, vocab_size: 5000}") == 5000
    assert vocabulary("tokenizer={kind: bpe}") == 32_768
    assert vocabulary("pretrain.dial.vocab_size=65") == 65
    with pytest.raises(ValidationError, match="say how many tokens the vocabulary will have"):
        vocabulary("tokenizer={kind: model}", "pretrain.initial_weights=another")


def test_the_recipe_of_an_encoder_or_an_encoder_decoder_trains_one_with_a_dial_too() -> None:
    for name, family, positions in (("bert-tiny", "encoder", "rope"), ("t5-tiny", "encoder_decoder", "relative")):
        pretrain = Recipe.model_validate(read_recipe(name, ["pretrain.dial.depth=2"])).pretrain
        shape, written = pretrain.model, read_recipe(name)["pretrain"]
        assert (shape.layers, shape.width, shape.resolved_decoder_layers) == (2, 128, 2)
        assert (shape.family, shape.positions, shape.activation, shape.qk_norm) == (family, positions, "relu2", False)
        assert pretrain.objective.kind == written["objective"]["kind"]
        assert pretrain.optimizer.learning_rate == written["optimizer"]["learning_rate"] == 0.02
    base = {"preset": "bert-base", "steps": 9}
    left = gives_way(base, {"dial": {"depth": 2}})
    assert (left["model"]["family"], left["objective"]) == ("encoder", {"kind": "masked"})
    assert not {"preset", "steps"} & {*left}
    assert not {"layers", "width", "heads"} & {*left["model"]}
    assert gives_way(base, {"preset": "gpt2-124m"}) == {}


@pytest.mark.parametrize(
    ("training", "place"),
    [
        ({"dial": {"dept": 4}}, ("dial", "dept")),
        ({"dial": {"depth": "x"}}, ("dial", "depth")),
        ({"dial": {"flops": math.inf}}, ("dial", "flops")),
        ({"model": {"width": "wide"}}, ("model", "width")),
        ({"model": {"width": 0}}, ("model", "width")),
        ({"model": {"laers": 4}}, ("model", "laers")),
        ({"model": "gpt2"}, ("model",)),
        ({"batch": 0}, ("batch",)),
        ({"steps": "many"}, ("steps",)),
        ({"optimizer": "adamw"}, ("optimizer",)),
    ],
)
def test_what_is_wrong_beside_a_dial_is_told_at_its_place(training: dict[str, Any], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        dialled(**{"dial": {"depth": 2}, **training})
    assert [error["loc"] for error in caught.value.errors()] == [place]


def test_a_width_that_64_does_not_divide_has_heads_of_about_that_width() -> None:
    for width, heads in ((100, 2), (192, 3), (288, 9), (640, 5), (600, 10), (22, 1)):
        assert dialled(dial={"depth": 2}, model={"width": width}).model.heads == heads


def test_wide_models_are_cut_into_heads_of_one_size_whatever_their_depth() -> None:
    for depth in (8, 9, 13, 37):
        model = dialled(dial={"depth": depth}).model
        assert (model.width % 128, model.width // model.heads) == (0, 128)
        assert 0 <= model.width - 64 * depth < 128


def test_a_law_is_said_to_be_extrapolated_where_it_is() -> None:
    for flops, said in ((1e16, "fitted from 1e+17 to 2e+19 FLOPs"), (1e18, "section 3.1)")):
        cfg = dialled(dial={"flops": flops})
        assert cfg.dial is not None
        why = {reason.field: reason.why for reason in reasons(cfg.dial, cfg.model_dump())}
        assert said in why["batch"]
        assert said in why["optimizer.adamw_learning_rate"]
