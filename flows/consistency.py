"""The sections of a recipe held against each other: what one of them needs, another one must give."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flows.mixtures import check_mix, check_objective, check_packing
from flows.signal_files import check_signals
from tasks.mix import closest

if TYPE_CHECKING:
    from flows.recipe import Recipe


def check_consistency(recipe: "Recipe") -> None:
    """Raise ValueError that begins with the field at which two sections of a recipe do not go together."""
    names = [source.name for source in recipe.ingest.sources]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"ingest.sources: two sources are called {name!r}; give each its own name")
    _check_sources_named(recipe, names)
    _check_select(recipe)
    _check_dedup(recipe)
    _check_redact(recipe)
    if recipe.annotate is None:
        _check_languages(recipe)
    if recipe.augment is not None and recipe.split.method == "position":
        raise ValueError("augment: with split.method=position a piece of each original is held out, so none could stay")
    check_packing(recipe.tokens, recipe.pretrain)
    check_objective(recipe.tokenizer, recipe.pretrain)
    if recipe.mix is not None:
        check_mix(recipe.mix, recipe.annotate, recipe.pretrain)


def _check_sources_named(recipe: "Recipe", names: list[str]) -> None:
    """Every section that names sources names those that there are."""
    named: dict[str, Iterable[str]] = {}
    later: dict[str, Iterable[str]] = {}  # where a corpus may have sources of earlier batches
    if recipe.normalise is not None:
        named |= {f"normalise.{field}": found for field, found in recipe.normalise.sources_named().items()}
    if recipe.dedup is not None and not recipe.dedup.against:  # earlier batches may have other sources
        named["dedup.source_order"] = recipe.dedup.source_order
    if recipe.card is not None:
        later["card.sources"] = recipe.card.sources
    if recipe.augment is not None:
        later |= {f"augment.{field}": found for field, found in recipe.augment.sources_named().items()}
    if recipe.mix is not None:
        later |= {f"mix.{field}": found for field, found in recipe.mix.sources_named().items()}
    if recipe.dedup is None or not recipe.dedup.include_earlier:
        named |= later
    for field, found in named.items():
        for name in found:
            if name not in names:
                raise ValueError(f"{field}: no source is called {name!r}; {closest(name, names)}")


def _check_select(recipe: "Recipe") -> None:
    select, annotate = recipe.select, recipe.annotate
    if select is None:
        return
    if annotate is None:
        raise ValueError("select needs the signals of annotate: set select to null, or give annotate")
    check_signals(select, annotate)
    if select.max_pii_spans is not None and annotate.pii is None:
        raise ValueError("select.max_pii_spans: needs the places of personal data: give annotate.pii")
    if select.min_quality is not None and annotate.quality is None:
        raise ValueError("select.min_quality: needs the scores of a classifier: name one in annotate.quality")
    if select.max_toxicity is not None and annotate.toxicity is None:
        raise ValueError("select.max_toxicity: needs the scores of a classifier: name one in annotate.toxicity")


def _check_dedup(recipe: "Recipe") -> None:
    dedup, annotate = recipe.dedup, recipe.annotate
    if dedup is None:
        return
    if "best_quality" in dedup.keep and (annotate is None or annotate.quality is None):
        raise ValueError("dedup.keep: best_quality needs the scores of a classifier: name one in annotate.quality")
    if dedup.verify is not None and (annotate is None or annotate.minhash is None):
        raise ValueError("dedup.verify: needs MinHash signatures: give annotate.minhash, or set dedup.verify to null")


def _check_redact(recipe: "Recipe") -> None:
    if recipe.redact is None:
        return
    if recipe.annotate is None:
        raise ValueError("redact needs the signals of annotate: set redact to null, or give annotate")
    if recipe.annotate.pii is None:
        raise ValueError("redact needs the places of personal data: give annotate.pii, or set redact to null")
    if missing := recipe.redact.missing(recipe.annotate.pii):
        raise ValueError(f"redact.kinds: add {', '.join(missing)} to annotate.pii.kinds too")


def _check_languages(recipe: "Recipe") -> None:
    """What goes by language needs somebody to find it; else all documents would be of one, or none taken."""
    fields = {"split.strata": "language" in recipe.split.strata}
    if recipe.mix is not None:
        fields["mix.by"] = recipe.mix.by == "language"
        fields |= {
            f"mix.stages[{number}].where.languages": stage.where.languages is not None
            for number, stage in enumerate(recipe.mix.stages)
        }
    if recipe.augment is not None:
        fields |= {
            f"augment.methods[{number}].choose.languages": method.choose.languages is not None
            for number, method in enumerate(recipe.augment.methods)
        }
    for field, by_language in fields.items():
        if by_language:
            raise ValueError(f"{field}: languages are found by annotate; give annotate, or leave them out")
