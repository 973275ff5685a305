"""What all tests share: a world of their own for each test, real data, a real S3 server, a browser.

Every test starts in an empty folder, without any `MILLRACE_*`, `AWS_*` or `PREFECT_*` setting of who runs it.
"""

import os
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded import EmbeddedServer, prepare_environment
from infra.settings import settings
from tests.running import forget_settings, give_database

# Threads that spin while they wait starve the other processes of a test; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

REPOSITORY = Path(__file__).resolve().parents[1]

MOTO = """
import sys
import time
import urllib.request
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes that are no plain text after their argument: all workers must collect the same ids.

    Compressed bytes may hold the second at which they were made, which differs between two workers.
    """
    return argname if isinstance(val, bytes) and not (val.isascii() and val.decode().isprintable()) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have the most slow tests: at the end no worker waits for another's long ones."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `PREFECT_HOME` for the temporary servers of all tests of this process."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(autouse=True)
def isolated(
    tmp_path_factory: pytest.TempPathFactory, prefect_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Give each test an empty working directory, its own workspace and none of the settings of this machine."""
    for name in list(os.environ):
        if name.startswith(("MILLRACE_", "AWS_", "PREFECT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(prefect_home))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))
    forget_settings()
    yield
    forget_settings()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real web pages and texts that lies beside the repository, where there is one."""
    data = REPOSITORY.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"no real data at {data.relative_to(REPOSITORY.parent.parent)} beside the repository")
    return data


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The URL of an S3 server in a process of its own, which ends when this one does, however it ends."""
    server = subprocess.Popen([sys.executable, "-c", MOTO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin
    assert server.stdout
    port = server.stdout.readline().strip()
    if not port:
        pytest.fail(f"moto's server ended with status {server.wait()} before it was up")
    yield f"http://127.0.0.1:{port}"
    server.stdin.close()
    server.wait(timeout=30)


@pytest.fixture
def moto_server(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an S3 server that the standard AWS variables of this test point at."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return moto_endpoint


@pytest.fixture
def s3_bucket(moto_server: str) -> str:
    """The URL of an empty bucket of this test alone, as in `s3://name`."""
    import s3fs

    name = f"millrace-{uuid.uuid4().hex[:12]}"
    # Instances are cached by their arguments, not by the environment: without skipping the cache a second server in
    # one process would be asked through a client of the first.
    s3fs.S3FileSystem(endpoint_url=moto_server, key="testing", secret="testing", skip_instance_cache=True).mkdir(name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a headless-capable Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on PATH (.ci/run installs it where apt-get is)")


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API URL of a Prefect server of this process's tests: runs against it need not start one each."""
    home = tmp_path_factory.mktemp("prefect-server")
    give_database(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_API_URL", "")
        prepare_environment(settings(), quiet=False)
        server = EmbeddedServer.start(settings())
        assert server is not None
        server.wait()
        url = os.environ["PREFECT_API_URL"]
    yield url
    server.stop()
