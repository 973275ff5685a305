"""The reference of shakespeare_vs_nanogpt: nanoGPT's published CPU configuration as a plain PyTorch loop.

    python -m tests.benchmarks.nanogpt_cpu tinyshakespeare.txt --threads 2

Written anew from the configuration that nanoGPT's README gives for a laptop's CPU (train_shakespeare_char with
device=cpu, compile=False, block_size=64, batch_size=12, n_layer=4, n_head=4, n_embd=128, max_iters=2000,
lr_decay_iters=2000, dropout=0.0), and from the rest of that configuration: learning rate 1e-3 down to 1e-4 along a
cosine after 100 steps of warm-up, AdamW with betas 0.9 and 0.99 and decay 0.1 of matrices, clipping at 1.0, no biases,
fp32.  The network is GPT-2's: learned positions, LayerNorm before each branch, exact GELU, embedding and head tied.

Writes one JSON object.  Timed is the loop alone (data, forward, backward, optimiser); nanoGPT's own evaluations every
250 steps are left out, and the whole validation split is predicted after the clock has stopped.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

LAYERS, HEADS, WIDTH, BLOCK, BATCH, STEPS = 4, 4, 128, 64, 12, 2000
PEAK, FLOOR, WARMUP = 1e-3, 1e-4, 100


class Block(nn.Module):
    """Causal self-attention, then the feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH, bias=False)
        self.attention = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.attention_output = nn.Linear(WIDTH, WIDTH, bias=False)
        self.ffn_norm = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Add both branches to the residual stream."""
        B, T, _ = x_BTD.shape
        split = self.attention(self.attention_norm(x_BTD)).split(WIDTH, dim=2)
        q, k, v = (each.view(B, T, HEADS, WIDTH // HEADS).transpose(1, 2) for each in split)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.attention_output(y.transpose(1, 2).contiguous().view(B, T, WIDTH))
        output: Tensor = x_BTD + self.down(F.gelu(self.up(self.ffn_norm(x_BTD))))
        return output


class GPT(nn.Module):
    """The whole network."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                joins_the_stream = name.endswith(("attention_output.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if joins_the_stream else 0.02)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor, reduction: str = "mean") -> Tensor:
        """Return the cross-entropy in nats a character."""
        x_BTD = self.embedding(tokens_BT) + self.positions(torch.arange(tokens_BT.shape[1]))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = F.linear(self.norm(x_BTD), self.embedding.weight)
        return F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction=reduction)


def learning_rate(step: int) -> float:
    """Return the learning rate of a step, 0-based."""
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    done = (step - WARMUP) / (STEPS - WARMUP)
    return FLOOR + 0.5 * (1 + math.cos(math.pi * done)) * (PEAK - FLOOR)


def train(tokens: Tensor, vocab_size: int) -> tuple[GPT, float, float]:
    """Return the trained network and the seconds of wall-clock and of CPU that the loop took."""
    torch.manual_seed(1337)
    model = GPT(vocab_size)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99))
    started, cpu = time.perf_counter(), time.process_time()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        starts = torch.randint(len(tokens) - BLOCK, (BATCH,)).tolist()
        inputs_BT = torch.stack([tokens[i : i + BLOCK] for i in starts])
        targets_BT = torch.stack([tokens[i + 1 : i + 1 + BLOCK] for i in starts])
        loss = model(inputs_BT, targets_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # nanoGPT logs the loss of every step
    return model, time.perf_counter() - started, time.process_time() - cpu


@torch.no_grad()
def validation_loss(model: GPT, tokens: Tensor) -> float:
    """Return nats a character over all tokens but the first, in consecutive windows of the training length."""
    nats = 0.0
    for start in range(0, len(tokens) - 1, BLOCK):
        inputs = tokens[start : min(start + BLOCK, len(tokens) - 1)]
        nats += model(inputs[None], tokens[None, start + 1 : start + 1 + len(inputs)], "sum").item()
    return nats / (len(tokens) - 1)


def main() -> None:
    """Train and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    text = arguments.text.read_text(encoding="utf-8")
    vocabulary = sorted(set(text))
    tokens = torch.from_numpy(np.searchsorted(np.array(vocabulary), np.array(list(text))))
    cut = int(len(tokens) * 0.9)
    model, seconds, cpu_seconds = train(tokens[:cut], len(vocabulary))
    loss = validation_loss(model, tokens[cut:])
    result = {
        "validation_loss": loss,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": STEPS,
        "tokens": STEPS * BATCH * BLOCK,
        "threads": arguments.threads,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
