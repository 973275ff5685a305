import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.canonical import canonical_json, digest_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values))
def test_the_order_in_which_keys_were_written_does_not_matter(value: dict[str, object]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@pytest.mark.parametrize(
    "value", [{1: "a"}, {"a": {1, 2}}, {"a": object()}, {"a": b"bytes"}, [math.nan], [math.inf], {"a": lambda: 1}]
)
def test_what_has_no_canonical_json_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"\$|canonical"):
        canonical_json(value)


def test_the_digest_of_a_known_value_never_changes() -> None:
    assert digest_of({"b": [1, 2.5, None, True], "a": "ä"}) == (
        "26d99402c903f4cd8796458b9c84dff664e230343754991756438993a710b66a"
    )
