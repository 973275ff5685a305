"""Real texts and pages come out of `normalise` as out of datatrove's FTFYFormatter and C4QualityFilter."""

import itertools
from pathlib import Path

import pytest

from tasks.normalise import LineRules, NormaliseConfig
from tasks.normalise.lines import DroppedError
from tasks.normalise.shard import DocumentForm
from tests.tasks.real_texts import pages, prose
from tests.tasks.test_parity import ADVERSARIAL

PLAIN = DocumentForm(NormaliseConfig())
WITHOUT_FTFY = DocumentForm(NormaliseConfig(ftfy=None))


def of(form: DocumentForm, text: str) -> str | DroppedError:
    try:
        return form.of("web", text)
    except DroppedError as error:
        return error


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[tuple[str, str]]:
    """Every sixth text and fifty pages; on all 3,125 of them nothing else is found."""
    return [*list(prose(shared_data))[::6], *itertools.islice(pages(shared_data), 50)]


@pytest.mark.slow
def test_real_texts_are_repaired_as_by_datatrove(texts: list[tuple[str, str]]) -> None:
    from datatrove.pipeline.formatters import FTFYFormatter

    theirs = FTFYFormatter()
    repaired = 0
    for name, text in texts:
        once = theirs.format(text)
        ours, expected = of(PLAIN, text), of(WITHOUT_FTFY, once)
        assert str(ours) == str(expected), name
        repaired += once != text
    assert repaired > 5


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "terminal"), [("c4", True), ("fineweb", False)])
def test_real_texts_keep_the_lines_that_datatrove_keeps(
    preset: str, terminal: bool, texts: list[tuple[str, str]]
) -> None:
    """Character by character, except for the spaces and blank lines that citations leave where they are cut."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    theirs = C4QualityFilter(filter_no_terminal_punct=terminal)
    ours = DocumentForm(NormaliseConfig(line_rules=LineRules.model_validate({"preset": preset})))
    kept, dropped = 0, set()
    for name, raw in [*ADVERSARIAL.items(), *texts[::3]]:
        if isinstance(text := of(PLAIN, raw), DroppedError):
            continue
        document = Document(text=text, id=name)
        decision = theirs.filter(document)
        found = of(ours, text)
        if decision is True:
            lines = [line.rstrip() for line in document.text.split("\n")]
            assert found == "\n".join(line for line in lines if line), name
            kept += 1
        else:
            assert str(found) == decision[1], name
            dropped.add(decision[1])
    assert kept > 100
    assert dropped == {"too_few_sentences", "curly_bracket", "lorem_ipsum"}
