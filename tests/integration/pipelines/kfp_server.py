"""A stateful stand-in for the Kubeflow Pipelines API server, as strict as the real one.

Request bodies are parsed with the models of `kfp-server-api`, which equal the official swagger's definitions
field for field: an unknown field, a wrong type or a missing value is answered 400, as by a real server's
proto parser.
"""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

ROOT = "/apis/v2beta1"
EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
Json = dict[str, Any]
# The swagger calls an int64 a string; proto3 JSON takes it as a number or a string.
INT64_FIELDS = {"V2beta1RecurringRun.max_concurrency", "V2beta1PeriodicSchedule.interval_second"}


class Fault(NamedTuple):
    """Something goes wrong with a request, though it is sound."""

    kind: str
    """An HTTP status; `reset`: the connection is closed; `silence`: no answer ever comes."""
    is_after: bool
    """Whether the request was carried out before."""


class FaultError(Exception):
    """Ends a request by a fault."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class RefusedError(Exception):
    """The request breaks the contract."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Cluster:
    """The server's memory, and how it is set up."""

    token: str | None = None
    cookie: str | None = None
    """The session that the login page before the API wants."""
    multi_user: bool = False
    tag_name: str = "2.17.0"
    run_states: tuple[str, ...] = ("PENDING", "RUNNING", "SUCCEEDED")
    """What a run answers when it is looked at again and again."""
    tasks: tuple[list[Json], ...] = ()
    """What a run's task details hold at each look."""
    fail_on: str | None = None
    """A path that answers 400: what no repetition mends."""
    forbidden: frozenset[str] = frozenset()
    """Requests that the token has no right to: `POST /runs`."""
    draw_fault: Callable[[], "Fault | None"] = lambda: None
    """What goes wrong with the next request."""
    experiments: dict[str, Json] = field(default_factory=dict)
    pipelines: dict[str, Json] = field(default_factory=dict)
    versions: dict[str, Json] = field(default_factory=dict)
    runs: dict[str, Json] = field(default_factory=dict)
    recurring_runs: dict[str, Json] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def healthz(self) -> Json:
        return {"multi_user": self.multi_user, "tag_name": self.tag_name}

    def create_experiment(self, body: Json) -> Json:
        check("V2beta1Experiment", body)
        self.need_namespace(body.get("namespace"))
        if any(e["display_name"] == body["display_name"] for e in self.experiments.values()):
            raise RefusedError(409, f"experiment {body['display_name']} already exists")
        return store(self.experiments, "experiment_id", body)

    def upload_pipeline(self, name: str, namespace: str | None, package: bytes) -> Json:
        self.need_namespace(namespace)
        if any(p["display_name"] == name for p in self.pipelines.values()):
            raise RefusedError(409, f"pipeline {name} already exists")
        spec = parse_package(package)
        pipeline = store(self.pipelines, "pipeline_id", {"display_name": name, "name": name})
        self._add_version(pipeline["pipeline_id"], name, spec)
        return pipeline

    def upload_version(self, pipeline_id: str, name: str, package: bytes) -> Json:
        if pipeline_id not in self.pipelines:
            raise RefusedError(404, f"pipeline {pipeline_id} not found")
        if any(v["pipeline_id"] == pipeline_id and v["display_name"] == name for v in self.versions.values()):
            raise RefusedError(409, f"version {name} already exists")
        return self._add_version(pipeline_id, name, parse_package(package))

    def _add_version(self, pipeline_id: str, name: str, spec: Json) -> Json:
        version = {"pipeline_id": pipeline_id, "display_name": name, "name": name, "pipeline_spec": spec}
        return store(self.versions, "pipeline_version_id", version)

    def create_run(self, body: Json) -> Json:
        check("V2beta1Run", body)
        self._check_job(body)
        created_at = EPOCH + timedelta(hours=len(self.runs))
        facts = {"state": self.run_states[0], "created_at": f"{created_at:%Y-%m-%dT%H:%M:%SZ}"}
        return store(self.runs, "run_id", {**body, **facts})

    def get_run(self, run_id: str) -> Json:
        if run_id not in self.runs:
            raise RefusedError(404, f"run {run_id} not found")
        look = self.looks[run_id] = self.looks.get(run_id, 0) + 1
        run = {**self.runs[run_id], "state": self.run_states[min(look, len(self.run_states) - 1)]}
        if self.tasks:
            run["run_details"] = {"task_details": self.tasks[min(look, len(self.tasks)) - 1]}
        return check_message("V2beta1Run", run)

    def create_recurring_run(self, body: Json) -> Json:
        check("V2beta1RecurringRun", body)
        self._check_job(body)
        trigger = body.get("trigger", {})
        if len(trigger) != 1 or not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise RefusedError(400, "one trigger and 1 to 10 concurrent runs are needed")
        if "cron_schedule" in trigger and len(trigger["cron_schedule"]["cron"].split()) != 6:
            raise RefusedError(400, "cron must have six fields")
        return store(self.recurring_runs, "recurring_run_id", body)

    def set_mode(self, recurring_run_id: str, mode: str) -> Json:
        if recurring_run_id not in self.recurring_runs:
            raise RefusedError(404, f"recurring run {recurring_run_id} not found")
        self.recurring_runs[recurring_run_id]["mode"] = mode.upper()
        return {}

    def trigger(self, recurring_run_id: str) -> Json:
        """Creates the run that a schedule is due for.

        Macros in its parameters stay as they are: with a pinned version the real scheduler expands none.
        """
        taken = {"experiment_id", "display_name", "runtime_config"}
        taken |= {"pipeline_spec", "pipeline_version_reference"}
        schedule = self.recurring_runs[recurring_run_id]
        run = self.create_run({name: value for name, value in schedule.items() if name in taken})
        run["recurring_run_id"] = recurring_run_id
        return run

    def read_spec(self, run: Json) -> Json:
        """The pipeline specification of a run, whether it came with it or was uploaded."""
        spec = (
            run.get("pipeline_spec")
            or (self.versions[run["pipeline_version_reference"]["pipeline_version_id"]]["pipeline_spec"])
        )
        return dict(spec.get("pipeline_spec", spec))

    def delete_recurring_run(self, recurring_run_id: str) -> Json:
        if self.recurring_runs.pop(recurring_run_id, None) is None:
            raise RefusedError(404, f"recurring run {recurring_run_id} not found")
        return {}

    def need_namespace(self, namespace: str | None) -> None:
        if self.multi_user != bool(namespace):
            raise RefusedError(400, "a namespace must be given in multi-user mode, and only there")

    def _check_job(self, body: Json) -> None:
        if body.get("experiment_id") not in self.experiments or not body.get("display_name"):
            raise RefusedError(400, "unknown experiment or no display_name")
        reference = body.get("pipeline_version_reference")
        if (reference is None) == (body.get("pipeline_spec") is None):
            raise RefusedError(400, "either pipeline_spec or pipeline_version_reference is needed")
        spec = body.get("pipeline_spec")
        if reference is not None:
            version = self.versions.get(reference.get("pipeline_version_id", ""))
            if version is None or version["pipeline_id"] != reference.get("pipeline_id"):
                raise RefusedError(400, "unknown pipeline version")
            spec = version["pipeline_spec"]
        check_parameters(parse_spec(spec), body.get("runtime_config", {}).get("parameters", {}))


def store(table: dict[str, Json], key: str, row: Json) -> Json:
    """Keeps a row under a new id and answers it as the server would."""
    identifier = str(uuid.uuid4())
    table[identifier] = {**row, key: identifier}
    return table[identifier]


def check(model: str, body: Any) -> None:
    """Refuses what the official definition of `model` does not allow, at any depth."""
    definition = getattr(kfp_server_api.models, model)
    if definition.openapi_types == {}:  # an enumeration
        allowed = [value for name, value in vars(definition).items() if name.isupper()]
        if body not in allowed:
            raise RefusedError(400, f"{body!r} is not a {model}")
        return
    if not isinstance(body, dict):
        raise RefusedError(400, f"{model} must be an object")
    types = {definition.attribute_map[name]: kind for name, kind in definition.openapi_types.items()}
    for name, value in body.items():
        if name not in types:
            raise RefusedError(400, f"{model} has no field {name!r}")
        check_value(f"{model}.{name}", types[name], value)


def check_message(model: str, body: Json) -> Json:
    """Our own answers obey the definitions too, or the real client would read nothing from them."""
    check(model, body)
    return body


def check_value(name: str, kind: str, value: Any) -> None:
    """Checks one JSON value against a swagger type."""
    kind = "int" if name in INT64_FIELDS else kind
    plain: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "bool": (bool,),
        "int": (int, str),
        "datetime": (str,),
    }
    if kind in plain:
        if not isinstance(value, plain[kind]) or (kind == "int" and not str(value).lstrip("-").isdigit()):
            raise RefusedError(400, f"{name} must be {kind}, is {value!r}")
    elif kind.startswith("list["):
        for element in value:
            check_value(name, kind[5:-1], element)
    elif kind == "object" or kind.startswith("dict("):
        if not isinstance(value, dict):
            raise RefusedError(400, f"{name} must be an object")
    else:
        check(kind, value)


def parse_package(package: bytes) -> Json:
    """Parses an uploaded YAML file: one document, or two with the platform spec."""
    documents = list(yaml.safe_load_all(package))
    spec = (
        documents[0]
        if len(documents) == 1
        else {"pipeline_spec": documents[0], "platform_spec": documents[1]}
    )
    parse_spec(spec)
    return spec


def parse_spec(spec: Json) -> pipeline_spec_pb2.PipelineSpec:
    """Parses a pipeline spec by the official proto."""
    if "platform_spec" in spec:
        json_format.ParseDict(spec["platform_spec"], pipeline_spec_pb2.PlatformSpec())
    try:
        return json_format.ParseDict(spec.get("pipeline_spec", spec), pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise RefusedError(400, f"invalid pipeline spec: {error}") from error


def check_parameters(spec: pipeline_spec_pb2.PipelineSpec, parameters: Json) -> None:
    """Refuses unknown and missing parameters."""
    inputs = spec.root.input_definitions.parameters
    unknown = set(parameters) - set(inputs)
    missing = {
        name
        for name, definition in inputs.items()
        if not definition.HasField("default_value") and not definition.is_optional and name not in parameters
    }
    if unknown or missing:
        raise RefusedError(400, f"unknown parameters {sorted(unknown)}, missing parameters {sorted(missing)}")


class Handler(BaseHTTPRequestHandler):
    """Routes requests to the cluster."""

    cluster: Cluster

    def do_GET(self) -> None:
        self.answer(self.get)

    def do_POST(self) -> None:
        self.answer(self.post)

    def do_DELETE(self) -> None:
        self.answer(lambda parts, _: self.cluster.delete_recurring_run(parts[1]))

    def answer(self, route: Callable[[list[str], Json], Json]) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.cluster.requests.append(f"{self.command} {url.path.removeprefix(ROOT)}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.cluster.draw_fault()
        try:
            if self.cluster.token and self.headers.get("authorization") != f"Bearer {self.cluster.token}":
                raise RefusedError(401, "Unauthorized")
            if self.cluster.requests[-1] in self.cluster.forbidden:
                raise RefusedError(403, "Forbidden: User 'me' is not authorized")
            if self.cluster.cookie and self.headers.get("cookie") != self.cluster.cookie:
                self.send_login_page()
                return
            if not url.path.startswith(ROOT):
                raise RefusedError(404, "Not Found")
            if url.path.removeprefix(ROOT) == self.cluster.fail_on:
                raise RefusedError(400, "Invalid input")
            if fault is not None and not fault.is_after:
                raise FaultError(fault.kind)
            status, body = 200, route(url.path.removeprefix(ROOT).strip("/").split("/"), query)
            if fault is not None:
                raise FaultError(fault.kind)
        except RefusedError as error:
            status, body = error.status, {"code": 3, "message": str(error), "details": []}
        except FaultError as error:
            if error.kind in {"reset", "silence"}:
                self.close_connection = True
                if error.kind == "silence":
                    self.connection.recv(1 << 20)  # until the client has had enough
                return
            status, body = int(error.kind), {"code": 13, "message": "upstream connect error"}
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def send_login_page(self) -> None:
        """As Dex does: the API redirects, and the page itself says 200."""
        is_page = self.path == "/dex/auth"
        page = b"<html>log in</html>" if is_page else b""
        self.send_response(200 if is_page else 302)
        if not is_page:
            self.send_header("Location", "/dex/auth")
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def get(self, parts: list[str], query: Json) -> Json:
        match parts:
            case ["healthz"]:
                return self.cluster.healthz()
            case ["experiments"]:
                experiments = filter_rows(self.cluster.experiments, query)
                return check_message("V2beta1ListExperimentsResponse", {"experiments": experiments})
            case ["pipelines"]:
                pipelines = filter_rows(self.cluster.pipelines, query)
                return check_message("V2beta1ListPipelinesResponse", {"pipelines": pipelines})
            case ["pipelines", pipeline_id, "versions"]:
                versions = [
                    v for v in filter_rows(self.cluster.versions, query) if v["pipeline_id"] == pipeline_id
                ]
                return check_message("V2beta1ListPipelineVersionsResponse", {"pipeline_versions": versions})
            case ["runs"]:
                page = build_page(self.cluster.runs, query, "runs")
                return check_message("V2beta1ListRunsResponse", page)
            case ["runs", run_id]:
                return self.cluster.get_run(run_id)
            case ["recurringruns"]:
                # This one list is in camel case in the official definition.
                page = build_page(self.cluster.recurring_runs, query, "recurringRuns")
                return check_message("V2beta1ListRecurringRunsResponse", page)
        raise RefusedError(404, f"no GET {parts}")

    def post(self, parts: list[str], query: Json) -> Json:
        body = self.body
        match parts:
            case ["experiments"]:
                return self.cluster.create_experiment(json.loads(body))
            case ["pipelines", "upload"]:
                return self.cluster.upload_pipeline(
                    query["name"], query.get("namespace"), self.uploaded(body)
                )
            case ["pipelines", "upload_version"]:
                return self.cluster.upload_version(query["pipelineid"], query["name"], self.uploaded(body))
            case ["runs"]:
                return self.cluster.create_run(json.loads(body))
            case ["recurringruns"]:
                return self.cluster.create_recurring_run(json.loads(body))
            case ["recurringruns", target]:
                return self.cluster.set_mode(*target.split(":"))
        raise RefusedError(404, f"no POST {parts}")

    def uploaded(self, body: bytes) -> bytes:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        for part in message_from_bytes(head + body).walk():
            if part.get_param("name", header="content-disposition") == "uploadfile":
                payload = part.get_payload(decode=True)
                assert isinstance(payload, bytes)
                return payload
        raise RefusedError(400, "no multipart field 'uploadfile'")

    def log_message(self, *args: Any) -> None:
        """Keeps the test output quiet."""


def filter_rows(table: dict[str, Json], query: Json) -> list[Json]:
    """The rows that a list request's filter keeps."""
    table_rows = list(table.values())
    if query.get("filter"):
        for predicate in json.loads(query["filter"])["predicates"]:
            operation, key, value = (predicate[name] for name in ("operation", "key", "stringValue"))
            if operation not in {1, "EQUALS", 9, "IS_SUBSTRING"}:
                raise RefusedError(400, f"operation {operation} is not served here")
            is_equal = operation in {1, "EQUALS"}
            table_rows = [row for row in table_rows if (row[key] == value if is_equal else value in row[key])]
    return table_rows


def build_page(table: dict[str, Json], query: Json, rows_name: str) -> Json:
    """One page of an experiment's rows, one row a page: a client that ignores page tokens is found out."""
    table_rows = [
        row for row in filter_rows(table, query) if row["experiment_id"] == query.get("experiment_id")
    ]
    if sort_by := query.get("sort_by"):
        key, _, direction = sort_by.partition(" ")
        table_rows.sort(key=lambda row: row[key], reverse=direction == "desc")
    first_row = int(query.get("page_token") or 0)
    next_token = str(first_row + 1) if first_row + 1 < len(table_rows) else ""
    return {rows_name: table_rows[first_row : first_row + 1], "next_page_token": next_token}


@contextmanager
def serve_cluster(cluster: Cluster) -> Iterator[str]:
    """Serves a cluster on a free loopback port.

    Yields:
        The address of the server.
    """
    handler_class = type("ClusterHandler", (Handler,), {"cluster": cluster})
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), handler_class)
    server_thread = threading.Thread(
        target=http_server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    server_thread.start()
    try:
        yield f"http://127.0.0.1:{http_server.server_port}"
    finally:
        http_server.shutdown()
        http_server.server_close()
        server_thread.join()
