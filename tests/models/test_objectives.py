"""What is hidden and what is taken out: how much, which, and that it depends on the seed and the place alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from infra.errors import UserError
from models.batch import IGNORE, PADDING, Batch, Windows
from models.config import CausalConfig, DenoisingConfig, MaskedConfig
from models.config.objectives import objective_problems
from models.data import TokenStream, TrainingData, validation_windows
from models.objectives import Objective, Vocabulary, build_objective, read_vocabulary, require_tokens
from models.order import TrainingOrder
from tasks.tokenizer import BpeConfig, CharactersConfig, TokenizerConfig, UnigramConfig, WordPieceConfig
from tasks.tokenizer.saving import add_special_tokens
from tasks.tokenizer.training import character_tokenizer, train_tokenizer

SIZE, SENTINELS = 1000, np.arange(2, 102)
SPECIAL = np.arange(SIZE) < 102
END, MASK = 1, 0
VOCABULARY = Vocabulary(END, MASK, SENTINELS, SPECIAL, np.arange(SIZE) % 3 == 0, np.zeros(SIZE, bool))


def objective(cfg: Any, *, length: int = 64, seed: int = 5, packed: bool = False) -> Objective:
    return build_objective(cfg, VOCABULARY, sequence_length=length, seed=seed, packed=packed)


def text(rows: int, width: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(102, SIZE, (rows, width))


def rows(first: int, count: int) -> NDArray[np.uint64]:
    return np.arange(first, first + count, dtype=np.uint64)


# --- hidden tokens


def test_a_share_of_the_tokens_is_hidden_eight_in_ten_behind_the_mask_and_one_behind_another() -> None:
    tokens = text(2000, 64)
    tokens[:, ::8] = END  # ends of documents
    batch = objective(MaskedConfig(kind="masked")).batch(Windows(tokens, None), rows(0, 2000))
    asked = batch.targets != IGNORE
    assert not asked[:, ::8].any()
    assert asked[tokens != END].mean() == pytest.approx(0.15, abs=0.003)
    assert np.array_equal(batch.targets[asked], tokens[asked])
    assert np.array_equal(batch.inputs[~asked], tokens[~asked])
    shown = batch.inputs[asked]
    assert (shown == MASK).mean() == pytest.approx(0.8, abs=0.01)
    other = (shown != MASK) & (shown != tokens[asked])
    assert other.mean() == pytest.approx(0.1, abs=0.01)
    assert not SPECIAL[shown[other]].any()
    assert len(np.unique(shown[other])) > 700  # of 898 ordinary tokens, in some 1,660 draws


def test_whole_words_are_hidden_whole() -> None:
    tokens = text(500, 64)
    batch = objective(MaskedConfig(kind="masked", whole_word=True)).batch(Windows(tokens, None), rows(0, 500))
    asked = batch.targets != IGNORE
    inside = ~VOCABULARY.begins[tokens[:, 1:]]
    assert (asked[:, 1:] == asked[:, :-1])[inside].all()
    assert (asked[:, 1:] != asked[:, :-1])[~inside].mean() == pytest.approx(2 * 0.15 * 0.85, abs=0.02)
    assert asked.mean() == pytest.approx(0.15, abs=0.01)


# --- spans taken out


def put_back(batch: Batch, row: int) -> list[int]:
    """Put the spans that the targets have into the places of their sentinels in the source."""
    assert batch.source is not None
    targets = [token for token in batch.targets[row].tolist() if token != IGNORE]
    assert targets[-1] == END
    spans: dict[int, list[int]] = {}
    for token in targets[:-1]:
        if token in SENTINELS:
            assert token == SENTINELS[len(spans)]
            spans[token] = []
        else:
            spans[max(spans)].append(token)
    assert all(spans.values())
    source = batch.source[row].tolist()
    out: list[int] = []
    for token in source[: source.index(END)]:
        out += spans.pop(token) if token in spans else [token]
    assert not spans
    return out


@pytest.mark.parametrize(("length", "window", "targets"), [(512, 568, 114), (128, 141, 29)])
def test_a_whole_window_fills_source_and_targets_as_in_t5(length: int, window: int, targets: int) -> None:
    """Source: compute_input_and_target_lengths of google-research/text-to-text-transfer-transformer, for 512."""
    cfg = DenoisingConfig(kind="denoising")
    made = objective(cfg, length=length)
    assert made.window == window
    batch = made.batch(Windows(text(50, window), None), rows(0, 50))
    assert batch.source is not None
    assert batch.source.shape == (50, length)
    assert batch.inputs.shape == batch.targets.shape == (50, targets)
    assert (batch.targets != IGNORE).all()
    assert (batch.source[:, -1] == END).all()
    assert (batch.targets[:, -1] == END).all()
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert (batch.inputs[:, 0] == END).all()
    noise, spans = cfg.spans(window)
    assert spans == round(noise / 3) == np.isin(batch.targets, SENTINELS).sum() / 50
    sizes = np.diff(np.flatnonzero(np.isin(batch.targets, [*SENTINELS, END]).ravel())) - 1
    assert np.mean(sizes[sizes > 0]) == pytest.approx(3, abs=0.2)
    assert set(range(1, 8)) <= set(sizes.tolist())  # spans of many lengths


@given(
    length=st.integers(8, 80), density=st.floats(0.05, 0.5), mean=st.floats(1, 5), seed=st.integers(0, 2**62),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=5), documents=st.integers(1, 4),
)  # fmt: skip
def test_source_and_targets_make_up_the_text_whatever_its_length(
    length: int, density: float, mean: float, seed: int, shares: list[float], documents: int
) -> None:
    cfg = DenoisingConfig(kind="denoising", noise_density=density, mean_span=mean)
    made = objective(cfg, length=length, seed=seed, packed=True)
    tokens = text(len(shares), made.window, seed % 1000)
    lengths = [int(share * made.window) for share in shares]
    of = np.full(tokens.shape, PADDING)
    for row, long in enumerate(lengths):
        of[row, :long] = np.arange(long) * documents // max(long, 1)
    batch = made.batch(Windows(tokens, of), rows(0, len(shares)))
    assert batch.documents is not None
    assert batch.source is not None
    assert batch.source_documents is not None
    for row, long in enumerate(lengths):
        read = batch.source_documents[row]
        assert (np.diff(read[read != PADDING]) >= 0).all()
        assert (read != PADDING).sum() == (cfg.lengths(long)[0] if long > 1 else long + (long > 0))
        if long < 2:
            assert (batch.targets[row] == IGNORE).all()
            continue
        assert put_back(batch, row) == tokens[row, :long].tolist()
        where = {int(token): int(number) for token, number in zip(tokens[row, :long], of[row], strict=False)}
        written = batch.targets[row].tolist()
        for token, number in zip(written, batch.documents[row].tolist(), strict=True):
            assert token in (IGNORE, END) or token in SENTINELS or list(tokens[row]).count(token) > 1 or (
                where[token] == number
            )  # fmt: skip


# --- what is drawn depends on the place alone


def stream(folder: Path, count: int = 20_000) -> TokenStream:
    text(1, count)[0].astype("<u2").tofile(folder / "0.bin")
    np.save(folder / "0.ends.npy", np.arange(300, count + 300, 300).astype("<u8"))
    return TokenStream([folder / "0.bin"], "uint16", ends=[folder / "0.ends.npy"])


@pytest.mark.parametrize("cfg", [MaskedConfig(kind="masked", whole_word=True), DenoisingConfig(kind="denoising")])
@pytest.mark.parametrize("documents", [False, True])
def test_ranks_and_micro_batches_ask_for_the_same_and_each_step_for_something_else(
    tmp_path: Path, cfg: Any, documents: bool
) -> None:
    tokens = stream(tmp_path)
    made = objective(cfg)
    order = TrainingOrder(tokens=len(tokens), sequence_length=made.window, batch=12, seed=3)

    def step(number: int, ranks: int, micro: int, with_: Objective = made) -> list[NDArray[np.int64]]:
        batches = [
            batch
            for rank in range(ranks)
            for batch in TrainingData(
                tokens, order, rank=rank, ranks=ranks, micro_batch=micro, documents=documents, objective=with_
            ).step(number)
        ]
        assert all((batch.documents is not None) == documents for batch in batches)
        return [np.concatenate(part) for part in zip(*batches, strict=True) if part[0] is not None]

    whole = step(4, 1, 12)
    for ranks, micro in ((2, 3), (4, 1), (1, 4)):
        assert all(np.array_equal(a, b) for a, b in zip(whole, step(4, ranks, micro), strict=True))
    assert not np.array_equal(whole[1], step(4, 1, 12, objective(cfg, seed=6))[1])
    # The same text in another step: the first window of the stream is read once an epoch.
    epoch = order.windows
    held = Windows(np.repeat(tokens.read(0, made.window)[None], 2, axis=0), None)
    first, second = made.batch(held, np.array([1, epoch + 1], dtype=np.uint64)).targets
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("cfg", [MaskedConfig(kind="masked"), DenoisingConfig(kind="denoising")])
@pytest.mark.parametrize("count", [40, 1000, 1001, 5003])
def test_validation_asks_for_the_same_whatever_the_batch_and_for_no_padding(
    tmp_path: Path, cfg: Any, count: int
) -> None:
    tokens, made = stream(tmp_path), objective(cfg)

    def asked(batch: int) -> list[list[int]]:
        batches = list(validation_windows(tokens, made, tokens=count, eod=END, batch=batch))
        assert {len(each.targets) for each in batches} == {batch}
        return [row.tolist() for each in batches for row in each.targets if (row != IGNORE).any()]

    one = asked(1)
    assert one == asked(3) == asked(8)
    assert len(one) == -(-count // made.window)
    share = sum(token not in (IGNORE, END) and token not in SENTINELS for row in one for token in row) / count
    assert share == pytest.approx(0.15, abs=0.1 if count < 100 else 0.03)


# --- what a vocabulary says


TEXTS = ["The mill's wheels turn, slowly; the water runs.\n", "Grinding stones grind 水車 grain (twice).\n"] * 20
ROLES: dict[str, Any] = {"mask_token": "[MASK]", "sentinels": 5, "special_tokens": ("<|user|>",)}


def made_vocabulary(cfg: TokenizerConfig, folder: Path) -> tuple[Any, Vocabulary]:
    from infra.artifacts import Attempt
    from tasks.tokenizer.saving import save

    made = character_tokenizer(TEXTS, cfg) if isinstance(cfg, CharactersConfig) else train_tokenizer(cfg, TEXTS)
    add_special_tokens(made, cfg)
    save(made, cfg, Attempt.at(folder))
    made.encode_special_tokens = True
    files = folder / "tokenizer.json", folder / "special_tokens_map.json"
    return made, read_vocabulary(*files, size=made.get_vocab_size() + 3, end=made.token_to_id("<|endoftext|>"))


@pytest.mark.parametrize(
    "cfg",
    [
        BpeConfig(kind="bpe", vocab_size=330, **ROLES),
        BpeConfig(kind="bpe", vocab_size=330, pre_tokenizer="gpt2", **ROLES),
        WordPieceConfig(kind="wordpiece", vocab_size=300, **ROLES),
        UnigramConfig(kind="unigram", vocab_size=450, **ROLES),
        CharactersConfig(kind="characters", **ROLES),
    ],
    ids=["bpe", "bpe-gpt2", "wordpiece", "unigram", "characters"],
)
def test_words_begin_where_the_tokens_of_a_vocabulary_say_so(cfg: TokenizerConfig, tmp_path: Path) -> None:
    made, vocabulary = made_vocabulary(cfg, tmp_path / "tokenizer")
    names = ["<|endoftext|>", "[MASK]", "<|user|>", *(f"<extra_id_{n}>" for n in range(5))]
    ids = [made.token_to_id(name) for name in names]
    assert vocabulary.special[ids].all()
    assert vocabulary.special[-3:].all()  # ids that the tokenizer does not have
    assert (vocabulary.mask, vocabulary.sentinels.tolist()) == (ids[1], ids[3:])
    tokens = made.encode(TEXTS[0]).ids
    assert not vocabulary.special[tokens].any()
    begins = vocabulary.words(np.array([[ids[0], *tokens]]))[0]
    words: list[list[int]] = []
    for place, (token, begin) in enumerate(zip(tokens, begins[1:], strict=True), start=1):
        if begin == place:
            words.append([])
        words[-1].append(token)
    found = [made.decode(word).strip().replace("##", "").replace(" ", "") for word in words]
    expected = ["The", "mill", "'", "s", "wheels", "turn", ",", "slowly", ";", "the", "water", "runs", "."]
    joined = [word for word in found if word]
    if cfg.kind == "unigram":  # whose pieces may go over punctuation
        assert "".join(joined) == "".join(expected)
        assert all(word in TEXTS[0].split() or word in expected for word in joined)
        return
    if cfg.kind == "bpe":  # 's is one piece, which begins with its apostrophe
        expected[2:4] = ["'s"]
    assert joined == expected


def test_a_vocabulary_without_the_tokens_is_refused_with_what_to_add() -> None:
    with pytest.raises(UserError, match=r"tokenizer\.mask_token"):
        require_tokens(MaskedConfig(kind="masked"), False, 100, window=64)
    cfg = DenoisingConfig(kind="denoising")
    with pytest.raises(UserError, match=r"28 spans.*568 tokens.*20 sentinels.*tokenizer\.sentinels=100"):
        require_tokens(cfg, True, 20, window=568)
    require_tokens(cfg, False, 28, window=568)
    require_tokens(CausalConfig(kind="causal"), False, 0, window=568)


def test_an_objective_that_is_not_of_the_family_is_refused_and_names_both() -> None:
    (problem,) = objective_problems(MaskedConfig(kind="masked"), family="decoder", sequence_length=64)
    assert "objective.kind=masked" in problem
    assert "family=decoder" in problem
    (problem,) = objective_problems(CausalConfig(kind="causal"), family="encoder_decoder", sequence_length=64)
    assert "objective.kind=denoising" in problem
    wide = DenoisingConfig(kind="denoising", noise_density=0.7, mean_span=1)
    (problem,) = objective_problems(wide, family="encoder_decoder", sequence_length=64)
    assert "more than model.sequence_length=64" in problem
    with pytest.raises(ValidationError):
        MaskedConfig(kind="masked", probability=1.5)
    assert json.loads(MaskedConfig(kind="masked").model_dump_json())["probability"] == 0.15
