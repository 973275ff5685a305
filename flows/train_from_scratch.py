"""From raw web pages to an evaluated model: the table of contents of Millrace, one line a step.

These functions only compose; what runs them is the current execution (infra/steps.py): the planner of
`millrace plan`, or the Prefect flows in flows/deployments.py.
"""

from dataclasses import dataclass

from flows.cards import card_config, made_of_corpus
from flows.classifiers import classifiers_of
from flows.evaluation_sets import evaluation_sets
from flows.named_files import named_files
from flows.recipe import Recipe
from flows.references import check_shape, earlier_batches, initial_weights, vocabulary_of
from flows.signal_files import signal_files
from flows.sources import raw_files
from infra.artifacts import Artifact
from infra.steps import gather
from tasks.annotate import annotate
from tasks.augment import augment
from tasks.card import card
from tasks.decontaminate import decontaminate
from tasks.dedup import dedup
from tasks.evaluate import evaluate
from tasks.extract import extract
from tasks.ingest import ingest
from tasks.mix import mix
from tasks.normalise import normalise
from tasks.pretrain import pretrain
from tasks.redact import redact
from tasks.repeats import repeats
from tasks.select import SelectConfig, select
from tasks.split import split
from tasks.tokenizer import ModelVocabulary, tokenizer
from tasks.tokens import tokens


@dataclass(frozen=True)
class Corpus:
    """What training needs of a corpus."""

    documents: Artifact
    tokenizer: Artifact
    tokens: Artifact


def corpus_steps(recipe: Recipe) -> Corpus:
    """Turn the sources into documents, documents into training tokens."""
    pages = gather([ingest(source.config, files=source.files) for source in raw_files(recipe)])
    documents = extract(recipe.extract, pages=pages)
    if recipe.normalise is not None:
        documents = normalise(recipe.normalise.for_sources(recipe.code_sources), documents=documents)
    if recipe.annotate is not None:
        beside = {**signal_files(recipe.annotate), **classifiers_of(recipe.annotate)}
        signals = annotate(recipe.annotate, documents=documents, **beside)
        documents = select(recipe.select or SelectConfig.everything(), documents=documents, signals=signals)
    if recipe.redact is not None:
        documents = redact(recipe.redact, documents=documents, signals=documents)
    if recipe.dedup is not None:
        documents = dedup(recipe.dedup, kept=documents, **earlier_batches(recipe.dedup.against, kept=documents))
    if recipe.repeats is not None:
        documents = repeats(recipe.repeats, kept=documents)
    if recipe.augment is not None:
        named = named_files("augment", recipe.augment.named_files())
        documents = augment(recipe.augment, documents=documents, files=named)
    if recipe.decontaminate is not None:
        sets = evaluation_sets(recipe.decontaminate)
        documents = decontaminate(sets.config, documents=documents, benchmarks=sets.files)
    parts = split(recipe.split, documents=documents)
    mixture = {"mixture": mix(recipe.mix, parts=parts)} if recipe.mix is not None else {}
    if isinstance(recipe.tokenizer, ModelVocabulary):
        vocabulary = vocabulary_of(recipe.pretrain.initial_weights)
    else:
        vocabulary = tokenizer(recipe.tokenizer, documents=parts)
    training = tokens(recipe.tokens, documents=parts, tokenizer=vocabulary, **mixture)
    if recipe.card is not None:
        card(card_config(recipe, made_of_corpus()), **made_of_corpus())
    return Corpus(parts, vocabulary, training)


def pretrain_steps(recipe: Recipe, corpus: Corpus) -> Artifact:
    """Train the model on the tokens, from the weights of an earlier one where the recipe names it."""
    earlier = initial_weights(recipe.pretrain.initial_weights)
    check_shape(recipe.pretrain, earlier)
    return pretrain(recipe.pretrain, tokens=corpus.tokens, tokenizer=corpus.tokenizer, **earlier)


def evaluate_steps(recipe: Recipe, corpus: Corpus, model: Artifact) -> Artifact:
    """Measure what the model has learned."""
    return evaluate(recipe.evaluate, model=model, documents=corpus.documents, tokens=corpus.tokens)


def all_steps(recipe: Recipe) -> None:
    """Everything."""
    corpus = corpus_steps(recipe)
    model = pretrain_steps(recipe, corpus)
    evaluate_steps(recipe, corpus, model)
