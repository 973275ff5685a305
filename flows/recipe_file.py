"""Recipes as files: reading YAML, what `extends` and `--set` put in, and mistakes told in one line a field."""

import difflib
import os
import re
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from infra.errors import UserError
from models.config.base import merged
from models.presets import gives_way

M = TypeVar("M", bound=BaseModel)

_FORMS = {
    "tuple_type": "must be a list, as in [a, b]",
    "list_type": "must be a list, as in [a, b]",
    "dict_type": "must be a mapping, as in {key: value}",
    "model_type": "must be a mapping, as in {key: value}",
    "model_attributes_type": "must be a mapping, as in {key: value}",
}
"""What pydantic says of the form of a value, in terms of YAML."""


class _Loader(yaml.SafeLoader):
    """YAML without dates and without numbers to the base of 60: `snapshot: 2027-01-31` and `time: 10:00:00` are the
    texts that they look like."""


def _text_to_the_eye(tag: str, pattern: re.Pattern[str]) -> tuple[str, re.Pattern[str]]:
    if tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        return tag, re.compile(rf"(?!.*:)(?:{pattern.pattern})", re.VERBOSE)
    return tag, pattern


_Loader.yaml_implicit_resolvers = {
    first: [_text_to_the_eye(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def shipped() -> list[str]:
    """Return the names of the recipes that come with Millrace."""
    found = (entry.name for entry in files("flows.recipes").iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def read_recipe(recipe: str, sets: list[str] | None = None) -> dict[str, Any]:
    """Return what the recipe called or stored at `recipe` says, with what it extends and `--set` values put in.

    Raises UserError, one line that names the file.
    """
    data: dict[str, Any] = extended(_read(recipe))
    for assignment in sets or []:
        _give_way(data, assignment)
    for assignment in sets or []:
        _assign(data, assignment)
    return data


def extended(value: Any, below: tuple[str, ...] = ()) -> Any:
    """Return a recipe with the keys of the one that it `extends`, which may extend another.

    Raises UserError where they extend one another in a circle; `below` are those that led here.
    """
    if isinstance(value, dict) and value.get("extends"):
        name = str(value["extends"])
        if name in below:
            raise UserError(f"recipe {name}: extends itself, by way of {' and '.join(below)}")
        base = extended(_read(name), (*below, name))
        over = {k: v for k, v in value.items() if k != "extends"}
        if isinstance(over.get("pretrain"), dict):
            base["pretrain"] = gives_way(base.get("pretrain"), over["pretrain"])
        return merged(base, over)
    return value


def dated(label: str) -> str:
    """Return the label of a snapshot, with `{date}` replaced by today (UTC)."""
    return label.replace("{date}", f"{datetime.now(UTC):%Y-%m-%d}")


def without_required(schema: dict[str, Any]) -> None:
    """With `extends` nothing else is required, and a form must not ask for what the base recipe gives."""
    schema.pop("required", None)


def as_yaml(recipe: BaseModel) -> str:
    """Return a whole recipe, defaults included, as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json", exclude={"extends"}), sort_keys=False, allow_unicode=True)


def validated(model: type[M], recipe: str, data: dict[str, Any]) -> M:
    """Return a recipe as its model; raises UserError, one line that names the file and every field that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        problems = "; ".join(_explain(error, model) for error in _told(exc.errors()))
        raise UserError(f"recipe {recipe}: {problems}") from exc


def _told(errors: list[Any]) -> list[Any]:
    """Leave out that a list is too short where that is only for the entries of it which are wrong."""
    places = [error["loc"] for error in errors]

    def inside(loc: tuple[Any, ...]) -> bool:
        return any(len(place) > len(loc) and place[: len(loc)] == loc for place in places)

    return [error for error in errors if error["type"] != "too_short" or not inside(error["loc"])]


def _read(recipe: str) -> dict[str, Any]:
    if recipe in shipped():
        text = (files("flows.recipes") / f"{recipe}.yaml").read_text()
    elif os.sep in recipe or recipe.endswith((".yaml", ".yml")):
        path = Path(recipe)
        try:
            text = path.read_text()
        except FileNotFoundError as exc:
            raise UserError(f"recipe {recipe}: no such file") from exc
        except (OSError, UnicodeDecodeError) as exc:
            raise UserError(f"recipe {recipe}: cannot be read ({exc})") from exc
    else:
        raise UserError(
            f"recipe {recipe}: no such recipe; Millrace ships {', '.join(shipped())}; for your own give a .yaml path"
        )
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as exc:
        raise UserError(f"recipe {recipe}: not valid YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(data, dict):
        raise UserError(f"recipe {recipe}: must be a mapping of sections, found {type(data).__name__}")
    return data


def _give_way(data: dict[str, Any], assignment: str) -> None:
    """Take out of a recipe what a preset or a dial decides that is put in by hand."""
    section, _, field = assignment.partition("=")[0].partition(".")
    training = data.get(section)
    if section != "pretrain" or not isinstance(training, dict):
        return
    chosen = field.partition(".")[0]
    if chosen in ("preset", "dial") and training.get(chosen) is None:
        data[section] = gives_way(training, {chosen: field})
    if field == "model.preset":
        data[section] = gives_way(training, {"model": {"preset": field}})


def _assign(data: dict[str, Any], assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise UserError(f"--set {assignment}: write it as SECTION.FIELD=VALUE")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as exc:
        raise UserError(f"--set {assignment}: the value is not valid YAML") from exc
    keys = path.split(".")
    at: Any = data
    for i, key in enumerate(keys):
        last = i == len(keys) - 1
        if isinstance(at, list):
            if not key.isdigit() or int(key) >= len(at):
                raise UserError(f"--set {path}: {'.'.join(keys[:i])} has entries 0 to {len(at) - 1}, not {key!r}")
            if last:
                at[int(key)] = value
            else:
                at = at[int(key)]
        elif isinstance(at, dict):
            if last:
                at[key] = value
            else:
                if at.get(key) is None:
                    at[key] = {}
                at = at[key]
        else:
            raise UserError(f"--set {path}: {'.'.join(keys[:i])} is a value, it has no field {key!r}")


def _explain(error: Any, root: type[BaseModel]) -> str:
    where, model = _place(error["loc"], root)
    if error["type"].startswith("union_tag") or (isinstance(model, list) and error["type"] == "model_attributes_type"):
        return _explain_kind(error, where, [str(_kind(option)) for option in model or []])
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        section = _place(error["loc"][:-1], root)[1]
        known = _fields(section)
        close = _deeper(section, name) or difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known)}" if known else ""
        return f"{where}: unknown key" + (f"; {hint}" if hint else "") + _other_kind(error, root)
    if error["type"] == "missing":
        return f"{where}: required and missing"
    message = _FORMS.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    field, colon, rest = message.partition(": ")
    if where and colon and re.split(r"[.\[]", field)[0] in _fields(model):
        where, message = f"{where}.{field}", rest
    given = error.get("input")
    shown = f" (given {given!r})" if isinstance(given, (str, int, float, bool)) else ""
    return f"{where}: {message}{shown}" if where else message


def _deeper(section: Any, name: str) -> list[str]:
    """Return where a key is that was written one level too high."""
    fields = getattr(section, "model_fields", {})
    return [f"{below}.{name}" for below, field in fields.items() if name in _fields(_model_in(field.annotation))]


def _other_kind(error: Any, root: type[BaseModel]) -> str:
    """Return what to do where a key is one of another kind, as where `--set` changes the kind alone; else nothing."""
    if len(error["loc"]) < 2:
        return ""
    *above, kind, name = error["loc"]
    where, options = _place(tuple(above), root)
    named = [each for each in options if name in _fields(each)] if isinstance(options, list) else []
    if not named:
        return ""
    where = where.replace("[", ".").replace("]", "")
    return (
        f' (kind={_kind(named[0])} has it, kind={kind} has not; `--set "{where}={{kind: {kind}}}"` drops the keys '
        "of another kind)"
    )


def _explain_kind(error: Any, where: str, kinds: list[str]) -> str:
    there = f"there is {', '.join(kinds)}"
    if error["type"] == "union_tag_not_found":
        return f"{where}.kind: required and missing; {there}"
    if error["type"] == "model_attributes_type":
        return f"{where}: must be a mapping with a kind; {there}"
    given = error["ctx"]["tag"]
    close = difflib.get_close_matches(given, kinds, n=1)
    return f"{where}.kind: no kind is called {given!r}; " + (f"did you mean {close[0]}? " if close else "") + there


def _place(loc: tuple[Any, ...], root: type[BaseModel]) -> tuple[str, Any]:
    """Return a pydantic error location as people write it, and what it leads to: a model, several by kind, or None."""
    where = ""
    model: Any = root
    for part in loc:
        if isinstance(part, int):
            where += f"[{part}]"
        elif isinstance(model, list) and (chosen := next((m for m in model if _kind(m) == part), None)):
            model = chosen  # its kind is no part of what was written
        else:
            where += f".{part}"
            given = getattr(model, "model_fields", {}).get(part)
            model = _model_in(given.annotation) if given is not None else None
    return where.removeprefix("."), model


def _fields(model: Any) -> list[str]:
    return sorted(getattr(model, "model_fields", {}))


def _kind(model: Any) -> Any:
    field = getattr(model, "model_fields", {}).get("kind")
    return field.annotation.__args__[0] if field is not None else None


def _model_in(annotation: Any) -> Any:
    """Return the model, or the models of a discriminated union, inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_in(arg) for arg in getattr(annotation, "__args__", ())]
    flat: list[Any] = []
    for entry in found:
        flat += entry if isinstance(entry, list) else [entry] if entry is not None else []
    return flat[0] if len(flat) == 1 else flat or None
