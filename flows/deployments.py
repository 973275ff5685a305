"""The Prefect flows: what a person starts from the UI, a schedule, CI or `millrace run`.

Each stands alone: `pretrain` makes sure of its corpus first, and finds it published where it was made before.
"""

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.classifier_recipe import ClassifierRecipe
from flows.recipe import Recipe
from flows.runs import run
from flows.train_classifier import classifier_steps
from flows.train_from_scratch import corpus_steps, evaluate_steps, pretrain_steps
from infra.execution import Options
from infra.settings import settings

_threads: Any = ThreadPoolTaskRunner(max_workers=settings().workers)


@flow(name="corpus", task_runner=_threads)
def corpus(recipe: Recipe) -> dict[str, Any]:
    """Turn the recipe's sources into training tokens."""
    last = "tokens" if recipe.card is None else "card"
    with run(recipe, Options(until=last)) as this:  # a machine that makes a corpus need not be one that can train
        corpus_steps(recipe)
    return this.summary()


@flow(name="pretrain", task_runner=_threads)
def pretrain(recipe: Recipe) -> dict[str, Any]:
    """Train the recipe's model from scratch on its corpus."""
    with run(recipe) as this:
        pretrain_steps(recipe, corpus_steps(recipe))
    return this.summary()


@flow(name="evaluate", task_runner=_threads)
def evaluate(recipe: Recipe) -> dict[str, Any]:
    """Measure the recipe's model on held-out documents."""
    with run(recipe) as this:
        made = corpus_steps(recipe)
        evaluate_steps(recipe, made, pretrain_steps(recipe, made))
    return this.summary()


@flow(name="train-from-scratch", task_runner=_threads)
def train_from_scratch(
    recipe: Recipe, from_step: str | None = None, until: str | None = None, force: list[str] | None = None
) -> dict[str, Any]:
    """Everything: corpus, pretrain, evaluate, report.

    `from_step` refuses to start when an earlier step is not cached, `until` stops after a step, `force` rebuilds.
    """
    with run(recipe, Options(from_step, until, tuple(force or ()))) as this:
        corpus(recipe)
        pretrain(recipe)
        evaluate(recipe)
    return this.summary()


@flow(name="train-classifier", task_runner=_threads)
def train_classifier(
    recipe: ClassifierRecipe, from_step: str | None = None, until: str | None = None, force: list[str] | None = None
) -> dict[str, Any]:
    """Train a classifier on two sets of documents, and measure it on those held out.

    Recipes name it in `annotate.quality.model` or `annotate.toxicity.model`.  The other parameters are those of
    `train-from-scratch`.
    """
    with run(recipe, Options(from_step, until, tuple(force or ()))) as this:
        classifier_steps(recipe)
    return this.summary()
