"""import: a model of Hugging Face's transformers as one of ours.

model.safetensors  all weights, fp32, under our names      config.json     the network's shape
tokenizer.json …   copied in
"""

from pathlib import Path

from infra.artifacts import Artifact, Attempt
from infra.errors import UserError
from infra.manifests import Counters
from infra.steps import StepConfig, step


class ImportConfig(StepConfig):
    """How a model is imported: there is nothing to choose."""


@step("import", version=3)
def import_model(cfg: ImportConfig, files: Artifact, out: Attempt) -> Counters:
    """Write the model that lies below model/ of the files.

    Raises UserError where a file is missing or the model is none that the network computes.
    """
    from models.huggingface import import_folder

    folder: Path = files.local("model") / "model"
    if not (folder / "config.json").is_file():
        raise UserError(f"{', '.join(files.origins)}: config.json is missing; it is no model of transformers")
    about = import_folder(folder, out.directory)
    return Counters(documents_in=1, documents_out=1, values={"vocab_size": about["vocab_size"]})
