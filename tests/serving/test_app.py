"""The server as a client meets it: real sockets, good images, bad ones and hostile ones."""

import base64
import io
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from bad_uploads import BAD
from PIL import Image
from rich.console import Console
from servers import Server, encoded, noise

from r2search.predicting import predict_files
from r2search.serving.app import PAGE

QUICK_S = 2.0  # of an answer to a bad upload


def picture(content: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def decoded(files: dict[str, list[str]]) -> dict[str, list[bytes]]:
    return {kind: [base64.b64decode(each) for each in same] for kind, same in files.items()}


def by_command(server: Server, folder: Path, content: bytes, name: str) -> dict[str, list[bytes]]:
    """The files that `r2search predict` writes for an image."""
    path = folder / name
    path.write_bytes(content)
    out = folder / "out"
    assert predict_files(server.bundle, [path], out, None, Console(file=io.StringIO())) == 0
    stem = path.stem
    kinds = ("mask", "probability", "overlay")
    return {kind: [p.read_bytes() for p in sorted(out.glob(f"{stem}_{kind}*"))] for kind in kinds}


# Good images

TURNED = Image.Exif()
TURNED[0x0112] = 6  # a quarter turn

GOOD = {
    "a.png": encoded(noise()),
    "a.jpg": encoded(noise(), "JPEG"),
    "turned.jpg": encoded(noise(), "JPEG", exif=TURNED),
    "a.tif": encoded(noise(), "TIFF", compression="tiff_lzw"),
    "a.bmp": encoded(noise(), "BMP"),
    "a.gif": encoded(noise(), "GIF"),
    "a.webp": encoded(noise(), "WEBP"),
    "a.ppm": encoded(noise(), "PPM"),
    "large.png": encoded(noise(300, 700)),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_upload_is_predicted_as_on_the_command_line(
    name: str, server: Server, tmp_path: Path
) -> None:
    answer = server.post(GOOD[name], name)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["name"] == name
    files = {
        kind: [base64.b64decode(each) for each in told["files"][kind]] for kind in told["files"]
    }
    assert files == by_command(server, tmp_path, GOOD[name], name)
    mask = picture(told["files"]["mask"][0])
    assert mask.shape == (told["height"], told["width"])
    (area,) = told["classes"]
    assert area["pixels"] == int((mask == 255).sum())
    assert area["percent"] == pytest.approx(100 * (mask == 255).mean(), abs=1e-4)
    assert (told["of"], told["of_pixels"]) == ("image", mask.size)


def test_several_classes_have_their_mask_values_and_no_threshold(
    organs: Server, tmp_path: Path
) -> None:
    told = organs.post(GOOD["a.png"]).json()
    assert told["threshold"] is None
    assert [area["value"] for area in told["classes"]] == [7, 130]
    files = {
        kind: [base64.b64decode(each) for each in told["files"][kind]] for kind in told["files"]
    }
    assert len(files["probability"]) == 2
    assert files == by_command(organs, tmp_path, GOOD["a.png"], "a.png")
    refused = organs.post(GOOD["a.png"], threshold=0.3)
    assert refused.status_code == 400
    assert "likeliest of several classes" in refused.json()["error"]


def test_a_threshold_and_files_can_be_asked_for(server: Server) -> None:
    told = server.post(GOOD["a.png"], threshold=0.25, files=["picture", "probability"]).json()
    assert list(told["files"]) == ["picture", "probability"]
    probability = picture(told["files"]["probability"][0]) / 65535
    assert told["classes"][0]["pixels"] == pytest.approx((probability >= 0.25).sum(), abs=1)
    assert picture(told["files"]["picture"][0]).shape == (40, 48, 3)


def test_the_model_is_described(server: Server) -> None:
    with server.client() as client:
        assert client.get("/health").json() == {"status": "ok", "working": 0}
        model = client.get("/api/model").json()
    assert (model["study"], model["trial"], model["epoch"]) == ("made-up", "t0001", 3)
    assert (model["synthetic"], model["medical_device"]) == (False, False)
    assert (model["threshold"], model["card"]) == (0.5, "# card\n")
    assert model["sample_picture"] is False  # that of the tiny bundle is no PNG


def test_the_api_is_described_and_nothing_comes_from_elsewhere(server: Server) -> None:
    with server.client() as client:
        described = client.get("/openapi.json").json()
        assert {"/health", "/api/model", "/api/predict", "/api/gallery"} == set(described["paths"])
        post = described["paths"]["/api/predict"]["post"]
        assert "application/octet-stream" in post["requestBody"]["content"]
        assert {"200", "413", "415", "422", "429", "503"} <= set(post["responses"])
        page = client.get("/")
        for path in ("/", *(f"/{name}" for name in PAGE[1:])):
            text = client.get(path).text.replace("http://www.w3.org/", "")
            assert "//" not in text.replace("// ", "").replace("://127", ""), path
        assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "server" not in page.headers


# Bad images


@pytest.mark.parametrize("what", BAD)
def test_a_bad_upload_is_one_sentence_and_soon(what: str, server: Server) -> None:
    make, status, says = BAD[what]
    content = make()
    before = time.perf_counter()
    answer = server.post(content, "../../etc/x.png")
    took = time.perf_counter() - before
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]
    assert says in message
    assert message.startswith("x.png: ")
    assert "/" not in message.replace("search predict", "")  # no folder of ours, or of theirs
    assert took < QUICK_S
    assert server.left() == []


@pytest.mark.parametrize(
    "name",
    ["../../../etc/passwd", "..\\..\\boot.ini", "/a/b", "..", ".", "", "a\0b\nc.png", "x" * 5000],
)
def test_a_name_is_never_a_path(name: str, server: Server) -> None:
    told = server.post(GOOD["a.png"], name).json()
    assert "/" not in told["name"]
    assert "\\" not in told["name"]
    assert told["name"].isprintable()
    assert 0 < len(told["name"]) <= 100
    assert server.left() == []


def test_markup_in_a_name_stays_text(server: Server) -> None:
    answer = server.post(b"nothing", "<img src=x onerror=alert(1)>.png")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"threshold": "half"}, "threshold: "),
        ({"threshold": "1.5"}, "threshold: Input should be less than 1"),
        ({"threshold": "nan"}, "threshold: "),
        ({"files": "weights"}, "Input should be 'mask', 'probability', 'overlay' or 'picture'"),
    ],
)
def test_a_wrong_parameter_is_named(query: dict[str, str], says: str, server: Server) -> None:
    answer = server.post(GOOD["a.png"], **query)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_an_upload_without_a_length_is_cut_off_where_it_is_too_long(server: Server) -> None:
    def parts() -> object:
        yield from (bytes(1_000_000) for _ in range(25))

    with server.client() as client:
        answer = client.post("/api/predict", content=parts())
    assert answer.status_code == 413
    assert server.left() == []


# Other people's pages


def test_another_name_of_this_server_is_refused(server: Server) -> None:
    with server.client() as client:
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[", ""):
            answer = client.get("/api/model", headers={"host": host})
            assert answer.status_code in (400, 403), host
        port = urlsplit(server.url).port
        assert client.get("/health", headers={"host": f"localhost:{port}"}).status_code == 200


def test_a_page_elsewhere_cannot_send_images(server: Server) -> None:
    with server.client() as client:
        for origin in ("http://evil.example", "null"):
            told = client.post("/api/predict", content=b"", headers={"origin": origin})
            assert told.status_code == 403, origin
            assert "access-control-allow-origin" not in told.headers
        own = client.post("/api/predict", content=GOOD["a.png"], headers={"origin": server.url})
        assert own.status_code == 200


# Clients that hang, and many at once


def hung(server: Server, sent: bytes) -> socket.socket:
    where = urlsplit(server.url)
    connection = socket.create_connection((where.hostname or "", where.port or 0), timeout=30)
    connection.sendall(sent)
    return connection


def test_clients_that_hang_hinder_nobody_and_are_sent_away(server: Server) -> None:
    head = b"POST /api/predict?name=slow.png HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    silent = [hung(server, head[: 10 + n]) for n in range(20)]
    halves = [hung(server, head + b"Content-Length: 5000\r\n\r\nhalf") for _ in range(20)]
    before = time.perf_counter()
    assert server.post(GOOD["a.png"]).status_code == 200
    assert time.perf_counter() - before < QUICK_S
    for connection in halves:
        told = connection.recv(10_000).decode()
        assert told.startswith("HTTP/1.1 408 ")
        connection.close()
    for connection in silent:
        assert connection.recv(100) == b""  # closed
        connection.close()
    assert server.left() == []


def test_a_client_that_goes_away_leaves_nothing(server: Server) -> None:
    head = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
    for content in (b"half", GOOD["large.png"]):
        hung(server, head % 200_000_000 + content).close()
        hung(server, head % len(GOOD["large.png"]) + content).close()
    assert server.left() == []
    assert server.post(GOOD["a.png"]).status_code == 200


def test_500_good_and_bad_images_from_8_clients(server: Server) -> None:
    bad = [(make(), status) for make, status, _ in BAD.values()]
    bad = [(content, status) for content, status in bad if len(content) < 1_000_000]
    good = {seed: encoded(noise(40 + seed, 48, seed)) for seed in range(5)}
    expected = {seed: server.post(content).json()["files"] for seed, content in good.items()}

    def client(number: int) -> list[int]:
        """The statuses of answers, each of which is checked."""
        found = []
        with server.client() as client:
            for turn in range(number, 500, 8):
                seed = turn % 10
                content, status = (good[seed], 200) if seed in good else bad[turn % len(bad)]
                answer = send(client, content)
                assert answer.status_code == status, answer.text
                if status == 200:
                    assert answer.json()["files"] == expected[seed]
                else:
                    assert list(answer.json()) == ["error"]
                found.append(status)
        return found

    before = server.peak_bytes()
    with ThreadPoolExecutor(8) as clients:
        statuses = [status for found in clients.map(client, range(8)) for status in found]
    assert len(statuses) == 500
    assert statuses.count(200) == 250
    assert server.process.poll() is None
    assert server.peak_bytes() - before < 100_000_000
    assert server.left() == []


def send(client: httpx.Client, content: bytes) -> httpx.Response:
    """Send an image; as the page does, again while the server is busy."""
    while True:
        answer = client.post("/api/predict", content=content)
        if answer.status_code != 503:
            return answer
        time.sleep(0.1)


def test_every_answer_is_whole_json_of_the_described_shape(server: Server) -> None:
    with server.client() as client:
        described = client.get("/openapi.json").json()["components"]["schemas"]["Answer"]
    told = json.loads(server.post(GOOD["a.png"]).content)
    assert set(told) == set(described["properties"]) == set(described["required"])
