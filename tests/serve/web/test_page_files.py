"""The files of the page: from a table, with their types and headers, and nothing from elsewhere."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from solomonic.serve.errors import install
from solomonic.serve.web import routes

FOLDER = Path(routes.__file__).parent
OURS = sorted((FOLDER / "static").iterdir())
TEXTS = [path for path in OURS if path.suffix in (".html", ".css", ".js", ".svg")]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()
    install(app)
    app.include_router(routes.router)
    with TestClient(app) as made:
        yield made


def test_every_file_is_in_the_table_and_served_with_its_type(client: TestClient) -> None:
    assert {path.name for path in OURS} == {*routes.NAMES, "index.html"}
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml",
             ".woff2": "font/woff2", ".txt": "text/plain"}  # fmt: skip
    for name in (*routes.NAMES, *routes.VENDORED):
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kinds[Path(name).suffix])
        assert answer.headers["x-content-type-options"] == "nosniff"
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == (FOLDER / "static" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "../routes.py", "..%2froutes.py", "%2e%2e/routes.py", "..%5croutes.py",
     "/etc/passwd", "%2fetc%2fpasswd", "app.js%00", "static/app.js", "index.html",
     "APP.JS"],
)  # fmt: skip
def test_no_other_name_is_served(client: TestClient, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 404
    assert "def " not in answer.text


def test_a_browser_that_has_a_file_is_not_sent_it_again(client: TestClient) -> None:
    first = client.get("/static/app.js")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/static/app.js", headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert client.get("/static/app.js", headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get("/static/api.js").headers["etag"] != tag


def test_gzip_where_it_is_taken(client: TestClient) -> None:
    plain = (FOLDER / "static" / "app.js").read_bytes()
    tags = set()
    for accepted, packed in (("gzip, br", True), ("br", False), ("gzip;q=0", False), ("", False)):
        with client.stream(
            "GET", "/static/app.js", headers={"Accept-Encoding": accepted}
        ) as answer:
            data = b"".join(answer.iter_raw())
        assert (answer.headers.get("content-encoding") == "gzip") is packed
        assert (gzip.decompress(data) if packed else data) == plain
        assert "Accept-Encoding" in answer.headers["vary"]
        tags.add((packed, answer.headers["etag"]))
    assert len(tags) == 2


def test_head_has_the_length_and_no_body(client: TestClient) -> None:
    whole, head = client.get("/static/app.js"), client.head("/static/app.js")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_the_policy_allows_this_origin_alone(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["frame-ancestors"] == "'none'"
    assert set(rules.values()) == {"'none'", "'self'"}


def test_nothing_is_inline_and_nothing_foreign_is_named() -> None:
    page = (FOLDER / "static" / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", page) == []
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+[^\s\"']*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path.name


def test_what_the_files_name_is_there() -> None:
    known = {*routes.NAMES, *routes.VENDORED}
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"/static/([\w.-]+)", text)
        if path.suffix == ".js":
            named += re.findall(r'from "\./([\w.-]+)"', text)
        assert set(named) <= known, path.name
    page = (FOLDER / "static" / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    asked = {
        name
        for path in TEXTS
        if path.suffix == ".js"
        for name in re.findall(r'\$\("([\w-]+)"\)', path.read_text(encoding="utf-8"))
    }
    assert asked <= set(ids)
    labels = re.findall(r'(?:for|aria-labelledby|aria-controls)="([\w-]+)"', page)
    assert set(labels) <= set(ids)


def test_what_others_made_has_its_licence() -> None:
    folders = [path for path in (FOLDER / "vendor").iterdir() if path.is_dir()]
    folders += [path for path in (Path(__file__).parent / "vendor").iterdir() if path.is_dir()]
    assert len(folders) == 2
    for folder in folders:
        assert (folder / "LICENSE").is_file()
        assert re.search(r"\d+\.\d+\.\d+", (folder / "README.md").read_text(encoding="utf-8"))
