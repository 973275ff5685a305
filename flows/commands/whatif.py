"""What `select` would keep with other thresholds, answered from the stored signals."""

import itertools
import shlex
import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from flows.commands.interface import (
    InputOption,
    JsonOption,
    RecipeArgument,
    SetOption,
    open_store,
    print_json,
    print_line,
    print_table,
)
from flows.commands.shares import thresholds_of
from flows.recipe import Recipe
from infra.artifacts import Artifact, ArtifactStore
from infra.errors import DataError, UserError
from infra.execution import check_gate
from infra.planning import Planner, flatten
from tasks.select import SelectConfig, select
from tasks.whatif import Example, Group, Selection, TokenRatio, shards_of, token_ratio, weigh

_MOST_SELECTIONS = 100
"""Selections that one sweep may ask for: a table that a person can read."""

SweepOption = Annotated[
    list[str] | None,
    typer.Option("--sweep", metavar="A.B=C,D,…", help="Tries several values of a field of select; repeatable."),
]
ShareOption = Annotated[
    list[str] | None,
    typer.Option("--share", metavar="A.B=S", help="Sets a field of select so that this share stays; repeatable."),
]
ExamplesOption = Annotated[
    int, typer.Option("--examples", min=0, metavar="N", help="Shows N documents gained and N lost, with reasons.")
]


@dataclass(frozen=True)
class _Question:
    """One selection that is asked about."""

    sets: tuple[str, ...]
    recipe: Recipe

    @property
    def config(self) -> SelectConfig:
        return self.recipe.select or SelectConfig.everything()


def whatif(
    recipe: RecipeArgument,
    inputs: InputOption = None,
    sets: SetOption = None,
    sweep: SweepOption = None,
    share: ShareOption = None,
    examples: ExamplesOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Say what select would keep with other thresholds, from the stored signals; runs nothing."""
    others = [value for value in sets or [] if not _of_select(value)]
    own = [value for value in sets or [] if _of_select(value)]
    store = open_store()
    if share:
        own += _shares(recipe, inputs, others, own, share, store)
    questions = _questions(recipe, inputs, others, own, sweep or [])
    base = questions[0].recipe
    documents, signals = _signals(base, store, ["millrace", "run", recipe], inputs, others)
    found = weigh(shards_of(documents, signals), [question.config for question in questions], examples)
    ratio = token_ratio(store, base.tokenizer.identity())
    answers = [
        _answer(question, selection, questions[0], found[0], ratio, _published(store, question, documents, signals))
        for question, selection in zip(questions, found, strict=True)
    ]
    _say_what_changes_nothing(others)
    if as_json:
        print_json(
            {
                "recipe": base.name,
                "storage": store.root,
                "documents": documents.digest,
                "signals": signals.digest,
                "tokens": ratio.method if ratio else None,
                "selections": answers,
            }
        )
        return
    if len(answers) > 2:
        _print_sweep(answers)
    else:
        _print_answer(answers[0], answers[-1])
    print_line(
        f"tokens: estimated, {ratio.method}" if ratio else "tokens: not estimated, no tokenizer is published yet"
    )
    print_line("These are the documents that select keeps; duplicates among them are removed by the next step.")


def _of_select(assignment: str) -> bool:
    return _section(assignment) == "select"


def _section(assignment: str) -> str:
    return assignment.partition("=")[0].split(".")[0]


def _say_what_changes_nothing(sets: list[str]) -> None:
    """Name the values of later steps; that of the tokenizer is what tokens are estimated with."""
    from flows.summary import STEPS

    later = [
        value for value in sets if _section(value) in STEPS[STEPS.index("select") :] and _section(value) != "tokenizer"
    ]
    if later:
        sys.stderr.write(
            f"millrace: whatif is about select; what comes after it changes nothing here: {', '.join(later)}\n"
        )


def _questions(
    recipe: str, inputs: list[str] | None, others: list[str], own: list[str], sweep: list[str]
) -> list[_Question]:
    """Return the recipe's own selection, and those that are asked about."""
    from flows.recipe import load_recipe

    ways = [_swept(value) for value in sweep]
    combinations = list(itertools.islice(itertools.product(*ways), _MOST_SELECTIONS + 1))
    if len(combinations) > _MOST_SELECTIONS:
        raise UserError(f"--sweep: these are more than {_MOST_SELECTIONS} combinations; give fewer values")
    asked = [each for each in ((*own, *combination) for combination in combinations) if each]
    questions = [_Question(each, load_recipe(recipe, sets=[*others, *each], inputs=inputs)) for each in asked]
    try:
        base = load_recipe(recipe, sets=others, inputs=inputs)
    except UserError as error:
        if not questions:
            raise
        raise UserError(
            f"{error}: that is the recipe's own select, which these others are compared with; change it in the recipe"
        ) from error
    return [_Question((), base), *questions]


def _shares(
    recipe: str, inputs: list[str] | None, others: list[str], own: list[str], shares: list[str], store: ArtifactStore
) -> list[str]:
    """Return the thresholds that keep these shares."""
    from flows.recipe import load_recipe

    def load(more: list[str]) -> Recipe:
        return load_recipe(recipe, sets=[*others, *own, *more], inputs=inputs)

    _, signals = _signals(load([]), store, ["millrace", "run", recipe], inputs, others)
    return thresholds_of(shares, load, signals)


def _swept(value: str) -> list[str]:
    path, equals, values = value.partition("=")
    if not equals or not _of_select(value):
        raise UserError(f"--sweep {value}: write it as select.FIELD=VALUE,VALUE,…")
    return [f"{path}={one}" for one in values.split(",")]


def _signals(
    recipe: Recipe, store: ArtifactStore, command: list[str], inputs: list[str] | None, sets: list[str]
) -> tuple[Artifact, Artifact]:
    """Return the artifacts that select reads; raises UserError that names the command which makes them."""
    from flows.runs import look_up

    if recipe.annotate is None:
        raise UserError(f"recipe {recipe.name}: annotate is null, so there are no signals to select by")
    planner = look_up(recipe, store, "annotate")
    before = "extract" if recipe.normalise is None else "normalise"
    documents, signals = _made(planner, before), _made(planner, "annotate")
    if documents is None or signals is None:
        missing = next(record for record in planner.records if record.artifact is None)
        command = [*command, *_options("--input", inputs), *_options("--set", sets), "--until", "annotate"]
        raise UserError(
            f"recipe {recipe.name}: its signals are not published in {store.root} ({missing.step}: {missing.why}); "
            f"build them with `{shlex.join(command)}`"
        )
    return documents, signals


def _made(planner: Planner, step: str) -> Artifact | None:
    return next((record.artifact for record in planner.records if record.step == step), None)


def _options(name: str, values: list[str] | None) -> list[str]:
    return [part for value in values or [] for part in (name, value)]


def _published(store: ArtifactStore, question: _Question, documents: Artifact, signals: Artifact) -> Artifact | None:
    return store.lookup(select.identity(question.config, {"documents": documents, "signals": signals}))


def _answer(
    question: _Question,
    selection: Selection,
    base: _Question,
    first: Selection,
    ratio: TokenRatio | None,
    published: Artifact | None,
) -> dict[str, Any]:
    """Return one selection as plain values."""
    tokens, before = (ratio.of(each) if ratio else None for each in (selection, first))
    total, own = selection.total, first.total
    return {
        "sets": list(question.sets),
        "changed": _changed(base.config, question.config),
        "published": published.digest if published else None,
        "stopped_by": _stopped(question.config, selection),
        "documents_in": total.all.documents,
        "documents_kept": total.kept.documents,
        "documents_dropped": total.all.documents - total.kept.documents - selection.quarantined,
        "quarantined": selection.quarantined,
        "bytes_in": total.all.bytes,
        "bytes_kept": total.kept.bytes,
        "words_in": total.all.words,
        "words_kept": total.kept.words,
        "tokens_kept": tokens,
        "change": {
            "gained": selection.gained,
            "lost": selection.lost,
            "documents": total.kept.documents - own.kept.documents,
            "bytes": total.kept.bytes - own.kept.bytes,
            "words": total.kept.words - own.kept.words,
            "tokens": tokens - before if tokens is not None and before is not None else None,
        },
        "gained": [asdict(example) for example in selection.gained_examples],
        "lost": [asdict(example) for example in selection.lost_examples],
        "rules": {reason: asdict(rule) for reason, rule in selection.rules.items() if rule.documents},
        "sources": _plain(selection.sources),
        "languages": _plain(selection.languages),
    }


def _plain(groups: dict[str, Group]) -> dict[str, Any]:
    ordered = sorted(groups.items(), key=lambda item: (-item[1].all.documents, item[0]))
    return {name: asdict(group) for name, group in ordered}


def _changed(base: SelectConfig, config: SelectConfig) -> dict[str, list[Any]]:
    """Return the thresholds that differ, as [in the recipe, here]."""
    before, now = flatten(base.model_dump(mode="json"), "select"), flatten(config.model_dump(mode="json"), "select")
    names = [*before, *(name for name in now if name not in before)]
    return {name: [before.get(name), now.get(name)] for name in names if before.get(name) != now.get(name)}


def _stopped(config: SelectConfig, selection: Selection) -> str | None:
    """Return what a run would stop with, because select would leave the band that its gate allows."""
    try:
        check_gate("select", config, selection.counters())
    except DataError as exc:
        return str(exc)
    return None


def _print_answer(base: dict[str, Any], answer: dict[str, Any]) -> None:
    for name, (before, now) in answer["changed"].items():
        print_line(f"{name}: {before} -> {now}")
    if answer["sets"] and not answer["changed"]:
        print_line("no threshold differs from the recipe's own")
    rows = [_amounts(name, base, answer) for name in ("documents", "bytes", "words", "tokens")]
    header = ["", "in", "kept", "share"] + (["recipe keeps", "change"] if answer["sets"] else [])
    print_table([row[: len(header)] for row in rows if row], header)
    if answer["sets"]:
        print_line(f"{answer['change']['gained']:,} documents gained, {answer['change']['lost']:,} lost")
    if answer["quarantined"]:
        print_line(f"{answer['quarantined']:,} documents have no signals and are quarantined")
    if answer["stopped_by"]:
        print_line(f"a run would stop here: {answer['stopped_by']}")
    _print_rules(answer["rules"])
    for title in ("source", "language"):
        _print_groups(title, answer[f"{title}s"])
    for title in ("gained", "lost"):
        _print_examples(title, [Example(**example) for example in answer[title]])
    print_line()


def _amounts(name: str, base: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    given, kept, own = answer.get(f"{name}_in"), answer[f"{name}_kept"], base[f"{name}_kept"]
    if kept is None:
        return []
    share = f"{kept / given:.2%}" if given else ""
    return [name, f"{given:,}" if given is not None else "", f"{kept:,}", share, f"{own:,}", f"{kept - own:+,}"]


def _print_rules(rules: dict[str, dict[str, int]]) -> None:
    if rules:
        print_line()
        ordered = sorted(rules.items(), key=lambda item: (-item[1]["documents"], item[0]))
        rows = [[name, *(f"{rule[key]:,}" for key in ("documents", "first", "only"))] for name, rule in ordered]
        print_table(rows, ["dropped by", "documents", "counted under it", "by it alone"])


def _print_groups(title: str, groups: dict[str, Any]) -> None:
    print_line()
    rows = [
        [
            name,
            f"{group['all']['documents']:,}",
            f"{group['kept']['documents']:,}",
            f"{group['kept']['documents'] / group['all']['documents']:.2%}",
            f"{group['kept']['bytes']:,}",
        ]
        for name, group in groups.items()
    ]
    print_table(rows, [title, "documents", "kept", "share", "bytes kept"])


def _print_examples(title: str, examples: list[Example]) -> None:
    if examples:
        print_line()
        print_table([[each.url, each.id, ", ".join(each.reasons)] for each in examples], [title, "id", "reasons"])


def _print_sweep(answers: list[dict[str, Any]]) -> None:
    """Print a row for each selection."""
    rows = []
    for answer in answers:
        kept, tokens = answer["documents_kept"], answer["tokens_kept"]
        rows.append(
            [
                " ".join(answer["sets"]) or "(the recipe)",
                f"{kept:,}",
                f"{kept / answer['documents_in']:.2%}" if answer["documents_in"] else "",
                f"{answer['words_kept']:,}",
                f"{tokens:,}" if tokens is not None else "",
                f"{answer['change']['gained']:+,}",
                f"{-answer['change']['lost']:+,}" if answer["change"]["lost"] else "-0",
                "a run would stop" if answer["stopped_by"] else "",
            ]
        )
    print_table(rows, ["", "documents", "share", "words", "tokens", "gained", "lost", ""])
