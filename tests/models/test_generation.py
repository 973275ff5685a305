"""Generation: a model of transformers goes on as it does there, from the token that it was trained to begin with."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from models.batch import Windows
from models.config.objectives import DenoisingConfig
from models.filling import filled
from models.generation import LanguageModel, generate, load_model
from models.huggingface import export_folder, import_folder
from models.objectives import Denoising, read_vocabulary
from models.scoring import score_documents

PAD, BOS, EOS, STOP, UNKNOWN, *SENTINELS = SPECIAL = (
    "<pad>", "<s>", "</s>", "<stop>", "<unk>", "<extra_id_0>", "<extra_id_1>"
)  # fmt: skip
WORDS: Final = [f"w{n}" for n in range(50)]
PROMPT: Final = "w7 w3 w11"
LENGTH: Final = 24


def tokenizer() -> Tokenizer:
    """Return one whose text says which tokens it is made of."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    made.pre_tokenizer, made.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece(prefix="##", cleanup=False)
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return made


def checkpoint(folder: Path, name: str, **config: Any) -> Any:
    """Write a model of transformers with random weights, whose special tokens all differ, and return it."""
    import transformers

    torch.manual_seed(5)
    theirs: Any = getattr(transformers, name)(getattr(transformers, name).config_class(**config))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        theirs.get_output_embeddings().weight[: len(SPECIAL)] = 0  # whose logits are 0, and so rarely the highest
    theirs.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return theirs.eval()


def imported(folder: Path) -> LanguageModel:
    (folder / "ours").mkdir()
    import_folder(folder, folder / "ours")
    return load_model(folder / "ours")


SIZE: Final = len(SPECIAL) + len(WORDS)
SMALL: Final = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                "max_position_embeddings": 32, "vocab_size": SIZE}  # fmt: skip
GPT2: Final = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": SIZE, "eos_token_id": 2,
               "bos_token_id": 2}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config", "begins"),
    [
        ("GPT2LMHeadModel", GPT2, EOS),
        ("LlamaForCausalLM", {**SMALL, "bos_token_id": 1, "eos_token_id": [2, 3]}, BOS),
        ("MistralForCausalLM", {**SMALL, "num_key_value_heads": 2, "sliding_window": 6, "bos_token_id": 1,
                                "eos_token_id": 2}, BOS),
    ],
)  # fmt: skip
def test_a_decoder_goes_on_with_the_tokens_that_it_goes_on_with_there(
    name: str, config: dict[str, Any], begins: str, tmp_path: Path
) -> None:
    theirs, ours = checkpoint(tmp_path, name, **config), imported(tmp_path)
    first = tokenizer().token_to_id(begins)
    for prompt in ("", PROMPT):
        inputs = torch.tensor([[first, *ours.encode(prompt)]])
        said = theirs.generate(inputs, do_sample=False, max_new_tokens=LENGTH, pad_token_id=0)[0]
        expected = ours.tokenizer.decode(said[inputs.shape[1] :].tolist())
        assert len(expected.split()) > 3
        assert generate(ours, prompt, max_tokens=LENGTH, temperature=0).split() == expected.split()
    with torch.inference_mode():
        inputs = torch.tensor([[first, *ours.encode(PROMPT), 2]])
        nats = torch.nn.functional.cross_entropy(theirs(inputs).logits[0, :-1], inputs[0, 1:], reduction="sum")
    assert score_documents(ours, [PROMPT])[0].nats == pytest.approx(float(nats), rel=1e-4)


def test_each_token_that_ends_a_text_does(tmp_path: Path) -> None:
    shape = {**SMALL, "bos_token_id": 1}
    checkpoint(tmp_path, "LlamaForCausalLM", **shape, eos_token_id=2)
    whole = generate(imported(tmp_path), PROMPT, max_tokens=LENGTH, temperature=0).split()
    ends = whole[5]
    assert len(whole) > whole.index(ends) > 2
    (tmp_path / "other").mkdir()
    checkpoint(tmp_path / "other", "LlamaForCausalLM", **shape, eos_token_id=[2, tokenizer().token_to_id(ends)])
    stopped = generate(imported(tmp_path / "other"), PROMPT, max_tokens=LENGTH, temperature=0).split()
    assert stopped == whole[: whole.index(ends)]


def test_an_encoder_decoder_writes_the_spans_that_it_writes_there(tmp_path: Path) -> None:
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": SIZE,
             "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 2, "n_positions": 32}  # fmt: skip
    theirs, ours = checkpoint(tmp_path, "T5ForConditionalGeneration", **shape), imported(tmp_path)
    assert (ours.start, ours.end_of_document) == (0, 2)
    (tmp_path / "special_tokens_map.json").write_text("{}")
    files = tmp_path / "tokenizer.json", tmp_path / "special_tokens_map.json"
    vocabulary = read_vocabulary(*files, size=SIZE, end=2, start=ours.start_token)
    first, second = vocabulary.sentinels.tolist()
    source = [*ours.encode("w1 w2"), first, *ours.encode("w5"), second, *ours.encode("w9 w8")]

    def orderly(said_BT: Tensor, logits_BV: Tensor) -> Tensor:
        """Let text follow a sentinel, then the next sentinel, and the end once there is none."""
        spans = [token for token in said_BT[0].tolist() if token in (first, second)]
        barred = torch.arange(SIZE) < len(SPECIAL) if spans else torch.ones(SIZE, dtype=torch.bool)
        barred[[first, second, 2][len(spans)]] = False
        return logits_BV.masked_fill(barred, -torch.inf)

    said = theirs.generate(
        torch.tensor([[*source, 2]]), do_sample=False, max_new_tokens=31, logits_processor=[orderly]
    )[0].tolist()
    written = said[1 : said.index(2) if 2 in said else None]
    spans = written[1 : written.index(second)] if second in written else written[1:]
    assert written[0] == first
    assert len(spans) > 1
    rest = written[written.index(second) + 1 :] if second in written else []
    expected = [*source[:2], *spans, source[3], *rest, *source[5:]]
    assert filled(ours, vocabulary, source) == expected
    # And it is judged from there.
    objective = Denoising(DenoisingConfig(kind="denoising"), vocabulary, sequence_length=32, seed=0)
    asked = objective.batch(Windows(np.full((2, objective.window), 9), None), np.arange(2, dtype=np.uint64))
    assert asked.inputs[:, 0].tolist() == [0, 0]


def test_an_encoder_reads_the_tokens_that_its_tokenizer_puts_around_a_text(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    shape = {**SMALL, "pad_token_id": 0, "num_hidden_layers": 1}
    theirs = checkpoint(tmp_path, "BertForMaskedLM", **shape)
    around = tokenizer()
    around.post_processor = TemplateProcessing(single=f"{BOS} $A {EOS}", special_tokens=[(BOS, 1), (EOS, 2)])
    around.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"mask_token": UNKNOWN}))
    ours = imported(tmp_path)
    assert (ours.start, ours.end_of_document) == (1, 2)
    files = tmp_path / "tokenizer.json", tmp_path / "special_tokens_map.json"
    vocabulary = read_vocabulary(*files, size=SIZE, end=2, start=ours.start_token)
    asked = [*ours.encode("w1 w2"), vocabulary.mask or 0, *ours.encode("w5")]
    with torch.inference_mode():
        logits_V = theirs(torch.tensor([[1, *asked, 2]])).logits[0, 3]
    likeliest = int(logits_V.masked_fill(torch.from_numpy(vocabulary.special), -torch.inf).argmax())
    assert filled(ours, vocabulary, asked) == [*asked[:2], likeliest, asked[3]]


def test_special_tokens_come_through_import_and_export(tmp_path: Path) -> None:
    shape = {**SMALL, "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0}
    checkpoint(tmp_path, "LlamaForCausalLM", **shape)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    imported(tmp_path)
    export_folder(tmp_path / "ours", tmp_path / "again")
    assert (tmp_path / "again" / "chat_template.jinja").read_text() == "{{ messages }}"
    for name in ("config.json", "generation_config.json"):
        found = json.loads((tmp_path / "again" / name).read_text())
        tokens = {key: value for key, value in found.items() if key.endswith("_token_id")}
        assert tokens == {"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0}
