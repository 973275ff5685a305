"""Models in the format of Hugging Face's transformers: written for `AutoModel*.from_pretrained`, and read from it.

architectures.py  which of their architectures compute which of our shapes
configs.py        a shape as their config.json, and back
weights.py        our names and layouts of the weights as theirs, and back
folders.py        whole folders: config, weights, tokenizer
"""

from models.huggingface.architectures import ARCHITECTURES, Architecture, architecture_for
from models.huggingface.folders import export_folder, import_folder

__all__ = ["ARCHITECTURES", "Architecture", "architecture_for", "export_folder", "import_folder"]
