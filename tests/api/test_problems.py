import inspect
import json

import httpx
import pytest

from email_gateway import errors
from email_gateway.api.problems import MethodNotAllowed, UnsupportedMediaType, problem_reply
from tests.api.house import Served

pytestmark = pytest.mark.anyio

MARK = "Zq9Marked"

STATUSES: list[tuple[Exception, int, str]] = [
    (errors.InvalidRequest("x"), 422, "validation_error"),
    (errors.Unauthorized("x"), 401, "missing_api_key"),
    (errors.Forbidden("x"), 403, "invalid_api_key"),
    (errors.DomainNotVerified(), 403, "domain_not_verified"),
    (errors.NotFound("x"), 404, "not_found"),
    (MethodNotAllowed("GET"), 405, "method_not_allowed"),
    (errors.IdempotencyConflict("x"), 409, "invalid_idempotent_request"),
    (errors.IdempotencyInFlight("x"), 409, "concurrent_idempotent_requests"),
    (errors.NotScheduled("x"), 409, "not_scheduled"),
    (errors.NothingToRetry("x"), 409, "nothing_to_retry"),
    (errors.NotOffered("x"), 501, "not_implemented"),
    (errors.TooLarge("x"), 413, "content_too_large"),
    (UnsupportedMediaType("x"), 415, "unsupported_media_type"),
    (errors.RateLimited("x", 7), 429, "rate_limit_exceeded"),
    (errors.QuotaExceeded("daily_quota_exceeded", "x", 7), 429, "daily_quota_exceeded"),
    (errors.DatabaseUnavailable(MARK), 503, "database_unavailable"),
    (errors.CredentialsRefused("28P01"), 503, "database_unavailable"),
    (errors.KeyUnavailable(MARK), 503, "key_unavailable"),
    (errors.DnsUnavailable(MARK), 503, "dns_unavailable"),
    (errors.Overloaded(MARK), 503, "overloaded"),
    (errors.Tampered(MARK), 500, "application_error"),
    (errors.DatabaseRefused("23505", MARK), 500, "application_error"),
    (errors.SchemaMismatch(MARK), 500, "application_error"),
    (errors.ClaimLost(MARK), 500, "application_error"),
    (ValueError(MARK), 500, "application_error"),
]


@pytest.mark.parametrize(("error", "status", "name"), STATUSES, ids=lambda value: type(value).__name__)
def test_an_error_has_one_status_and_the_fields_of_both_conventions(error: Exception, status: int, name: str) -> None:
    reply = problem_reply(error, "request-1")
    problem = json.loads(reply.body)
    assert (reply.status, problem["status"], problem["statusCode"]) == (status, status, status)
    assert (problem["name"], problem["code"]) == (name, name)
    assert problem["type"].endswith(name)
    assert problem["message"] == problem["detail"]
    assert problem["request_id"] == "request-1"
    assert MARK not in reply.body.decode()


@pytest.mark.parametrize("error", [case[0] for case in STATUSES], ids=lambda error: type(error).__name__)
def test_what_passes_by_itself_says_when_to_come_back(error: Exception) -> None:
    headers = dict(problem_reply(error, "").headers)
    expected = isinstance(error, errors.TryLater | errors.RateLimited | errors.IdempotencyInFlight)
    assert (b"retry-after" in headers) is expected


def test_every_error_a_caller_can_cause_has_a_status_of_its_own() -> None:
    callers = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.CallerError) and kind is not errors.CallerError
    ]
    covered = tuple(type(error) for error, _, _ in STATUSES)
    missing = [kind.__name__ for kind in callers if not any(issubclass(one, kind) for one in covered)]
    assert missing == []


def test_several_faults_are_listed_and_the_first_is_the_message() -> None:
    faults = (errors.Fault("/to/0", "do this"), errors.Fault("", "do that"))
    problem = json.loads(problem_reply(errors.InvalidRequest("x", faults), "").body)
    assert problem["message"] == "/to/0: do this (and 1 more)"
    assert problem["errors"] == [{"pointer": "/to/0", "detail": "do this"}, {"pointer": "", "detail": "do that"}]


async def test_problems_are_json_unless_problem_json_is_asked_for(shared: Served) -> None:
    async with shared.client("") as client:
        plain = await client.get("/v1/emails")
        asked = await client.get("/v1/emails", headers={"accept": "application/problem+json, application/json;q=0.5"})
    assert plain.headers["content-type"] == "application/json"
    assert asked.headers["content-type"] == "application/problem+json"


async def test_every_answer_names_its_request_and_may_not_be_stored(client: httpx.AsyncClient) -> None:
    answers = [await client.get(path) for path in ("/v1/emails", "/v1/health/livez", "/nothing", "/v1/emails/x")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert answers[2].json()["request_id"] == ids[2]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    assert all("server" not in answer.headers for answer in answers)


async def test_an_unknown_path_is_404_and_a_known_one_with_another_method_405(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/nothing")).status_code == 404
    assert (await client.get("/v1/emails/")).status_code == 404
    wrong = await client.put("/v1/emails", json={})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")


async def test_head_answers_as_get_without_the_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/v1/health/livez")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_an_error_nobody_expected_is_500_with_nothing_of_it(api: Served, acme: httpx.AsyncClient) -> None:
    # Content that cannot be opened is what an operator must look at.
    sent = (
        await acme.post("/v1/emails", json={"from": "a@b.example", "to": "c@d.example", "subject": MARK, "text": ""})
    ).json()["id"]
    await api.db.execute("UPDATE message SET sealed_content = sealed_content || '\\x00' WHERE tenant_id = $1", api.acme)
    answer = await acme.get(f"/v1/emails/{sent}")
    assert (answer.status_code, answer.json()["name"]) == (500, "application_error")
    assert "tamper" not in answer.text.lower()
