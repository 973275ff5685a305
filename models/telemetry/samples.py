"""What the model writes after fixed prompts while it is trained, on all ranks together.

Under ZeRO-3 every forward pass gathers weights from all ranks, so all of them must take the same number of passes: each
sample is as many tokens long as asked for, and its text is cut at the end of the document.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import Tensor

from infra.errors import UserError
from models.job import Job

if TYPE_CHECKING:
    from models.engine import Engine

TEMPERATURE = 0.8
TOP_K = 50


class Sampler:
    """The prompts of a run; raises UserError for one that the vocabulary has no tokens for or that leaves no room."""

    def __init__(
        self, tokenizer: Path, prompts: Sequence[str], *, tokens: int, sequence_length: int, eod: int, seed: int
    ) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prompts, self._tokens, self._length, self._eod, self._seed = prompts, tokens, sequence_length, eod, seed
        self._encoded = [[eod, *self._encode(prompt)] for prompt in prompts]

    def _encode(self, prompt: str) -> list[int]:
        try:
            encoding = self._tokenizer.encode(prompt, add_special_tokens=False)
            read = {index for begin, end in encoding.offsets for index in range(begin, end)}
        except Exception as error:  # what tokenizers raises has no class of its own
            raise UserError(f"pretrain.prompts: {prompt[:40]!r} cannot be made tokens: {error}") from error
        lost = "".join(c for i, c in enumerate(prompt) if i not in read and not c.isspace())
        if lost:  # dropped by vocabularies that have no token for what they do not know
            raise UserError(
                f"pretrain.prompts: {prompt[:40]!r} has characters that the vocabulary lacks: {lost[:20]!r}"
            )
        ids: list[int] = encoding.ids
        if len(ids) + 1 >= self._length:
            raise UserError(
                f"pretrain.prompts: {prompt[:40]!r} is {len(ids)} tokens long, which leaves no room in "
                f"model.sequence_length={self._length}"
            )
        return ids

    def sample(self, engine: "Engine", step: int, progress: Callable[[], None]) -> list[dict[str, str]]:
        """Return {prompt, text} of each prompt; the same weights, seed and step give the same texts.

        Every rank must call it.  `progress` is called after each token, by all ranks alike, and may raise to end it.
        """
        sequences = [list(ids) for ids in self._encoded]
        generator = torch.Generator().manual_seed((self._seed << 32) + step)
        for _ in range(self._tokens):
            windows = [ids[-self._length :] for ids in sequences]
            # Of one shape, whatever was written so far: kernels are compiled once. What follows a position is not read.
            padded = torch.tensor([ids + [self._eod] * (self._length - len(ids)) for ids in windows])
            logits_PV = engine.logits_at(padded, torch.tensor([len(ids) - 1 for ids in windows])).cpu()
            for ids, token in zip(sequences, _draw(logits_PV, generator), strict=True):
                ids.append(token)
            progress()
        return [
            {"prompt": prompt, "text": self._text(begun, ids)}
            for prompt, begun, ids in zip(self._prompts, self._encoded, sequences, strict=True)
        ]

    def _text(self, begun: list[int], ids: list[int]) -> str:
        new = ids[len(begun) :]
        new = new[: new.index(self._eod)] if self._eod in new else new
        before: str = self._tokenizer.decode(begun)
        whole: str = self._tokenizer.decode(begun + new)
        return whole[len(before) :] if whole.startswith(before) else str(self._tokenizer.decode(new))


def make_sampler(job: Job) -> Sampler | None:
    """Return the sampler of a job; None where it asks for no samples."""
    training = job.training
    if not training.prompts:
        return None
    return Sampler(
        job.tokenizer,
        training.prompts,
        tokens=training.sample_tokens,
        sequence_length=training.model.sequence_length,
        eod=job.eod,
        seed=training.seed,
    )


def _draw(logits_PV: Tensor, generator: torch.Generator) -> list[int]:
    values_Pk, index_Pk = logits_PV.float().topk(min(TOP_K, logits_PV.shape[-1]), dim=-1)
    chosen_P1 = torch.multinomial((values_Pk / TEMPERATURE).softmax(dim=-1), 1, generator=generator)
    drawn: list[int] = index_Pk.gather(-1, chosen_P1)[:, 0].tolist()
    return drawn
