"""A W&B server on this machine, for the real SDK: runs, sweeps, artifacts, reports.

Strict: a field or an operation that it does not know is an error, answered as one and noted in
`faults`, so that a test sees it; nothing is answered by null that it does not know to be empty.
"""

import base64
import gzip
import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from graphql_reader import Field, read_operation

ENTITY = "somebody"
KEY = "0123456789abcdef0123456789abcdef01234567"
CREATED = "2026-01-01T00:00:00Z"
Node = dict[str, Any]  # of an answer; a value that can be called gets the field's arguments
Place = tuple[str, str]  # entity, project


class UnknownError(Exception):
    """The client asked for something that this server does not have."""


@dataclass
class Run:
    """A run as the server has it."""

    place: Place
    id: str
    display_name: str = ""
    group: str = ""
    job_type: str = ""
    sweep: str = ""
    state: str = "running"
    config: dict[str, Any] = field(default_factory=dict)  # name: {"value": ...}
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)  # JSON lines
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.history]

    def setting(self, name: str) -> Any:
        return self.config[name]["value"]


@dataclass
class Sweep:
    place: Place
    id: str
    config: str
    state: str = "PENDING"


@dataclass
class Artifact:
    place: Place
    id: str
    name: str
    type: str
    digest: str
    version: int
    run: str
    aliases: list[str] = field(default_factory=list)
    state: str = "PENDING"
    manifest: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)


def connection(
    nodes: Iterable[Node], arguments: dict[str, Any] | None = None, most: int = 1000
) -> Node:
    """A page of nodes: as many as the arguments ask for, `most` at most, after their cursor."""
    asked = arguments or {}
    edges = [{"node": node, "cursor": str(index)} for index, node in enumerate(nodes)]
    begin = int(asked["after"]) + 1 if asked.get("after") else 0
    shown = edges[begin : begin + min(asked.get("first") or most, most)]
    page = {
        "hasNextPage": begin + len(shown) < len(edges),
        "endCursor": shown[-1]["cursor"] if shown else None,
        "__typename": "PageInfo",
    }
    return {"edges": shown, "pageInfo": page, "totalCount": len(edges)}


def node_id(kind: str, *names: str) -> str:
    return base64.b64encode(":".join([kind, *names]).encode()).decode()


class WandbServer:
    """`with WandbServer() as server`: serves the state below at `server.url`.

    `stop` and `start` are a server that dies and comes back, on the same port and with all it had.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.faults: list[str] = []
        self.asked: list[str] = []  # operations
        self.key = KEY
        self.delay_s = 0.0  # before every answer
        self.page = 1000  # most nodes of one answer
        self.guard = threading.RLock()
        self.url = "http://127.0.0.1:0"
        self._http: _Http | None = None
        self.start()

    def start(self) -> None:
        http = _Http(("127.0.0.1", int(self.url.rpartition(":")[2])), _Handler)
        http.state = self
        self.url = f"http://127.0.0.1:{http.server_port}"
        self._http = http
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._http:
            self._http.shutdown()
            self._http.cut()
            self._http.server_close()
            self._http = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    # What clients ask

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of one request; UnknownError for what is not known."""
        operation = read_operation(query, variables)
        self.asked.append(operation.name)
        root = self._queries() if operation.kind == "query" else self._mutations()
        return select(root, operation.fields, operation.name or operation.kind)

    def _queries(self) -> Node:
        def project(arguments: dict[str, Any]) -> Node | None:
            entity = arguments.get("entityName") or arguments.get("entity") or ENTITY
            return self._project((entity, str(arguments["name"])))

        return {
            "viewer": self._viewer(),
            "serverInfo": {
                "features": [],
                "cliVersionInfo": {"max_cli_version": "99.0.0"},
                "latestLocalVersionInfo": None,
            },
            "project": project,
            "model": project,
            "models": lambda a: connection(
                (self._project(place) for place in self._places() if place[0] == a["entityName"]),
                a,
                self.page,
            ),
            "artifact": lambda a: self._artifact(self.artifacts[a["id"]]),
            "view": lambda a: self._view(self.views[a["id"]]),
        }

    def _swept(self) -> set[Place]:
        return {sweep.place for sweep in self.sweeps.values()}

    def _places(self) -> list[Place]:
        return sorted(self._swept() | {run.place for run in self.runs.values()})

    def _viewer(self) -> Node:
        return {
            "__typename": "User",
            "id": node_id("User", "1"),
            "entity": ENTITY,
            "username": ENTITY,
            "name": ENTITY,
            "email": "",
            "photoUrl": None,
            "admin": False,
            "flags": "{}",
            "deletedAt": None,
            "teams": connection([]),
            "apiKeys": connection([]),
        }

    def _project(self, place: Place) -> Node | None:
        runs = [run for run in self.runs.values() if run.place == place]
        if not runs and place not in self._swept():
            return None

        def chosen(arguments: dict[str, Any]) -> list[Run]:
            wanted = json.loads(arguments.get("filters") or "{}")
            return [run for run in runs if matches(run, wanted)]

        def one(arguments: dict[str, Any]) -> Node | None:
            run = self.runs.get(arguments["name"])
            return self._run(run) if run and run.place == place else None

        def sweep(arguments: dict[str, Any]) -> Node | None:
            found = self.sweeps.get(arguments.get("sweepName") or arguments.get("name") or "")
            return self._sweep(found) if found and found.place == place else None

        entity, name = place
        return {
            "__typename": "Project",
            "id": node_id("Project", *place),
            "internalId": node_id("ProjectInternalId", *place),
            "name": name,
            "entityName": entity,
            "entity": {"id": node_id("Entity", entity), "name": entity},
            "createdAt": CREATED,
            "isBenchmark": False,
            "readOnly": False,
            "user": self._viewer(),
            "runCount": lambda a: len(chosen(a)),
            "runs": lambda a: connection(map(self._run, chosen(a)), a, self.page),
            "run": one,
            "bucket": one,
            "sweep": sweep,
            "artifact": lambda a: self._find_artifact(place, a["name"]),
            "artifactCollectionMembership": lambda a: self._membership(place, a),
            "artifactCollection": lambda a: {
                "__typename": "ArtifactSequence",
                "artifactMembership": lambda b: self._membership(
                    place, {"name": f"{a['name']}:{b['aliasName']}"}
                ),
            },
            "artifactType": lambda a: {"name": a["name"]},
            "allViews": lambda a: connection(
                (
                    self._view(view)
                    for view in self.views.values()
                    if view["place"] == place
                    and view["type"] == a.get("viewType", view["type"])
                    and view["name"] == (a.get("viewName") or view["name"])
                ),
                a,
                self.page,
            ),
        }

    def _run(self, run: Run) -> Node:
        last = json.dumps(run.history[-1:])
        return {
            "__typename": "Run",
            "id": node_id("Run", run.id, run.place[1], run.place[0]),
            "projectId": "1",
            "name": run.id,
            "displayName": run.display_name,
            "state": run.state,
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": "{}",
            "tags": [],
            "notes": None,
            "description": None,
            "commit": None,
            "readOnly": False,
            "createdAt": CREATED,
            "heartbeatAt": CREATED,
            "sweepName": run.sweep or None,
            "group": run.group,
            "groupName": run.group,
            "jobType": run.job_type,
            "user": self._viewer(),
            "exitcode": None,
            "shouldStop": False,
            "stopped": False,
            "running": run.state == "running",
            "failed": run.state == "failed",
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": last,
            "eventsTail": "[]",
            "historyKeys": {"lastStep": len(run.history) - 1, "sets": [], "keys": {}},
            "wandbConfig": lambda a: json.dumps(run.config.get("_wandb", {}).get("value", {})),
            "history": lambda a: run.history,
            "project": lambda a: self._project(run.place),
            "sampledHistory": lambda a: [
                [row for row in run.rows if set(json.loads(spec).get("keys", [])) <= set(row)]
                for spec in ([a["specs"]] if isinstance(a["specs"], str) else a["specs"])
            ],
            "outputArtifacts": lambda a: connection(
                self._artifact(found) for found in self._committed() if found.run == run.id
            ),
        }

    def _sweep(self, sweep: Sweep) -> Node:
        runs = [run for run in self.runs.values() if run.sweep == sweep.id]
        return {
            "__typename": "Sweep",
            "id": node_id("Sweep", sweep.id),
            "name": sweep.id,
            "displayName": None,
            "method": yaml.safe_load(sweep.config)["method"],
            "state": sweep.state,
            "description": None,
            "config": sweep.config,
            "createdAt": CREATED,
            "heartbeatAt": CREATED,
            "updatedAt": CREATED,
            "earlyStopJobRunning": False,
            "bestLoss": None,
            "controller": None,
            "scheduler": None,
            "runCount": len(runs),
            "runCountExpected": None,
            "priorRuns": connection([]),
            "project": lambda a: self._project(sweep.place),
            "runs": lambda a: connection(map(self._run, runs), a, self.page),
        }

    def _committed(self) -> list[Artifact]:
        return [found for found in self.artifacts.values() if found.state == "COMMITTED"]

    def _find(self, place: Place, name: str) -> Artifact | None:
        name, _, alias = name.rpartition("/")[2].partition(":")
        for found in reversed(self._committed()):
            known = {*found.aliases, f"v{found.version}"}
            if (found.place, found.name) == (place, name) and (alias or "latest") in known:
                return found
        return None

    def _find_artifact(self, place: Place, name: str) -> Node | None:
        found = self._find(place, name)
        return self._artifact(found) if found else None

    def _membership(self, place: Place, arguments: dict[str, Any]) -> Node | None:
        found = self._find(place, arguments["name"])
        if found is None:
            return None
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": node_id("Membership", found.id),
            "createdAt": CREATED,
            "files": lambda a: self._artifact(found)["files"](a),
            "versionIndex": found.version,
            "aliases": self._aliases(found),
            "artifactCollection": self._collection(found),
            "artifact": self._artifact(found),
        }

    def _aliases(self, found: Artifact) -> list[Node]:
        return [
            {
                "__typename": "ArtifactAlias",
                "id": node_id("Alias", found.id, alias),
                "alias": alias,
                "artifactCollectionName": found.name,
                "artifactCollection": self._collection(found),
            }
            for alias in found.aliases
        ]

    def _collection(self, found: Artifact) -> Node:
        return {
            "__typename": "ArtifactSequence",
            "id": node_id("Collection", found.name),
            "name": found.name,
            "project": self._project(found.place),
            "defaultArtifactType": {"name": found.type},
            "type": {"name": found.type},
            "state": "READY",
            "latestArtifact": None,
        }

    def _artifact(self, found: Artifact) -> Node:
        def address(name: str) -> str:
            return f"{self.url}/artifacts/{found.id}/{urllib.parse.quote(name, safe='')}"

        def files(arguments: dict[str, Any]) -> Node:
            return connection(
                {
                    "__typename": "File",
                    "id": node_id("File", found.id, name),
                    "name": name,
                    "displayName": name,
                    "url": address(name),
                    "directUrl": address(name),
                    "sizeBytes": len(content),
                    "mimetype": None,
                    "updatedAt": CREATED,
                    "storagePath": "",
                    "digest": "",
                    "md5": "",
                }
                for name, content in found.files.items()
                if name in arguments.get("names", found.files)
            )

        return {
            "__typename": "Artifact",
            "id": found.id,
            "state": found.state,
            "digest": found.digest,
            "description": None,
            "size": sum(map(len, found.files.values())),
            "fileCount": len(found.files),
            "metadata": None,
            "versionIndex": found.version,
            "createdAt": CREATED,
            "updatedAt": CREATED,
            "commitHash": found.digest,
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "labels": "{}",
            "aliases": self._aliases(found),
            "artifactSequence": self._collection(found),
            "artifactType": {"id": node_id("Type", found.type), "name": found.type},
            "currentManifest": {
                "id": node_id("Manifest", found.id),
                "digest": "",
                "file": {
                    "id": node_id("File", found.id),
                    "name": "wandb_manifest.json",
                    "directUrl": address("wandb_manifest.json"),
                    "url": address("wandb_manifest.json"),
                },
            },
            "files": files,
        }

    def _view(self, view: dict[str, Any]) -> Node:
        return {**view, "user": self._viewer(), "project": self._project(view["place"])}

    # What clients change

    def _mutations(self) -> Node:
        changes: dict[str, Callable[[dict[str, Any]], Node]] = {
            "upsertBucket": self._upsert_run,
            "upsertSweep": self._upsert_sweep,
            "createRunFiles": self._create_run_files,
            "createArtifact": self._create_artifact,
            "createArtifactManifest": self._create_manifest,
            "updateArtifactManifest": self._create_manifest,
            "createArtifactFiles": self._create_artifact_files,
            "commitArtifact": self._commit_artifact,
            "upsertView": self._upsert_view,
            "upsertModel": lambda given: {
                "project": {"name": given["name"]},
                "model": {"name": given["name"]},
            },
        }
        return {
            name: lambda a, change=change: change(a["input"]) for name, change in changes.items()
        }

    def _place(self, given: dict[str, Any], project: str = "projectName") -> Place:
        name = given.get(project) or "uncategorized"
        if re.search(r"[/\\#?%:]", name) or len(name) > 128:
            raise ValueError(f"Invalid project name {name!r}")
        if name == "refused":
            raise ValueError(f"you may not write to project {name}")
        return given.get("entityName") or ENTITY, name

    def _upsert_run(self, given: dict[str, Any]) -> Node:
        name = given.get("name") or base64.b64decode(given["id"]).decode().split(":")[1]
        inserted = name not in self.runs
        if inserted:
            self.runs[name] = Run(self._place(given, "modelName"), name)
        run = self.runs[name]
        names = {"displayName": "display_name", "groupName": "group", "jobType": "job_type"}
        names |= {"sweep": "sweep", "state": "state"}
        for theirs, ours in names.items():
            if given.get(theirs):
                setattr(run, ours, given[theirs])
        if run.sweep and run.sweep not in self.sweeps:
            raise ValueError(f"no sweep {run.sweep}")
        if given.get("config"):
            run.config = json.loads(given["config"])
        if given.get("summaryMetrics"):
            run.summary = json.loads(given["summaryMetrics"])
        if given.get("groupName") is not None:  # as the SDK says when it begins a run
            run.state = "running"
        return {
            "bucket": self._run(run),
            "inserted": inserted,
            "serverSettings": {"serverMessages": []},
        }

    def _upsert_sweep(self, given: dict[str, Any]) -> Node:
        place = self._place(given)
        if given.get("id"):
            sweep = self.sweeps[base64.b64decode(given["id"]).decode().split(":")[1]]
        else:
            sweep = Sweep(place, f"sweep{len(self.sweeps)}", given["config"])
            self.sweeps[sweep.id] = sweep
        sweep.state = given.get("state") or sweep.state
        return {"sweep": self._sweep(sweep), "configValidationWarnings": []}

    def _create_run_files(self, given: dict[str, Any]) -> Node:
        place, run = self._place(given), given["runName"]
        base = f"{self.url}/files/{place[0]}/{place[1]}/{run}"
        files = [
            {"name": name, "uploadUrl": f"{base}/{urllib.parse.quote(name)}"}
            for name in given["files"]
        ]
        return {"runID": run, "uploadHeaders": [], "files": files}

    def _create_artifact(self, given: dict[str, Any]) -> Node:
        place, name = self._place(given), given["artifactCollectionName"]
        aliases = {alias["alias"] for alias in given.get("aliases") or []} | {"latest"}
        same = [a for a in self.artifacts.values() if (a.place, a.name) == (place, name)]
        known = [a for a in same if a.digest == given["digest"] and a.state == "COMMITTED"]
        if known and given.get("enableDigestDeduplication"):
            return {"artifact": self._artifact(known[0])}
        for other in same:
            other.aliases = [alias for alias in other.aliases if alias not in aliases]
        id = node_id("Artifact", str(len(self.artifacts)))
        kind, run = given["artifactTypeName"], given["runName"]
        found = Artifact(place, id, name, kind, given["digest"], len(same), run, sorted(aliases))
        self.artifacts[id] = found
        return {"artifact": self._artifact(found)}

    def _create_manifest(self, given: dict[str, Any]) -> Node:
        id = given.get("artifactID") or ""
        if not id:
            id = base64.b64decode(given["artifactManifestID"]).decode().partition(":")[2]
        address = f"{self.url}/artifacts/{id}/wandb_manifest.json"
        file = {"id": "", "name": "wandb_manifest.json", "displayName": "", "uploadUrl": address}
        file |= {"directUrl": address}
        upload: Node = {**file, "uploadHeaders": []}
        return {"artifactManifest": {"id": node_id("Manifest", id), "file": upload}}

    def _create_artifact_files(self, given: dict[str, Any]) -> Node:
        return {
            "files": connection(
                {
                    "id": file["name"],
                    "name": file["name"],
                    "displayName": file["name"],
                    "uploadUrl": f"{self.url}/artifacts/{file['artifactID']}/"
                    + urllib.parse.quote(file["name"], safe=""),
                    "uploadHeaders": [],
                    "storagePath": "",
                    "uploadMultipartUrls": None,
                    "artifact": {"id": file["artifactID"]},
                }
                for file in given["artifactFiles"]
            )
        }

    def _commit_artifact(self, given: dict[str, Any]) -> Node:
        found = self.artifacts[given["artifactID"]]
        found.state = "COMMITTED"
        return {"artifact": self._artifact(found)}

    def _upsert_view(self, given: dict[str, Any]) -> Node:
        id = given.get("id") or node_id("View", str(len(self.views)))
        view = self.views.setdefault(id, {"id": id, "createdAt": CREATED})
        view |= {key: given.get(key) for key in ("type", "name", "displayName", "description")}
        view |= {"spec": given.get("spec"), "updatedAt": CREATED, "place": self._place(given)}
        return {"view": self._view(view), "inserted": True}

    # Files

    def stream(self, run: Run, told: dict[str, Any]) -> None:
        """Lines of a run's files, each from its offset on; `complete` ends the run."""
        for name, part in told.get("files", {}).items():
            if name == "wandb-history.jsonl":
                del run.history[part["offset"] :]
                run.history += part["content"]
            elif name == "wandb-summary.json":
                run.summary = json.loads(part["content"][-1])
            elif name not in ("wandb-events.jsonl", "output.log"):
                raise UnknownError(f"file stream {name}")
        if told.get("complete"):
            run.state = "failed" if told.get("exitcode") else "finished"

    def put(self, path: str, content: bytes) -> None:
        kind, *place, name = map(urllib.parse.unquote, path.strip("/").split("/", 4))
        if kind == "artifacts":
            kind, id, name = map(urllib.parse.unquote, path.strip("/").split("/", 2))
            found = self.artifacts[id]
            if name == "wandb_manifest.json":
                found.manifest = content
            else:
                found.files[name] = content
        elif kind == "files":
            self.runs[place[2]].files[name] = content
        else:
            raise UnknownError(f"PUT {path}")

    def get(self, path: str) -> bytes:
        kind, id, name = map(urllib.parse.unquote, path.strip("/").split("/", 2))
        if kind != "artifacts":
            raise UnknownError(f"GET {path}")
        found = self.artifacts[id]
        return found.manifest if name == "wandb_manifest.json" else found.files[name]


@contextmanager
def serving(home: Path) -> Iterator[WandbServer]:
    """A server that processes started here find, and no other, with the right key.

    At the end it must not have been asked for anything that it does not know.
    """
    with pytest.MonkeyPatch.context() as environment, WandbServer() as server:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            environment.delenv(name)
        environment.setenv("WANDB_BASE_URL", server.url)
        environment.setenv("WANDB_API_KEY", KEY)
        environment.setenv("WANDB_CONFIG_DIR", str(home))
        environment.setenv("NETRC", str(home / "netrc"))
        environment.setenv("NO_PROXY", "127.0.0.1")
        yield server
        assert server.faults == [], server.faults


def select(node: Node, fields: list[Field], path: str) -> dict[str, Any]:
    """Of a node what was asked for."""
    found: dict[str, Any] = {}
    for wanted in fields:
        here = f"{path}.{wanted.name}"
        if wanted.name not in node:
            raise UnknownError(here)
        value = node[wanted.name]
        value = value(wanted.arguments) if callable(value) else value
        if wanted.inside and isinstance(value, list):
            value = [select(item, wanted.inside, here) for item in value]
        elif wanted.inside and value is not None:
            value = select(value, wanted.inside, here)
        found[wanted.key] = value
    return found


def matches(run: Run, wanted: dict[str, Any]) -> bool:
    """Whether a run fits the filters of a query."""
    for key, value in wanted.items():
        if key == "$and":
            fits = all(matches(run, part) for part in value)
        elif key == "$or":
            fits = any(matches(run, part) for part in value)
        elif key in ("group", "sweep"):
            fits = getattr(run, key) == value
        elif key == "name":
            fits = run.id == value
        else:
            raise UnknownError(f"filter {key}")
        if not fits:
            return False
    return True


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    state: WandbServer

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.open: set[Any] = set()

    def cut(self) -> None:
        """Close all connections, as a server does that dies."""
        for request in list(self.open):
            super().shutdown_request(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the client, or this server, has gone


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_POST(self) -> None:
        body, state = self._body(), self.server.state
        time.sleep(state.delay_s)
        login = "Basic " + base64.b64encode(f"api:{state.key}".encode()).decode()
        if self.headers["Authorization"] != login:
            self._send({"errors": [{"message": "permission denied"}]}, 401)
            return
        try:
            with state.guard:
                self._send(self._answer(json.loads(body)))
        except OSError:
            raise  # the client has gone
        except UnknownError as error:
            state.faults.append(str(error))
            self._send({"errors": [{"message": f"unknown: {error}"}], "data": None}, 400)
        except ValueError as error:
            self._send({"errors": [{"message": str(error)}], "data": None}, 400)
        except Exception as error:
            state.faults.append(f"{self.path}: {error!r}: {body[:200]!r}")
            self._send({"errors": [{"message": repr(error)}], "data": None}, 400)

    def _answer(self, told: dict[str, Any]) -> dict[str, Any]:
        state = self.server.state
        if self.path == "/graphql":
            return {"data": state.answer(told["query"], told.get("variables") or {})}
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            state.stream(state.runs[urllib.parse.unquote(match[1])], told)
            return {"exitcode": None, "limits": {}}
        raise UnknownError(f"POST {self.path}")

    def do_PUT(self) -> None:
        body = self._body()
        time.sleep(self.server.state.delay_s)
        with self.server.state.guard:
            self.server.state.put(self.path, body)
        self._send({})

    def do_GET(self) -> None:
        try:
            self._send(self.server.state.get(self.path.partition("?")[0]))
        except LookupError:
            self._send({}, 404)

    def _body(self) -> bytes:
        body = b""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, answer: Any, code: int = 200) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: Any) -> None:
        pass
