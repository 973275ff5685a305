"""The raw files of each source of a recipe: a user's own files as they are, a website by crawling it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from flows.recipe import Recipe
from infra.artifacts import Artifact
from infra.errors import UserError
from infra.fingerprints import fingerprint
from infra.steps import Pending
from tasks.crawl import CrawlConfig, crawl
from tasks.ingest import CrawlPages, IngestConfig, expand_paths


@dataclass(frozen=True)
class RawFiles:
    """Files that `ingest` reads, and how."""

    config: IngestConfig
    files: Artifact


def raw_files(recipe: Recipe) -> Iterator[RawFiles]:
    """Yield the raw files of each source, in the order of the recipe; crawls what is to be crawled.

    Raises UserError that names the field and the path that matches nothing or cannot be read.
    """
    for i, source in enumerate(recipe.ingest.sources):
        if isinstance(source, CrawlConfig):
            raw = crawl(source.model_copy(update={"snapshot": source.snapshot or recipe.snapshot}))
            pages = CrawlPages(kind="crawl", name=source.name)
            yield RawFiles(IngestConfig(source=pages), _below(raw, "warc"))
        else:
            field = f"ingest.sources[{i}].paths"
            if not source.paths:
                raise UserError(f"{field}: names no file; give the paths in the recipe or with --input")
            found = expand_paths(source, field)
            files = [fingerprint(uri, name, f"{field}: {uri}") for name, uri in found]
            yield RawFiles(IngestConfig(source=source), Artifact.external(files, source.name))


def _below(artifact: Artifact, folder: str) -> Artifact:
    if isinstance(artifact, Pending):
        return cast(Artifact, artifact)
    return Artifact.external(artifact.files(folder), artifact.step, artifact.root)
