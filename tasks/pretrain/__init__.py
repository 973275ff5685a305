"""pretrain: a language model from the tokens, trained by a process group that cannot outlive this step.

model.safetensors  all weights, fp32          config.json     the network's shape
training.json      final numbers              curve.jsonl     loss, learning rate, gradient norm, validation by step
tokenizer.json …   copied in                  logs/           TensorBoard, throughput, the ranks' log (not content)

The work itself is `python -m models.train` (models/train.py).  Here its inputs are fetched and checked (inputs.py), the
group is started and supervised, and why it failed becomes an error that says whether trying again can help
(supervision.py).  Checkpoints go to the attempt's partial storage, so the step goes on where a killed one stopped, on
any machine.
"""

from tasks.pretrain.config import PretrainConfig
from tasks.pretrain.inputs import make_job, shape_differences
from tasks.pretrain.step import TOKENIZER_FILES, pretrain
from tasks.pretrain.token_lengths import token_bytes

__all__ = ["TOKENIZER_FILES", "PretrainConfig", "make_job", "pretrain", "shape_differences", "token_bytes"]
