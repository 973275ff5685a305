"""What all parts of the configuration of a training run have in common."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

CONFIG = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def unread(cfg: BaseModel, names: Sequence[str], why: str) -> list[str]:
    """Return, of each of these fields that is not at its default, that nothing reads it, and `why`.

    What was set to the default cannot be told from what was written out of another configuration, and does no harm.
    """
    defaults = {name: field.get_default() for name, field in type(cfg).model_fields.items()}
    return [
        f"{name}={_shown(getattr(cfg, name))} has no meaning {why}; leave it at {_shown(defaults[name])}"
        for name in names
        if getattr(cfg, name) != defaults[name]
    ]


def _shown(value: Any) -> str:
    """Return a value as a recipe has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def merged(base: Any, over: Any) -> Any:
    """Return a part of a recipe with the keys of another put over it; one of another `kind` replaces it whole."""
    if isinstance(base, dict) and isinstance(over, dict):
        if "kind" in over and over["kind"] != base.get("kind"):
            return over
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    return over
