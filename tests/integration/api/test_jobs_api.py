"""The REST routes of jobs and videos on a running server."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from backend.api import ROUTERS
from backend.executors.runs import machine_name
from tests.support.clips import make_clip
from tests.support.servers import Program, add_user, api, running, token

pytestmark = pytest.mark.acceptance  # starts the whole program

UNKNOWN_JOB = "00000000-0000-4000-8000-000000000000"
ROUTES = {
    (method, route.path)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.path.startswith(("/api/", "/healthz"))
    for method in route.methods or ()
}
PUBLIC_ROUTES = {("POST", "/api/auth/token"), *((method, "/healthz") for method in ("GET", "HEAD", "OPTIONS"))}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("api")
    make_clip(home / "media" / "here.mp4", seconds=0.3)
    add_user(home / "data", "ana")
    with running(home / "data", media_dir=home / "media") as started:
        yield started


@pytest.fixture(scope="module")
def tokens(program: Program) -> dict[str, str]:
    return {name: token(program.data_dir, name) for name in ("admin", "ana")}


@pytest.fixture
def client(program: Program, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    with api(program, tokens["ana"]) as opened:
        yield opened


def upload(client: httpx.Client, content: bytes, name: str = "list.csv", **form: str) -> httpx.Response:
    return client.post("/api/jobs", files={"file": (name, io.BytesIO(content), "text/csv")}, data=form)


def of_unknown_job(path: str) -> str:
    """Return the path of a route for a job that does not exist."""
    return path.replace("{job_id}", UNKNOWN_JOB).replace("{position}", "0")


def count(client: httpx.Client) -> int:
    items: list[Any] = client.get("/api/jobs", params={"limit": 1000}).json()["items"]
    return len(items)


def test_an_upload_reports_the_lines_of_skipped_rows(client: httpx.Client) -> None:
    answer = upload(client, b"video_id,title\nhere,One\nnot there,Two\nhere,Again\nmissing,Three\n")
    job = answer.json()
    assert answer.status_code == 201
    assert (job["name"], job["status"], job["total_videos"]) == ("list.csv", "pending", 2)
    assert (job["found"], job["missing"]) == (1, 1)
    assert job["duplicates"] == [{"line": 4, "value": "here"}]
    assert job["invalid"] == [{"line": 3, "value": "not there", "reason": "not an ID: it contains a blank"}]


def test_a_list_of_ids_as_json_becomes_a_job(client: httpx.Client) -> None:
    answer = client.post("/api/jobs", json={"video_ids": ["here", "https://youtu.be/dQw4w9WgXcQ"], "name": "By hand"})
    assert answer.status_code == 201
    videos = client.get(f"/api/jobs/{answer.json()['job_id']}/videos").json()["items"]
    assert [video["video_id"] for video in videos] == ["here", "dQw4w9WgXcQ"]


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, "empty"),
        (b"video_id\n", 422, "The file has a header and no rows"),
        (b"title,length\nOne,3\n", 422, "video_id"),
        (b"\x00\x01\x02binary\x00", 415, "CSV"),
        (b"video_id\n" + b"a b\n" * 3, 422, "blank"),
        (b"video_id\n" + b"\n".join(b"id%d" % number for number in range(100_001)), 413, "100,000"),
        (b"video_id\n" + b"x" * (21 * 2**20), 413, "20 MiB"),
    ],
)
def test_an_invalid_list_is_refused_and_not_stored(
    client: httpx.Client, content: bytes, status: int, words: str
) -> None:
    before = count(client)
    answer = upload(client, content)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert count(client) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[" * 100_000, 422),
        (b'{"video_ids": "here"}', 422),
        (b'{"video_ids": [1]}', 422),
        (b'{"video_ids": ["here"], "nmae": "typo"}', 422),
        (b'{"video_ids": ["here"], "processor": "os:system"}', 422),
        (b'{"video_ids": ["here"], "options": {"no": 1}}', 422),
        (b'{"video_ids": []}', 422),
        (b'{"video_ids": ["here"], "options": {"max_speed": NaN}}', 400),
        (b"\xff\xfe", 400),
    ],
)
def test_invalid_json_is_refused_with_a_reason(client: httpx.Client, body: bytes, status: int) -> None:
    answer = client.post("/api/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_a_repeated_idempotency_key_creates_one_job(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "nightly-1"}
    answers = [client.post("/api/jobs", json={"video_ids": ["here"]}, headers=headers) for _ in range(2)]
    other = client.post("/api/jobs", json={"video_ids": ["there"]}, headers=headers)
    assert answers[0].json()["job_id"] == answers[1].json()["job_id"]
    assert other.status_code == 409


def test_an_idempotency_key_belongs_to_its_user(program: Program, tokens: dict[str, str], client: httpx.Client) -> None:
    headers, order = {"Idempotency-Key": "shared"}, {"video_ids": ["here"]}
    own = client.post("/api/jobs", json=order, headers=headers).json()["job_id"]
    with api(program, tokens["admin"]) as other_user:
        assert other_user.post("/api/jobs", json=order, headers=headers).json()["job_id"] != own


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "=1+1", "x" * 5000, "a\r\nb", "\u202eevil", "../../etc/passwd", "\x00\x1b[2J"]
)
def test_any_name_is_accepted_as_text(client: httpx.Client, name: str) -> None:
    answer = client.post("/api/jobs", json={"video_ids": ["here"], "name": name})
    assert answer.status_code == 201
    assert len(answer.json()["name"]) <= 200
    assert answer.json()["name"].isprintable()


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"status": "done"},
        {"sort": "sideways"},
        {"cursor": "nonsense"},
        {"cursor": "5b5d"},
        {"cursor": "5b" * 5000},
        {"q": "\x00"},
        {"q": "x" * 501},
        {"dashboard": "perhaps"},
    ],
)
def test_an_invalid_query_is_refused_with_a_reason(client: httpx.Client, query: dict[str, str]) -> None:
    answer = client.get("/api/jobs", params=query)
    assert answer.status_code == 422, answer.text
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    "path",
    [
        f"/api/jobs/{UNKNOWN_JOB}",
        "/api/jobs/not-an-id",
        "/api/jobs/%00",
        "/api/jobs/%ff",
        f"/api/jobs/{UNKNOWN_JOB}/videos",
        f"/api/jobs/{UNKNOWN_JOB}/progress-history",
        f"/api/jobs/{UNKNOWN_JOB}/export.csv",
        f"/api/jobs/{UNKNOWN_JOB}/videos/0/poster",
        f"/api/jobs/{UNKNOWN_JOB}/videos/99999999999999999999/poster",
        f"/api/jobs/{UNKNOWN_JOB}/videos/0/attempts",
        f"/api/jobs/{UNKNOWN_JOB}/videos/-1/attempts",
        f"/api/jobs/{UNKNOWN_JOB}/causes",
        "/api/nope",
        "/api",
    ],
)
def test_a_missing_resource_is_a_json_404(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404, answer.text
    assert answer.json()["detail"].startswith("There is n")


@pytest.mark.parametrize("since", ["yesterday", "1e999", "99999999999999999999", "2026-13-01", "\x00", "nan"])
def test_an_invalid_time_is_refused(client: httpx.Client, since: str) -> None:
    job_id = client.post("/api/jobs", json={"video_ids": ["here"]}).json()["job_id"]
    answer = client.get(f"/api/jobs/{job_id}/progress-history", params={"since": since})
    assert answer.status_code == 422


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES - PUBLIC_ROUTES))
def test_without_a_token_every_route_is_401(program: Program, method: str, path: str) -> None:
    answer = httpx.request(method, program.url + of_unknown_job(path))
    assert answer.status_code == 401
    assert answer.json()["detail"].startswith("You are not signed in")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_an_unsupported_method_is_405(client: httpx.Client, method: str) -> None:
    for path in ("/api/jobs", f"/api/jobs/{UNKNOWN_JOB}/videos", "/api/auth/me"):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["detail"]) == (405, "This address does not support that method.")


def test_the_list_and_its_export_have_the_same_filters(client: httpx.Client) -> None:
    wanted = upload(client, b"video_id\nhere\n", "wanted-by-filter.csv").json()["job_id"]
    until_ended(client, wanted)
    filters = {"q": "wanted-by-filter", "from": "2020-01-01T00:00:00Z", "processor": "probe", "owner": "ana"}
    others: tuple[dict[str, Any], ...] = (
        {"from": "2100-01-01T00:00:00Z"},
        {"to": "2020-01-01T00:00:00Z"},
        {"processor": "external"},
        {"owner": "admin"},
        {"min_seconds": 86_400},
        {"status": "failed"},
    )
    for query, found in ((filters, [wanted]), *((filters | other, []) for other in others)):
        page = client.get("/api/jobs", params=query | {"count": True}).json()
        assert ([job["job_id"] for job in page["items"]], page["count"]) == (found, len(found)), query
        lines = client.get("/api/jobs/export.csv", params=query).content.decode("utf-8-sig").splitlines()
        assert [wanted in line for line in lines[1:]] == [True for _ in found], query


@pytest.mark.parametrize("query", ["from=yesterday", "to=x", "min_seconds=long", "max_seconds=-1"])
def test_a_filter_that_means_nothing_is_422_with_its_name(client: httpx.Client, query: str) -> None:
    for path in ("/api/jobs", "/api/jobs/export.csv"):
        answer = client.get(f"{path}?{query}")
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(query.partition("=")[0])


def test_an_exported_history_has_no_formula_cells(client: httpx.Client) -> None:
    client.post("/api/jobs", json={"video_ids": ["here"], "name": "=HYPERLINK(1)"})
    text = client.get("/api/jobs/export.csv").content.decode("utf-8-sig")
    assert "'=HYPERLINK(1)" in text
    assert ",=HYPERLINK(1)" not in text


def test_an_export_has_the_own_columns_without_formulas(client: httpx.Client) -> None:
    job_id = upload(client, b"video_id;note\r\n-1dash;=1+1\r\n").json()["job_id"]
    text = client.get(f"/api/jobs/{job_id}/export.csv").content.decode("utf-8-sig")
    assert text.splitlines()[1].startswith("-1dash,'=1+1,")


def test_health_shows_its_parts_only_to_signed_in_users(program: Program, client: httpx.Client) -> None:
    assert httpx.get(f"{program.url}/healthz").text == "ok"
    parts = {"database": "ok", "media_directory": "ok"}
    workers = {machine_name(): "working"}
    assert client.get("/healthz").json() == {"status": "ok", "parts": parts, "workers": workers}


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_every_documented_route_exists(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, of_unknown_job(path))
    assert answer.status_code != 405
    assert "There is nothing at this address." not in answer.text


ADDRESSES = b"id,title,url\n1,Cats,https://youtu.be/dQw4w9WgXcQ\n"


def video_ids(client: httpx.Client, answer: httpx.Response) -> list[str]:
    assert answer.status_code == 201, answer.text
    return [video["video_id"] for video in client.get(f"/api/jobs/{answer.json()['job_id']}/videos").json()["items"]]


def test_an_upload_says_which_column_has_the_ids(client: httpx.Client) -> None:
    answer = upload(client, b"Export of Monday\n" + ADDRESSES)
    assert video_ids(client, answer) == ["dQw4w9WgXcQ"]
    assert answer.json()["column"] == "url"
    assert answer.json()["notes"] == [
        "The header is on line 2; the line “Export of Monday” above it is passed over.",
        "The IDs come from url, not from id.",
    ]


def test_another_column_can_be_named_with_an_upload(client: httpx.Client) -> None:
    assert video_ids(client, upload(client, ADDRESSES, column="title")) == ["Cats"]
    refused = upload(client, ADDRESSES, column="where")
    assert (refused.status_code, "(found: id, title, url)" in refused.json()["detail"]) == (422, True)


def test_columns_that_compete_are_refused_by_name(client: httpx.Client) -> None:
    before = count(client)
    refused = upload(client, b"id,video\nab,Cats\ncd,Dogs\n")
    assert refused.status_code == 422
    assert "(id, video): choose one of them" in refused.json()["detail"]
    assert count(client) == before


def test_ids_as_json_are_read_as_those_of_a_file(client: httpx.Client) -> None:
    values = [
        "video_id",
        "https://youtu.be/watch?v=dQw4w9WgXcQ",
        "abc.mp4",
        "https://www.youtube.com/@cats",
        "\u200bdef",
    ]
    answer = client.post("/api/jobs", json={"video_ids": values})
    assert video_ids(client, answer) == ["dQw4w9WgXcQ", "abc", "def"]
    assert [row["value"] for row in answer.json()["invalid"]] == ["video_id", "https://www.youtube.com/@cats"]
    as_file = upload(client, "\n".join(values).encode())
    assert video_ids(client, as_file) == ["dQw4w9WgXcQ", "abc", "def"]
    assert as_file.json()["invalid"][-1]["reason"] == answer.json()["invalid"][-1]["reason"]


def test_an_exported_job_can_be_uploaded_again_and_again(client: httpx.Client) -> None:
    content, names = b"video_id,status,result_status\nabc,a,b\ndef,c,d\n", []
    for _ in range(3):
        answer = upload(client, content)
        assert video_ids(client, answer) == ["abc", "def"]
        content = client.get(f"/api/jobs/{answer.json()['job_id']}/export.csv").content
        names = content.decode("utf-8-sig").splitlines()[0].split(",")
        assert len(set(names)) == len(names)
    assert len(names) == 3 + 3 * 5


@pytest.mark.parametrize("q", ["übung", "ÜBUNG", "u\u0308bung", "UBUNG".replace("U", "Ü", 1)])
def test_a_search_finds_names_in_any_case_and_spelling(client: httpx.Client, q: str) -> None:
    for name in ("ÜBUNG", "U\u0308bung 2", "Червоний"):
        client.post("/api/jobs", json={"video_ids": ["here"], "name": name})
    found = client.get("/api/jobs", params={"q": q, "limit": 1000}).json()["items"]
    assert {job["name"] for job in found} == {"ÜBUNG", "U\u0308bung 2"}
    assert client.get("/api/jobs", params={"q": "ЧЕРВОНИЙ"}).json()["items"][0]["name"] == "Червоний"


def test_jobs_by_name_come_in_one_order_page_by_page(client: httpx.Client) -> None:
    for name in ("sorted Zebra", "sorted Übung 10", "sorted u\u0308bung 9", "Sorted Червоний", "sorted apple"):
        client.post("/api/jobs", json={"video_ids": ["here"], "name": name})
    names: list[str] = []
    query: dict[str, str | int] = {"q": "SORTED", "sort": "name", "limit": 2}
    while query.get("cursor", True):
        page = client.get("/api/jobs", params=query).json()
        names += [job["name"] for job in page["items"]]
        query["cursor"] = page["next_cursor"]
    assert names == ["sorted apple", "sorted u\u0308bung 9", "sorted Übung 10", "sorted Zebra", "Sorted Червоний"]


@pytest.mark.parametrize("q", ["GRÖSSE fehlt", "gro\u0308sse", "größe"])
def test_a_search_finds_errors_in_any_case_and_spelling(client: httpx.Client, q: str) -> None:
    order = {"video_ids": ["one", "two"], "processor": "external", "name": "errors"}
    job_id = client.post("/api/jobs", json=order).json()["job_id"]
    report = {"n": 1, "video_id": "one", "error": "Die Größe fehlt"}
    client.post(f"/api/jobs/{job_id}/progress", json=report).raise_for_status()
    videos = client.get(f"/api/jobs/{job_id}/videos", params={"q": q}).json()["items"]
    jobs = client.get("/api/jobs", params={"q": q, "limit": 1000}).json()["items"]
    assert [video["video_id"] for video in videos] == ["one"]
    assert job_id in {job["job_id"] for job in jobs}


def until_ended(client: httpx.Client, job_id: str) -> None:
    """Return when the job has ended."""
    deadline = time.monotonic() + 30
    while client.get(f"/api/jobs/{job_id}").json()["finished_at"] is None:
        assert time.monotonic() < deadline, "the job did not end"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "path", ["", "/videos", "/videos/0/poster", "/videos/0/attempts", "/causes", "/progress-history", "/export.csv"]
)
def test_nothing_private_stays_in_a_browsers_cache(client: httpx.Client, path: str) -> None:
    job_id = client.post("/api/jobs", json={"video_ids": ["here"], "name": "private"}).json()["job_id"]
    until_ended(client, job_id)
    answer = client.get(f"/api/jobs/{job_id}{path}")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize(
    "path", ["/", "/lists", "/history", "/settings", "/login", "/api/jobs", "/api/jobs/export.csv"]
)
def test_pages_and_lists_stay_in_no_browsers_cache(client: httpx.Client, path: str) -> None:
    assert client.get(path).headers["cache-control"] == "no-store"
