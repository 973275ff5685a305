"""What all parts of the configuration of a training run have in common."""

from pydantic import ConfigDict

CONFIG = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
