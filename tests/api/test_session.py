"""Sessions: signing in by token and by link, what the cookie allows, and how sessions end."""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from support.problems import assert_invalid, assert_problem
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service, eventually

SESSION = "/v1/session"
COOKIE = "scriptservice_session"
SECURE = f"__Host-{COOKIE}"
CSRF = "X-CSRF-Token"
HOUR = 3600 * 1_000_000
DAY = 24 * HOUR
_addresses = (f"127.0.{block}.{host}" for block in range(1, 255) for host in range(1, 255))


@pytest.fixture
def browser(service: Service) -> Iterator[httpx.Client]:
    """A client with a cookie jar and its own address, by which wrong secrets are counted."""
    with new_browser(service) as client:
        yield client


def new_browser(service: Service) -> httpx.Client:
    transport = httpx.HTTPTransport(local_address=next(_addresses), verify=False)
    return httpx.Client(base_url=service.url, transport=transport, timeout=PATIENCE_SECONDS)


def sign_in(client: httpx.Client, service: Service, **headers: str) -> dict[str, Any]:
    response = client.post(SESSION, json={"token": service.token}, headers=headers)
    assert response.status_code == 200, response.text
    return dict(response.json())


def with_cookie(client: httpx.Client, *secrets: str, name: str = COOKIE) -> httpx.Response:
    """Request the session with these cookies instead of those in the jar."""
    header = "; ".join(f"{name}={secret}" for secret in secrets)
    return ask(str(client.base_url.join(SESSION)), {"Cookie": header})


def ask(url: str, headers: dict[str, str] | list[tuple[str, str]]) -> httpx.Response:
    """Send a GET request without a cookie jar."""
    return httpx.get(url, headers=headers, timeout=PATIENCE_SECONDS, verify=False)


def link_code(service: Service) -> str:
    found = re.findall(r"sign in: (\S+)/#code=(\S+)", service.output())
    assert found
    url, code = found[-1]
    assert url == service.url
    return str(code)


# Signing in and out


def test_a_token_gives_a_session(service: Service, browser: httpx.Client) -> None:
    response = browser.post(SESSION, json={"token": service.token})
    assert response.status_code == 200
    answer = response.json()
    assert answer == {"name": "admin", "scope": "admin", "csrf_token": answer["csrf_token"]}
    assert response.headers["cache-control"] == "no-store"
    (cookie,) = response.headers.get_list("set-cookie")
    value, *attributes = cookie.split("; ")
    assert re.fullmatch(rf"{COOKIE}=[A-Za-z0-9_-]{{43}}", value)
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=604800"}
    # The two secrets differ, and neither contains the token.
    assert answer["csrf_token"] not in cookie
    assert service.token not in response.text + cookie
    assert browser.get(SESSION).json() == answer


def test_over_https_the_cookie_is_for_https_only(service: Service, browser: httpx.Client) -> None:
    host = f"127.0.0.1:{service.port}"
    response = browser.post(
        SESSION, json={"token": service.token}, headers={"Origin": f"https://{host}"}
    )
    (cookie,) = response.headers.get_list("set-cookie")
    assert cookie.startswith(f"{SECURE}=")
    assert {"Secure", "Path=/"} <= set(cookie.split("; "))
    assert "domain" not in cookie.lower()
    secret = cookie.split("=")[1].split(";")[0]
    assert with_cookie(browser, secret, name=SECURE).status_code == 200
    # Beside it, a cookie that plain HTTP could have set does not count.
    both = {"Cookie": f"{SECURE}=planted; {COOKIE}={secret}"}
    assert_problem(ask(f"{service.url}{SESSION}", both), "unauthenticated")
    for name in ("X-Forwarded-Proto", "X-Forwarded-Scheme"):
        plain = browser.post(SESSION, json={"token": service.token}, headers={name: "https"})
        assert plain.headers["set-cookie"].startswith(f"{COOKIE}=")


@pytest.mark.parametrize(
    "body",
    [{}, {"token": "a", "code": "b"}, {"token": None}, {"token": "a", "code": None}, {"token": 1},
     {"token": "x" * 513}, {"password": "x"}, [], "token"],
    ids=str,
)  # fmt: skip
def test_an_invalid_body_is_refused(browser: httpx.Client, body: object) -> None:
    response = browser.post(SESSION, json=body)
    assert_problem(response, "validation")
    assert "set-cookie" not in response.headers


def test_a_malformed_body_is_refused(service: Service, browser: httpx.Client) -> None:
    json = {"Content-Type": "application/json"}
    assert_problem(browser.post(SESSION, content="{", headers=json), "bad-request")
    assert_problem(browser.post(SESSION, content="x" * 5000, headers=json), "too-large")
    # A form on another site could send these without a preflight request.
    for form in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        response = browser.post(
            SESSION, content=f'{{"token": "{service.token}"}}', headers={"Content-Type": form}
        )
        assert_problem(response, "unsupported-media-type")
    assert_invalid(browser.post(f"{SESSION}?token=x", json={"token": "x"}), "token")


def test_wrong_secrets_are_refused_and_then_rate_limited(
    service: Service, browser: httpx.Client
) -> None:
    wrong = [{"token": ""}, {"token": service.token[:-1]}, {"code": ""}, {"code": "\0 ü"}]

    def limited() -> httpx.Response:
        """Send wrong tokens until the limit; on a slow machine, time gives back some attempts."""
        for _ in range(200):
            response = browser.post(SESSION, json={"token": "wrong"})
            if response.status_code != 401:
                break
        return response

    for number in range(20):
        response = browser.post(SESSION, json=wrong[number % len(wrong)])
        problem = assert_problem(response, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert "not valid" in problem["detail"] or "sign-in link" in problem["detail"]
        assert "set-cookie" not in response.headers
    refused = limited()
    assert_problem(refused, "too-many-requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 4
    # The right token works in spite of the limit.
    assert browser.post(SESSION, json={"token": service.token}).status_code == 200
    assert_problem(limited(), "too-many-requests")
    with new_browser(service) as other:
        assert sign_in(other, service)["name"] == "admin"


def test_without_a_session_the_session_route_refuses(
    service: Service, browser: httpx.Client
) -> None:
    assert_problem(browser.get(SESSION), "unauthenticated")
    assert_problem(browser.delete(SESSION), "unauthenticated")
    # A token is not a session.
    assert_problem(service.client.get(SESSION), "unauthenticated")
    assert_problem(service.client.delete(SESSION), "unauthenticated")


def test_signing_out_ends_the_session_for_every_copy(
    service: Service, browser: httpx.Client
) -> None:
    session = sign_in(browser, service)
    secret = browser.cookies[COOKIE]
    other = new_browser(service)
    sign_in(other, service)
    assert_problem(browser.delete(SESSION), "forbidden")
    response = browser.delete(SESSION, headers={CSRF: session["csrf_token"]})
    assert response.status_code == 204
    assert response.content == b""
    assert COOKIE not in browser.cookies
    assert_problem(with_cookie(browser, secret), "unauthenticated")
    assert other.get(SESSION).status_code == 200
    other.close()


# What the cookie allows


def test_the_cookie_authorizes_like_its_token(service: Service, browser: httpx.Client) -> None:
    session = sign_in(browser, service)
    csrf = {CSRF: session["csrf_token"]}
    response = browser.post("/v1/commands", json={"script": "echo hi"}, headers=csrf)
    assert response.status_code == 201
    command = service.wait(response.json()["id"])
    assert command["created_by"] == "admin"
    path = f"/v1/commands/{command['id']}"
    for open_path in ("/v1/commands", path, f"{path}/output", f"{path}/events", "/v1/hosts",
                      "/metrics"):  # fmt: skip
        assert browser.get(open_path).status_code == 200, open_path
        assert browser.head(open_path).status_code == 200, open_path
    assert browser.post(f"{path}/rerun", headers=csrf).status_code == 201
    assert browser.delete(path, headers=csrf).status_code == 204


def test_the_authorization_header_overrides_the_cookie(
    service: Service, browser: httpx.Client
) -> None:
    sign_in(browser, service)
    for wrong in ("Bearer wrong", "", "Basic x"):
        response = browser.get("/v1/commands", headers={"Authorization": wrong})
        assert_problem(response, "unauthenticated")
    # A token needs no CSRF token, since another site cannot make a browser send it.
    response = browser.post("/v1/commands", json={"script": "true"}, headers=service.headers)
    assert response.status_code == 201


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_changes_need_the_csrf_token(service: Service, browser: httpx.Client, method: str) -> None:
    right = sign_in(browser, service)["csrf_token"]
    with new_browser(service) as other:
        others = sign_in(other, service)["csrf_token"]
    assert others != right
    wrong: list[list[tuple[str, str]]] = [
        [], [(CSRF, "")], [(CSRF, "wrong")], [(CSRF, others)], [(CSRF, right[:-1])],
        [(CSRF, right), (CSRF, right)], [("X-CSRF", right)],
        [("Cookie", f"csrf={right}; {COOKIE}={browser.cookies[COOKIE]}")],
    ]  # fmt: skip

    def newest() -> list[str]:
        return [item["id"] for item in service.client.get("/v1/commands?limit=1").json()["items"]]

    before = newest()
    for path in ("/v1/commands", "/v1/nothing", "/metrics"):
        for headers in wrong:
            response = browser.request(method, path, headers=headers)
            assert_problem(response, "forbidden")
    assert newest() == before
    response = browser.request(method, "/v1/nothing", headers={CSRF: right})
    assert_problem(response, "not-found")


@pytest.mark.parametrize(
    "secret",
    ["", "x", "x" * 43, "x" * 42 + "ü", "\x00" * 43, '"' + "x" * 41 + '"', "x" * 50_000, "=" * 43,
     "../../../../../../../../../../../etc/passwd"],
    ids=lambda secret: repr(secret[:12]),
)  # fmt: skip
def test_an_invalid_cookie_is_refused(service: Service, browser: httpx.Client, secret: str) -> None:
    for name in (COOKIE, SECURE):
        with httpx.Client(timeout=PATIENCE_SECONDS, verify=False) as client:
            cookie = f"{name}={secret}".encode()
            try:
                response = client.get(f"{service.url}{SESSION}", headers=[(b"Cookie", cookie)])
            except httpx.TransportError:
                continue  # the HTTP parser closed the connection
            assert response.status_code in (400, 401)
    assert service.client.get("/healthz").status_code == 200


def test_several_different_session_cookies_are_refused(
    service: Service, browser: httpx.Client
) -> None:
    sign_in(browser, service)
    mine = browser.cookies[COOKIE]
    with new_browser(service) as other:
        sign_in(other, service)
        others = other.cookies[COOKIE]
    assert with_cookie(browser, mine).status_code == 200
    assert with_cookie(browser, mine, mine).status_code == 200
    for several in ((mine, others), (others, mine), (mine, "x"), ("", mine), (mine, *"abc" * 99)):
        assert_problem(with_cookie(browser, *several), "unauthenticated")
    headers = [("Cookie", f"{COOKIE}={mine}"), ("Cookie", f"{COOKIE}={others}")]
    assert_problem(ask(f"{service.url}{SESSION}", headers), "unauthenticated")
    # Other cookies beside it do no harm, unless the header is too long to be parsed.
    among = {"Cookie": f"a=b; ;=;x; {COOKIE}={mine};c"}
    assert ask(f"{service.url}{SESSION}", among).status_code == 200
    full = {"Cookie": f"a={'b' * 20_000}; {COOKIE}={mine}"}
    assert_problem(ask(f"{service.url}{SESSION}", full), "unauthenticated")


# Restarts, and ends


def test_a_session_and_a_sign_out_survive_a_server_kill(
    service: Service, browser: httpx.Client
) -> None:
    with new_browser(service) as other:
        ended = sign_in(other, service)
        secret = other.cookies[COOKIE]
        assert other.delete(SESSION, headers={CSRF: ended["csrf_token"]}).status_code == 204
    session = sign_in(browser, service)
    pid = service.kill_server()
    eventually(lambda: service.server_pid != pid, "another server")
    service.wait_until_serving()
    assert browser.get(SESSION).json() == session
    response = browser.post(
        "/v1/commands", json={"script": "true"}, headers={CSRF: session["csrf_token"]}
    )
    assert response.status_code == 201
    assert_problem(with_cookie(browser, secret), "unauthenticated")


@MAINLY_ON_SQLITE
def test_a_session_ends_with_its_token(own_service: Service) -> None:
    service = own_service
    with new_browser(service) as browser:
        sign_in(browser, service)
        service.sql("DELETE FROM tokens")
        before = service.token
        service.kill_server()
        # The next server makes a new token of the same name, to which the session does not belong.
        eventually(lambda: service.token != before, "another token")
        service.wait_until_serving()
        assert_problem(browser.get(SESSION), "unauthenticated")
        assert_problem(browser.get("/v1/commands"), "unauthenticated")
        assert sign_in(browser, service)["name"] == "admin"


AGES = [
    ("used_at", 0, 200),
    ("used_at", DAY // 2 - HOUR, 200),
    ("used_at", DAY // 2 + HOUR, 401),
    ("created_at", 7 * DAY - HOUR, 200),
    ("created_at", 7 * DAY + HOUR, 401),
]


def test_a_session_survives_a_restart_and_expires(
    own_service: Service,
) -> None:
    service = own_service

    def hashes() -> set[Any]:
        return {row[0] for row in service.sql("SELECT sha256 FROM sessions")}

    with contextlib.ExitStack() as opened:
        browsers = [opened.enter_context(new_browser(service)) for _ in AGES]
        sessions, known = [], [hashes()]
        for browser in browsers:
            sessions.append(sign_in(browser, service))
            known.append(hashes())
        ours = [later - earlier for earlier, later in itertools.pairwise(known)]
        assert service.stop() == 0
        for (column, age, _), (own,) in zip(AGES, ours, strict=True):
            service.sql(
                f"UPDATE sessions SET {column} = {column} - :age WHERE sha256 = :own",
                age=age,
                own=own,
            )
        service.start()
        for browser, session, (_, _, status) in zip(browsers, sessions, AGES, strict=True):
            response = browser.get(SESSION)
            assert response.status_code == status, response.text
            assert status == 401 or response.json() == session
    over = {own for (own,), (*_, status) in zip(ours, AGES, strict=True) if status == 401}
    eventually(lambda: not over & hashes(), "those to be forgotten")
    assert set().union(*ours) - over <= hashes()


def test_the_database_has_no_secret(service: Service, browser: httpx.Client) -> None:
    session = sign_in(browser, service)
    rows = repr(service.sql("SELECT * FROM sessions")) + service.output()
    assert service.sql("SELECT * FROM sessions")
    assert browser.cookies[COOKIE] not in rows
    assert session["csrf_token"] not in rows


def test_a_token_has_at_most_a_hundred_sessions(service: Service) -> None:
    with new_browser(service) as browser:
        sign_in(browser, service)
        first = browser.cookies[COOKIE]
        sign_in(browser, service)
        second = browser.cookies[COOKIE]
        assert with_cookie(browser, first).status_code == 200  # used after the second
        for _ in range(99):
            sign_in(browser, service)
        assert_problem(with_cookie(browser, second), "unauthenticated")
        assert with_cookie(browser, first).status_code == 200


# The link


@MAINLY_ON_SQLITE
def test_each_start_prints_a_sign_in_link_that_works_once(
    make_service: Callable[..., Service],
) -> None:
    service = make_service().start()
    first = link_code(service)
    assert len(first) == 22  # 128 bits

    def enter(code: str) -> httpx.Response:
        with new_browser(service) as browser:
            response = browser.post(SESSION, json={"code": code})
            assert browser.get("/v1/commands").status_code == response.status_code
            return response

    assert_problem(enter(first + "x"), "unauthenticated")
    # A server that the keeper restarts prints no link, and the old link no longer works.
    service.kill_server()
    service.wait_until_serving()
    assert_problem(enter(first), "unauthenticated")
    service.stop()
    assert service.output().count("#code=") == 1
    service.start()
    eventually(lambda: link_code(service) != first, "another link")
    assert_problem(enter(first), "unauthenticated")
    # Of many simultaneous uses exactly one succeeds, and no later one.
    second = link_code(service)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(enter, [second] * 8))
    answers.sort(key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, *[401] * 7]
    assert answers[0].json()["scope"] == "admin"
    assert_problem(enter(second), "unauthenticated")
    assert service.output().count("#code=") == 2


@MAINLY_ON_SQLITE
def test_the_sign_in_link_can_be_disabled(make_service: Callable[..., Service]) -> None:
    service = make_service("--no-sign-in-link").start()
    eventually(lambda: "ScriptService listens on" in service.output(), "its words")
    assert "#code=" not in service.output()
    with new_browser(service) as browser:
        assert_problem(browser.post(SESSION, json={"code": ""}), "unauthenticated")


@MAINLY_ON_SQLITE
@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_the_sign_in_link_has_a_reachable_address(
    make_service: Callable[..., Service], host: str, shown: str
) -> None:
    service = make_service("--host", host).start(wait=False)
    said = eventually(lambda: re.search(r"sign in: http://(\S+)/#", service.output()), "the link")
    assert said[1] == f"{shown}:{service.port}"
    assert ask(f"http://{shown}:{service.port}/healthz", {}).status_code == 200
