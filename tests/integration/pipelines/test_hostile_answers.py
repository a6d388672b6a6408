"""What stands before the API answers in its place: each refusal says what it means and what to do."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from kfp_server import Cluster, Handler
from proxy_server import ProxyAnswer, serve_behind_proxy

from contracts.errors import UserError
from pipelines.cluster.credentials import COOKIE_FILE_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from pipelines.cluster.patience import Patience
from pipelines.cluster.submit_run import submit_pipeline

pytestmark = pytest.mark.integration

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
ONE_TRY = Patience(limit_s=0)


def submit(package: Path, host: str, **options: str | bool | None) -> str:
    return submit_pipeline(
        package,
        {"config": "{}"},
        host=host,
        run_name="one",
        patience=ONE_TRY,
        waiting=ONE_TRY,
        **{"experiment": "shop", "pipeline_name": "tiny", **options},  # type: ignore[arg-type]
    ).state


HEALTH = "GET /healthz"
REFUSALS = {
    "plain http led to TLS": (
        ProxyAnswer(HEALTH, status=301, location="https://127.0.0.1/apis/v2beta1/healthz"),
        r"leads to https; say --host https://127\.0\.0\.1",
    ),
    "a login page, whose address holds secrets": (
        ProxyAnswer(HEALTH, status=302, location="/dex/auth?state=secret"),
        r"refuses the credentials \(it leads to the login page /dex/auth\); set REASEQ_KFP_TOKEN",
    ),
    "Istio": (
        ProxyAnswer(HEALTH, b"RBAC: access denied", 403, "text/plain"),
        r"you may not \(HTTP 403: RBAC: access denied\); bind the role kubeflow-edit",
    ),
    "another server": (
        ProxyAnswer(HEALTH, b'["fine"]'),
        r"not as a Kubeflow Pipelines 2 API \(HTTP 200: \[\"fine\"\]\); its API lies at",
    ),
    "a page that is no API's": (
        ProxyAnswer(HEALTH, PAGE, 404, "text/html"),
        r"\(HTTP 404: a page '502 Bad Gateway'\)",
    ),
    "a broken gateway": (
        ProxyAnswer("GET /experiments", PAGE, 502, "text/html"),
        r"could not submit the run: \S+ says HTTP 502: a page '502 Bad Gateway'",
    ),
    "a text for JSON": (
        ProxyAnswer("GET /runs", b"ok", 200, "text/plain"),
        "none of the API: ok",
    ),
    "null for an object": (ProxyAnswer("POST /runs", b"null"), "the answer is none of the API: null"),
    "an object without a run": (ProxyAnswer("POST /runs", b"{}"), r"the answer is none of the API: \{\}"),
    "an upload without an id": (ProxyAnswer("POST /pipelines/upload", b"{}"), "none of the API"),
    "a session that ended": (
        ProxyAnswer("POST /runs", status=302, location="/dex/auth"),
        r"refuses the credentials \(HTTP 401: it leads to a login page\).*REASEQ_KFP_COOKIE_FILE",
    ),
    "a package too large for a proxy": (
        ProxyAnswer("POST /pipelines/upload", PAGE, 413, "text/html"),
        "HTTP 413.*raise its limit",
    ),
    "a name that another namespace holds": (
        ProxyAnswer("POST /pipelines/upload", b'{"message": "pipeline tiny already exists"}', 409),
        "HTTP 409: pipeline tiny already exists; .* choose another name",
    ),
    "no right to upload": (
        ProxyAnswer("POST /pipelines/upload", b'{"message": "User me cannot create pipelines"}', 403),
        "HTTP 403: User me cannot create pipelines",
    ),
    "a list without an end": (
        ProxyAnswer("GET /runs", b'{"runs": [], "next_page_token": "x"}'),
        "list of runs has no end: page 'x' came twice",
    ),
    "a time that is none": (
        ProxyAnswer("GET /experiments", b'{"experiments": [{"created_at": "yesterday"}]}'),
        "Failed to parse `yesterday`",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_what_it_means(package: Path, cluster: Cluster, name: str) -> None:
    proxy_answer, message = REFUSALS[name]
    with (
        serve_behind_proxy(cluster, proxy_answer) as host,
        pytest.raises(UserError, match=message) as refused,
    ):
        submit(package, host)
    assert "<html" not in str(refused.value)
    assert "secret" not in str(refused.value)
    assert not cluster.runs


def test_a_run_that_is_deleted_while_it_is_waited_for_is_named(
    package: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = ProxyAnswer("GET /runs/*", b'{"message": "run not found"}', 404)
    with serve_behind_proxy(cluster, gone) as host:
        with pytest.raises(UserError, match=r"could not follow the run .*, which was submitted: .*not found"):
            submit(package, host, wait=True)
        (run_id,) = cluster.runs
        assert f"run {host}/#/runs/details/{run_id}" in capsys.readouterr().err, "said before the waiting"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("http://", "is no address"),
        ("http://a b", "is no address"),
        ("http://[::1", "is no address"),
        ("http://127.0.0.1:99999", "is no address"),
        ("https://kubeflow.example/pipeline/#/runs", "page of the UI; .* https://kubeflow.example/pipeline$"),
        ("https://kubeflow.example/pipeline?ns=me", "page of the UI"),
        ("https://me:pass@kubeflow.example", r"must hold no user and no password"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_asked(
    package: Path, host: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        submit(package, host)
    assert "pass@" not in str(refused.value)


def test_a_namespace_must_fit_the_installation(package: Path, host: str, cluster: Cluster) -> None:
    with pytest.raises(UserError, match=r"serves one user.* leave out --namespace, which says team-a"):
        submit(package, host, namespace="team-a")
    cluster.multi_user = True
    with pytest.raises(UserError, match="namespace 'Team A' cannot be one: lowercase letters"):
        submit(package, host, namespace="Team A")


def test_an_archived_experiment_is_named(package: Path, host: str, cluster: Cluster) -> None:
    submit(package, host)
    for experiment in cluster.experiments.values():
        experiment["storage_state"] = "ARCHIVED"
    with pytest.raises(UserError, match=r"experiment 'shop' is archived.*restore it"):
        submit(package, host)


@pytest.mark.parametrize(
    "content", [b"Bearer first", b"Authorization: Bearer first\r\n", b"\xef\xbb\xbffirst\n"]
)
def test_a_token_may_be_copied_with_what_stands_before_it(
    package: Path,
    host: str,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: bytes,
) -> None:
    cluster.token = "first"
    (tmp_path / "token").write_bytes(content)
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(tmp_path / "token"))
    assert submit(package, host) == "PENDING"
    monkeypatch.setenv(TOKEN_VARIABLE, content.decode("utf-8-sig"))
    assert submit(package, host) == "PENDING"


@pytest.mark.parametrize("variable", [TOKEN_FILE_VARIABLE, COOKIE_FILE_VARIABLE])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" \n", "which is empty; write"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a=b\nc=d", "holds a line break"),
    ],
)
def test_a_file_that_holds_no_login_is_named_and_not_shown(
    package: Path,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    content: bytes,
    message: str,
) -> None:
    (tmp_path / "login").write_bytes(content)
    monkeypatch.setenv(variable, str(tmp_path / "login"))
    with pytest.raises(UserError, match=f"{variable}.*{message}") as refused:
        submit(package, host)
    assert "c=d" not in str(refused.value)


def test_a_cookie_needs_its_name(
    package: Path, host: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster.cookie = "oauth2_proxy_kubeflow=abc"
    monkeypatch.setenv(COOKIE_FILE_VARIABLE, str(tmp_path / "cookie"))
    (tmp_path / "cookie").write_text("abc")
    with pytest.raises(UserError, match="must hold name=value, as in oauth2_proxy_kubeflow="):
        submit(package, host)
    (tmp_path / "cookie").write_text("Cookie: oauth2_proxy_kubeflow=abc\n")
    assert submit(package, host) == "PENDING"


@pytest.fixture
def tls_host(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """A server whose certificate an own CA signed: itself."""
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run(
        ["openssl", *words, *files, "-addext", "subjectAltName=IP:127.0.0.1"], capture_output=True, check=True
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"cluster": cluster}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] - a refused handshake is the point
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_private_ca_is_asked_for_by_name(
    package: Path, tls_host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="name your CA's certificates by SSL_CERT_FILE"):
        submit(package, tls_host)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    assert submit(package, tls_host) == "PENDING"


def test_the_wrong_scheme_is_said(package: Path, host: str, tls_host: str) -> None:
    with pytest.raises(UserError, match="perhaps it wants https://"):
        submit(package, tls_host.replace("https:", "http:"))
    with pytest.raises(UserError, match="the port speaks no TLS; say http://"):
        submit(package, host.replace("http:", "https:"))
