"""The routes: a page, `/health`, `/api/model`, `/api/predict` and what describes them."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from r2search import __version__
from r2search.bundle import Bundle
from r2search.serving.answers import (
    FILES,
    Answer,
    Failure,
    File,
    ModelFacts,
    json_parts,
    model_facts,
    predict_upload,
    sample_picture,
)
from r2search.serving.decoding import decode
from r2search.serving.gallery import Gallery, Study
from r2search.serving.guard import Guard
from r2search.serving.uploads import (
    HEAD,
    Limits,
    Rate,
    Refused,
    Slots,
    kind_of,
    require_size,
    safe_name,
)

PAUSE_S, ARRIVE_S = 5.0, 30.0  # seconds: most between two parts of an upload, and of all of it
RECEIVING = 32  # uploads that may be on their way at once
DECODERS = 2  # processes that read images at once
PAGE = ("index.html", "page.css", "page.js", "predict.js", "png.js", "marks.js", "gallery.js")
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "a parameter is wrong"},
    408: {"model": Failure, "description": "the image did not arrive in time"},
    413: {"model": Failure, "description": "too many bytes or pixels"},
    415: {"model": Failure, "description": "not an image of a known kind"},
    422: {"model": Failure, "description": "damaged, 16 bit, CMYK, animated or the like"},
    429: {"model": Failure, "description": "too many images a minute; Retry-After says how long"},
    503: {"model": Failure, "description": "busy; Retry-After says how long"},
}
BODY = {
    "requestBody": {
        "required": True,
        "description": "the bytes of one image, as `curl --data-binary @photo.png` sends them",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Desk:
    """Takes images in, has them read and predicted, one by one, and bounds all of it."""

    def __init__(self, bundle: Bundle, limits: Limits, scratch: Path) -> None:
        self.bundle, self.limits, self.scratch = bundle, limits, scratch
        self.rate = Rate(limits.rate)
        self.receiving, self.working = Slots(RECEIVING), Slots(limits.waiting)
        self._readers = ThreadPoolExecutor(DECODERS, "read")
        self._network = ThreadPoolExecutor(1, "network")  # one image at a time has all threads

    async def predict(
        self, request: Request, name: str, threshold: float | None, files: list[File]
    ) -> Response:
        """The answer to one upload; Refused says why there is none.

        Its files are read while it is sent. What an upload holds, a slot and a folder, is let go
        when all was sent.
        """
        with ExitStack() as held:
            folder = Path(tempfile.mkdtemp(dir=self.scratch))
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            with self.receiving.one():
                path = await self._receive(request, name, folder)
            held.enter_context(self.working.one())
            data = self.bundle.manifest.config.data
            pixels = folder / "pixels.npy"
            await self._run(self._readers, decode, path, pixels, name, data, self.limits.pixels)
            answer: Answer = await self._run(
                self._network, predict_upload, self.bundle, folder, name, threshold, files
            )
            return Parts(answer, folder, files, held.pop_all())

    async def _receive(self, request: Request, name: str, folder: Path) -> Path:
        """The upload in a file that has a suffix of its kind; Refused if it cannot be taken."""
        declared = request.headers.get("content-length", "0")
        require_size(name, int(declared), self.limits)  # digits: the protocol has seen to that
        path, size, head = folder / "upload", 0, b""
        stream = request.stream()
        until = time.monotonic() + ARRIVE_S
        with path.open("wb") as file:
            while True:
                pause = min(PAUSE_S, until - time.monotonic())
                try:
                    part = await asyncio.wait_for(anext(stream, None), max(pause, 0.001))
                except TimeoutError:
                    raise Refused(408, f"{name}: did not arrive in time; send it again") from None
                if part is None:
                    break
                size += len(part)
                require_size(name, size, self.limits)
                head += part[: HEAD - len(head)]
                file.write(part)
        return path.rename(path.with_suffix(kind_of(name, head)))

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[..., Any], *of: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, work, *of)

    def close(self) -> None:
        """Begin nothing more."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._network.shutdown(wait=False, cancel_futures=True)


class Parts(StreamingResponse):
    """An answer with its files; `held` is let go when all was sent, or the client has gone."""

    def __init__(self, answer: Answer, folder: Path, files: list[File], held: ExitStack) -> None:
        super().__init__(json_parts(answer, folder, files), media_type="application/json")
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held:
            await super().__call__(scope, receive, send)


def build_app(
    bundle: Bundle,
    folder: Path,
    limits: Limits,
    names: Collection[str],
    scratch: Path,
    study: Study,
) -> tuple[ASGIApp, Desk]:
    """The application for a bundle that lies in `folder`; it answers to `names`, as hosts.

    Uploads pass through `scratch`. `study` is shown beside it.
    """
    app = FastAPI(
        title="r2search",
        version=__version__,
        description="One exported segmentation network. Not a medical device.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    desk = Desk(bundle, limits, scratch)
    _add_page(app, folder, study)
    _add_api(app, desk, model_facts(bundle.manifest, folder, limits), study.gallery)
    _add_failures(app)
    return Guard(app, names), desk


def _add_page(app: FastAPI, folder: Path, study: Study) -> None:
    here = resources.files("r2search.serving") / "page"

    def add(path: str, content: bytes, media_type: str) -> None:
        async def get() -> Response:
            return Response(content, media_type=media_type)

        app.add_api_route(path, get, methods=["GET"], include_in_schema=False)

    for name in PAGE:
        path = "/" if name == "index.html" else f"/{name}"
        add(path, (here / name).read_bytes(), MEDIA_TYPES[Path(name).suffix])
    if picture := sample_picture(folder):
        add("/sample.png", picture, "image/png")
    for file, content in study.pictures.items():
        add(f"/{file}", content, "image/png")


def _add_api(app: FastAPI, desk: Desk, facts: ModelFacts, gallery: Gallery | None) -> None:
    @app.get("/health", summary="Whether the server is up, and how many images are in work")
    async def health() -> dict[str, str | int]:
        return {"status": "ok", "working": desk.working.taken}

    @app.get("/api/model", summary="The network that is served, and what it takes")
    async def model() -> ModelFacts:
        return facts

    @app.get("/api/gallery", summary="The validation images of its study; null without one")
    async def images() -> Gallery | None:
        return gallery

    @app.post(
        "/api/predict",
        summary="Segment one image",
        response_model=Answer,
        responses=REFUSALS,
        openapi_extra=BODY,
    )
    async def predict(
        request: Request,
        name: Annotated[str, Query(description="of the image, for messages")] = "image",
        threshold: Annotated[
            float | None,
            Query(gt=0, lt=1, description="foreground from here on; default: the bundle's"),
        ] = None,
        files: Annotated[
            list[File], Query(description="which files the answer holds; may be repeated")
        ] = list(FILES),  # noqa: B006 - it is copied by FastAPI
    ) -> Response:
        if threshold is not None and facts.threshold is None:
            raise Refused(400, "threshold: each pixel gets the likeliest of several classes")
        desk.rate.take(request.client.host if request.client else "", time.monotonic())
        return await desk.predict(request, safe_name(name), threshold, list(dict.fromkeys(files)))


def _add_failures(app: FastAPI) -> None:
    """Every failure is `{"error": one sentence}`."""

    def failure(status: int, message: str, wait_s: float | None = None) -> JSONResponse:
        headers = {} if wait_s is None else {"retry-after": str(max(1, round(wait_s)))}
        return JSONResponse({"error": message}, status, headers)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return failure(error.status, str(error), error.wait_s)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return failure(400, f"{first['loc'][-1]}: {first['msg']}; see /openapi.json")

    @app.exception_handler(StarletteHTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        return failure(error.status_code, f"{error.detail}; see /openapi.json")

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return failure(400, "the image did not arrive")  # nobody reads this

    @app.exception_handler(FloatingPointError)
    async def broken(_: Request, error: FloatingPointError) -> Response:
        return failure(500, f"{error}; export the bundle again")

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return failure(500, "this image could not be predicted; the server's terminal says why")
