import json
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.artifacts import Artifact, ArtifactStore, Claim, Work
from infra.errors import DataError, LeaseLostError, UserError
from infra.manifests import Counters, Identity, Input
from infra.settings import settings
from infra.storage import Storage


@pytest.fixture(params=["local", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    urls = {"local": str(tmp_path / "store"), "memory": f"memory://{tmp_path.name}"}
    url = urls.get(request.param) or f"{request.getfixturevalue('s3_bucket')}/here"
    return ArtifactStore(url, workspace=tmp_path / "workspace", lease_seconds=2)


def _identity(text: str = "a", **params: object) -> Identity:
    return Identity("extract", 1, {"text": text, **params}, (Input(role="pages", content="c" * 64),))


def _publish(store: ArtifactStore, identity: Identity, text: str = "hello", log: str = "1 s") -> Artifact:
    with store.claim(identity) as claim:
        assert isinstance(claim, Claim)
        pq.write_table(pa.table({"text": [text, text]}), claim.attempt.path("documents/part.parquet"))
        claim.attempt.path("logs/time.txt").write_text(log)
        counters = Counters(documents_in=3, documents_out=2, dropped={"short": 1})
        return store.publish(claim, counters, Work(1.5, 1.2, 1000))


def test_what_is_published_is_found_and_can_be_read(store: ArtifactStore) -> None:
    assert store.lookup(_identity()) is None
    made = _publish(store, _identity())
    found = store.lookup(_identity())
    assert found == made
    assert found.counters.dropped == {"short": 1}
    (documents,) = found.files("documents")
    assert documents.rows == 2
    assert pq.read_table(documents.local()).column("text").to_pylist() == ["hello", "hello"]
    assert documents.read_bytes() == documents.local().read_bytes()
    assert store.verify(found) == []
    assert [a.digest for a in store.published("extract")] == [made.digest]
    assert store.steps() == ["extract"]


def test_the_same_identity_is_the_same_digest_wherever_it_is_stored(tmp_path: Path, s3_bucket: str) -> None:
    here = _publish(ArtifactStore(str(tmp_path / "store")), _identity())
    there = _publish(ArtifactStore(s3_bucket), _identity(), log="2 s")
    assert (here.digest, here.content) == (there.digest, there.content)


def test_logs_are_no_content_but_are_kept(tmp_path: Path) -> None:
    a = _publish(ArtifactStore(str(tmp_path / "a")), _identity(), log="1 s")
    b = _publish(ArtifactStore(str(tmp_path / "b")), _identity(), log="2 s")
    assert a.content == b.content
    assert a.file("logs/time.txt").sha256 != b.file("logs/time.txt").sha256


@pytest.mark.parametrize("change", ["step", "version", "params", "inputs"])
def test_each_part_of_an_identity_counts(change: str) -> None:
    identity = _identity()
    other = {
        "step": Identity("select", 1, identity.params, identity.inputs),
        "version": Identity("extract", 2, identity.params, identity.inputs),
        "params": _identity("b"),
        "inputs": Identity("extract", 1, identity.params, (Input(role="pages", content="d" * 64),)),
    }[change]
    assert other.digest != identity.digest


def test_where_an_input_lies_is_no_part_of_the_identity() -> None:
    moved = Identity("extract", 1, {"text": "a"}, (Input(role="pages", content="c" * 64, uri="s3://elsewhere"),))
    assert moved.digest == _identity().digest


def test_parameters_without_canonical_json_are_refused(store: ArtifactStore) -> None:
    with pytest.raises(TypeError, match="canonical JSON"):
        store.lookup(_identity(made_at=object()))


def test_an_unaccounted_document_keeps_the_artifact_from_being_published(store: ArtifactStore) -> None:
    with store.claim(_identity()) as claim:
        assert isinstance(claim, Claim)
        with pytest.raises(DataError, match="3 documents came in but 2 are accounted for"):
            store.publish(claim, Counters(documents_in=3, documents_out=2), Work())
    assert store.lookup(_identity()) is None


def test_a_failed_attempt_leaves_nothing_published_and_the_next_one_goes_on_from_its_scratch(
    store: ArtifactStore,
) -> None:
    with store.claim(_identity()) as claim:  # left without publishing, as by an exception
        assert isinstance(claim, Claim)
        claim.attempt.path("documents/half").write_text("half")
        (claim.attempt.scratch / "state").write_text("7 of 9")
        claim.attempt.partial.write_bytes("checkpoint", b"step 7")
    with store.claim(_identity()) as claim:
        assert isinstance(claim, Claim)
        assert (claim.attempt.scratch / "state").read_text() == "7 of 9"
        assert claim.attempt.partial.read_bytes("checkpoint") == b"step 7"
        claim.attempt.partial.write_bytes("kept/step-7", b"for ever")
        claim.attempt.path("documents/whole").write_text("whole")
        made = store.publish(claim, Counters(), Work())
        scratch = claim.attempt.scratch
    assert [f.path for f in made.files()] == ["documents/whole"]
    assert not scratch.exists()
    assert store.storage.find(f"artifacts/extract/{made.digest}/partial") == ["kept/step-7"]


def test_two_builders_at_once_publish_once(tmp_path: Path) -> None:
    built: list[str] = []
    seen: list[str] = []

    def build(name: str) -> None:
        mine = ArtifactStore(str(tmp_path / "store"), workspace=tmp_path / name)
        with mine.claim(_identity(), poll=0.05) as claim:
            if isinstance(claim, Claim):
                built.append(name)
                claim.attempt.path("documents/part").write_text("same")
                seen.append(mine.publish(claim, Counters(), Work()).manifest.attempt)
            else:
                seen.append(claim.manifest.attempt)

    threads = [threading.Thread(target=build, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert len(set(seen)) == 1
    assert len(seen) == 4


def test_a_worker_that_was_taken_over_cannot_publish(store: ArtifactStore) -> None:
    with store.claim(_identity()) as claim:
        assert isinstance(claim, Claim)
        claim.attempt.path("documents/part").write_text("late")
        claim.lease.storage.create("000002.json", b'{"machine": "elsewhere", "pid": 1, "started": "", "token": "x"}')
        with pytest.raises(LeaseLostError):
            store.publish(claim, Counters(), Work())
    assert store.lookup(_identity()) is None


def test_verify_names_what_was_changed_and_what_is_gone(store: ArtifactStore) -> None:
    made = _publish(store, _identity())
    documents, log = made.files()
    Storage(documents.root).write_bytes(documents.location, b"tampered")
    Storage(log.root).delete(log.location)
    problems = store.verify(made)
    assert len(problems) == 2
    assert "documents/part.parquet" in problems[0]
    assert "sha256" in problems[0]
    assert problems[1].endswith("missing")


def test_a_fetched_file_that_does_not_hash_to_its_manifest_is_refused(s3_bucket: str) -> None:
    store = ArtifactStore(s3_bucket)
    made = _publish(store, _identity())
    (documents,) = made.files("documents")
    Storage(documents.root).write_bytes(documents.location, b"tampered")
    with pytest.raises(DataError, match="its manifest says"):
        documents.local()


def test_storage_that_is_down_never_looks_like_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        ArtifactStore("s3://bucket/x").lookup(_identity())


def test_artifacts_are_found_by_what_a_person_types(store: ArtifactStore) -> None:
    made = _publish(store, _identity())
    other = _publish(store, _identity("b"))
    assert store.find(made.digest[:10]) == made
    assert store.find(f"extract/{made.digest[:10]}") == made
    assert store.find("extract") == other
    with pytest.raises(UserError, match="no such artifact"):
        store.find("zzz")
    with pytest.raises(UserError, match="2 artifacts"):
        store.find("")


def test_a_name_is_given_once_and_means_what_it_meant(store: ArtifactStore) -> None:
    made, other = _publish(store, _identity()), _publish(store, _identity("b"))
    store.tag("corpus", "v1", {"documents": made})
    store.tag("corpus", "v1", {"documents": made})
    store.tag("corpus", "v2", {"documents": other})
    with pytest.raises(UserError, match="v1"):
        store.tag("corpus", "v1", {"documents": other})
    assert store.versions("corpus") == ["v1", "v2"]
    assert store.tagged("corpus") == {"documents": other}
    assert store.tagged("corpus", "v1") == {"documents": made}


def test_a_manifest_says_all_that_the_design_promises(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_CORE_HOUR_PRICE", "36")
    settings.cache_clear()
    made = _publish(store, _identity())
    manifest = json.loads(made.manifest.to_json())
    assert {"format", "step", "version", "digest", "params", "inputs", "files", "counters", "seconds", "cpu_seconds",
            "peak_memory_bytes", "cost", "packages", "git_revision", "created"} <= set(manifest)  # fmt: skip
    assert manifest["files"][0].keys() == {"path", "location", "bytes", "sha256", "rows"}
    assert manifest["seconds"] == 1.5
    assert manifest["cost"] == pytest.approx(0.012)
    assert manifest["packages"]["torch"]
