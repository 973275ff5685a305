"""What all parts of the configuration of a training run have in common."""

from typing import Any

from pydantic import ConfigDict

CONFIG = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def merged(base: Any, over: Any) -> Any:
    """Return a part of a recipe with the keys of another put over it; one of another `kind` replaces it whole."""
    if isinstance(base, dict) and isinstance(over, dict):
        if "kind" in over and over["kind"] != base.get("kind"):
            return over
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    return over
