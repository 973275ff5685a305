"""The whole network: embeddings, one stack of blocks or two, and the output head."""

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.losses import Losses, Measure, measure
from models.transformer.blocks import Block, Checkpointing, run_blocks
from models.transformer.context import Cache, make_context
from models.transformer.feedforward import activate
from models.transformer.initialisation import initialise
from models.transformer.norms import make_norm
from models.transformer.positions import RelativeBias, places


class Encoder(nn.Module):
    """The encoder of an encoder-decoder: it reads embeddings from both sides."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.blocks = make_blocks(cfg, cfg.layers, causal=False)
        self.norm = final_norm(cfg)
        self.relative = RelativeBias(cfg, causal=False) if cfg.positions == "relative" else None
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x_BSD: Tensor, documents_BS: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the normed last hidden states and the auxiliary loss of its experts."""
        context = make_context(self.cfg, x_BSD, causal=False, documents_BT=documents_BS, relative=self.relative)
        x_BSD, auxiliary = run_blocks(self.blocks, x_BSD, context)
        return self.dropout(self.norm(x_BSD)), auxiliary


class Transformer(nn.Module):
    """The whole network; `embed` and `lm_head` are named so that optimisers tell them from hidden matrices.

    Its weights are drawn unless `drawn` is false: then somebody else sets every one of them.
    """

    def __init__(self, cfg: ModelConfig, vocab_size: int, *, drawn: bool = True) -> None:
        super().__init__()
        self.cfg, self.vocab_size = cfg, vocab_size
        self.causal = cfg.family != "encoder"
        two = cfg.family == "encoder_decoder"
        self.embed = nn.Embedding(vocab_size, cfg.width)
        self.positions = nn.Embedding(cfg.resolved_max_positions, cfg.width) if cfg.positions == "learned" else None
        self.segments = nn.Embedding(cfg.segments, cfg.width) if cfg.segments else None
        self.embed_norm = make_norm(cfg) if cfg.embed_norm else nn.Identity()
        self.dropout = nn.Dropout(cfg.dropout)
        self.encoder = Encoder(cfg) if two else None
        layers = cfg.resolved_decoder_layers if two else cfg.layers
        self.blocks = make_blocks(cfg, layers, causal=self.causal, cross=two)
        self.norm = final_norm(cfg)
        self.relative = RelativeBias(cfg, causal=self.causal) if cfg.positions == "relative" else None
        self.head_dense = nn.Linear(cfg.width, cfg.width) if cfg.head_transform else None
        self.head_norm = make_norm(cfg) if cfg.head_transform else None
        self.lm_head = nn.Linear(cfg.width, vocab_size, bias=cfg.head_transform)
        if drawn:
            initialise(self)
        if cfg.tied_embeddings:
            self.lm_head.weight = self.embed.weight
        self.losses = Losses(scored_only=cfg.family == "encoder")
        self._measure: Measure = measure

    def prepare(
        self,
        *,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_chunk: int | None = None,
        checkpointing: Checkpointing = "none",
        compiled: bool = False,
    ) -> None:
        """Say how training goes about it: what it minimises, what it keeps for the backward pass, and how it runs.

        `compiled` compiles each block, and the losses, with torch.compile; parameters keep their names.
        """
        self.losses = Losses(label_smoothing, z_loss, loss_chunk, scored_only=self.losses.scored_only)
        for block in (module for module in self.modules() if isinstance(module, Block)):
            block.checkpointing = checkpointing
            if compiled:
                block.compile()
        if compiled:
            self._measure = torch.compile(measure)

    # --- the parts, in the order in which a batch goes through them

    def embedded(
        self,
        tokens_BT: Tensor,
        *,
        start: int = 0,
        documents_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """Return what the first block reads, (B, T, D); `segments_BT` are 0 by default.

        Learned positions begin anew with each document. Raises ValueError where their table ends.
        """
        x_BTD = self.embed(tokens_BT)
        if self.positions is not None:
            end = start + tokens_BT.shape[1]
            if documents_BT is not None:
                index = places(documents_BT)
            elif end <= self.positions.num_embeddings:
                index = torch.arange(start, end, device=tokens_BT.device)
            else:
                raise ValueError(f"{end} tokens are more than the {self.positions.num_embeddings} learned positions")
            x_BTD = x_BTD + self.positions(index)
        if self.segments is not None:
            x_BTD = x_BTD + self.segments(torch.zeros_like(tokens_BT) if segments_BT is None else segments_BT)
        output: Tensor = self.dropout(self.embed_norm(x_BTD))
        return output

    def head(self, hidden: Tensor) -> Tensor:
        """Return the logits (…, V), in fp32, of normed last hidden states (…, D)."""
        if self.head_dense is not None and self.head_norm is not None:
            kind = "gelu" if self.cfg.gated else self.cfg.activation
            hidden = self.head_norm(activate(self.head_dense(hidden), kind))
        if self.cfg.scale_head:
            hidden = hidden * self.cfg.width**-0.5
        logits: Tensor = self.lm_head(hidden).float()
        cap = self.cfg.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def hidden(
        self,
        inputs_BT: Tensor,
        cache: Cache | None = None,
        documents_BT: Tensor | None = None,
        source_BS: Tensor | None = None,
        source_documents_BS: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the normed last hidden states (B, T, D), and the auxiliary loss of experts where there are any.

        With a cache, `inputs_BT` continue what it holds; of an encoder-decoder it keeps the source as well, which only
        the first call has to name. Without one, positions attend to those alone that have the same number in
        `documents_BT`, where that is given.
        """
        if cache is not None:
            assert self.causal, "an encoder reads both sides, so that there is nothing to continue"
            if not cache.layers:
                cache.layers, cache.cross = [None] * len(self.blocks), [None] * len(self.blocks)
        memory_BSD, total = cache.memory_BSD if cache is not None else None, None
        if cache is not None and memory_BSD is not None:
            source_documents_BS = cache.source_documents_BS
        elif self.encoder is not None:
            assert source_BS is not None, "an encoder-decoder needs a source to read"
            read_BSD = self.embedded(source_BS, documents_BT=source_documents_BS)
            memory_BSD, total = self.encoder(read_BSD, source_documents_BS)
            if cache is not None:
                cache.memory_BSD, cache.source_documents_BS = memory_BSD, source_documents_BS
        start = cache.length if cache is not None else 0
        x_BTD = self.embedded(inputs_BT, start=start, documents_BT=documents_BT, segments_BT=segments_BT)
        context = make_context(
            self.cfg,
            x_BTD,
            causal=self.causal,
            documents_BT=documents_BT,
            relative=self.relative,
            cache=cache,
            memory_BSD=memory_BSD,
            source_documents_BS=source_documents_BS,
        )
        x_BTD, auxiliary = run_blocks(self.blocks, x_BTD, context)
        if cache is not None:
            cache.length += inputs_BT.shape[1]
        if total is not None and auxiliary is not None:
            auxiliary = total + auxiliary
        x_BTD = self.norm(x_BTD)
        return (x_BTD if self.encoder is None else self.dropout(x_BTD)), auxiliary

    # --- what it is asked

    def logits(
        self,
        inputs_BT: Tensor,
        cache: Cache | None = None,
        documents_BT: Tensor | None = None,
        source_BS: Tensor | None = None,
        source_documents_BS: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """Return the logits (B, T, V) at each position, in fp32: of the next token, or of an encoder of its own."""
        return self.head(self.hidden(inputs_BT, cache, documents_BT, source_BS, source_documents_BS, segments_BT)[0])

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        documents_BT: Tensor | None = None,
        source_BS: Tensor | None = None,
        source_documents_BS: Tensor | None = None,
        *,
        reduction: str = "mean",
        weight: float | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the cross-entropy in nats of `targets_BT`, where they are not IGNORE: its mean, sum or all ("none").

        With reduction "train", return the loss to optimise and, without gradient, the cross-entropy: both summed over
        the targets and multiplied by `weight` (their mean by default), the former with label smoothing, z-loss and
        the mean auxiliary loss a sequence, which `weight` does not touch.  With "logits", return the logits (B, V) of
        one position of each sequence, which stands in place of its targets.
        """
        hidden_BTD, auxiliary = self.hidden(inputs_BT, None, documents_BT, source_BS, source_documents_BS)
        if reduction == "logits":
            return self.head(hidden_BTD[torch.arange(len(inputs_BT), device=inputs_BT.device), targets_BT])
        if reduction != "train":
            return self.losses.plain(self.head, hidden_BTD, targets_BT, reduction, self._measure)
        optimised, plain = self.losses.training(self.head, hidden_BTD, targets_BT, weight, self._measure)
        return (optimised if auxiliary is None else optimised + auxiliary), plain


def make_blocks(cfg: ModelConfig, layers: int, *, causal: bool, cross: bool = False) -> nn.ModuleList:
    """Return the blocks of one stack."""
    return nn.ModuleList(Block(cfg, layer, causal=causal, cross=cross) for layer in range(layers))


def final_norm(cfg: ModelConfig) -> nn.Module:
    """Return the norm after the last block; post-norm blocks end in one of their own."""
    return make_norm(cfg) if cfg.norm_order == "pre" else nn.Identity()
