"""One modular transformer in plain PyTorch: decoder-only, encoder-only and encoder-decoder.

network.py is the whole of it; a batch goes through `embedded`, the blocks of one stack or two, the last norm and
`head`.  A block maps hidden states and a `Context` (masks, rotary angles, cache, what an encoder read) to others.

Parameters, by name (each `bias` where the shape has one):

    embed.weight  positions.weight  segments.weight  embed_norm.weight|bias
    blocks.N.attention_norm.weight|bias
    blocks.N.attention.query|key|value|output.weight|bias   blocks.N.attention.query_norm|key_norm.weight
    blocks.N.cross_norm…  blocks.N.cross.query|key|value|output…  (encoder-decoder; as attention)
    blocks.N.ffn_norm…    blocks.N.ffn.up|gate|down.weight|bias
    blocks.N.ffn.router.weight  blocks.N.ffn.experts.M.up|gate|down…  blocks.N.ffn.shared.up|gate|down…  (experts)
    norm.weight|bias  relative.weight (buckets, heads)  head_dense…  head_norm…  lm_head.weight|bias
    encoder.blocks.N…  encoder.norm…  encoder.relative.weight

Shapes in names: B sequences, T positions, S positions of a source or of keys, D width, H heads, K width of a head,
V vocabulary, N positions in a row, E experts, k experts of a position.
"""

from models.data import IGNORE, PADDING
from models.transformer.blocks import Block, run_blocks
from models.transformer.context import Cache, Context, make_context
from models.transformer.masks import attention_backend
from models.transformer.network import Transformer

__all__ = [
    "IGNORE",
    "PADDING",
    "Block",
    "Cache",
    "Context",
    "Transformer",
    "attention_backend",
    "make_context",
    "run_blocks",
]
