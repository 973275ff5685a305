"""Canonical JSON and the digests made from it: the identity of everything that Millrace stores."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of `value`: sorted keys, no spaces, UTF-8.

    Only None, bool, int, finite float, str, list, tuple and dict with string keys have one; anything else raises
    TypeError (or ValueError for NaN and infinities), because a value whose text may change between two runs must
    never become an identity.
    """
    _check(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _check(value: Any, where: str) -> None:
    if value is None or type(value) in (bool, int, str):
        return
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} has no canonical JSON")
        return
    if type(value) in (list, tuple):
        for i, item in enumerate(value):
            _check(item, f"{where}[{i}]")
        return
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(
                    f"{where}: the key {key!r} is a {type(key).__name__}, canonical JSON takes strings only"
                )
            _check(item, f"{where}.{key}")
        return
    raise TypeError(f"{where}: a {type(value).__name__} has no canonical JSON")


def digest_of(value: Any) -> str:
    """Return the sha256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256 (64 hex digits) of a local file's bytes."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()
