"""Which credentials this machine has, and what its metadata service answers to whom."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from email_gateway.operator.doctor import Level, Subject
from email_gateway.operator.doctor.credentials import AwsClients, check_credentials, check_metadata_service
from tests.operator.doctor.stand import PATIENT
from tests.plugins.secrets_manager import Aws

pytestmark = pytest.mark.anyio

Imds = Callable[..., str]
ROLE = "gateway-role"
CREDENTIALS = (
    b'{"Code": "Success", "AccessKeyId": "ASIATEST", "SecretAccessKey": "testing", "Token": "t",'
    b' "Expiration": "2099-01-01T00:00:00Z"}'
)


class _Handler(BaseHTTPRequestHandler):
    gives_tokens: bool
    answers_without: bool

    def do_PUT(self) -> None:
        self._send(200 if self.gives_tokens else 403, b"a-token")

    def do_GET(self) -> None:
        if "X-aws-ec2-metadata-token" not in self.headers and not self.answers_without:
            self._send(401, b"")
        elif self.path.endswith(f"/{ROLE}"):
            self._send(200, CREDENTIALS)
        else:
            self._send(200, ROLE.encode())

    def do_POST(self) -> None:
        """Answer as STS does to credentials that have expired."""
        self._send(403, b"<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name it overrides)
        """Say nothing."""


@pytest.fixture
def imds() -> Iterator[Imds]:
    """Run a metadata service that answers as told; returns its URL."""
    servers = []

    def run(*, gives_tokens: bool = True, answers_without: bool = False) -> str:
        handler = type("Handler", (_Handler,), {"gives_tokens": gives_tokens, "answers_without": answers_without})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def without_keys(monkeypatch: pytest.MonkeyPatch, *, asks_imds: str | None = None) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    if asks_imds:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", asks_imds)


def subject_of(aws: Aws, *, is_production: bool = False) -> Subject:
    return Subject(aws.settings(), is_production=is_production, bound=PATIENT)


async def test_no_credentials_are_broken_and_say_where_to_look(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    without_keys(monkeypatch)
    subject = subject_of(aws)
    (finding,) = await check_credentials(AwsClients.of(subject), subject)
    assert finding.level is Level.BROKEN
    assert "no AWS credentials" in finding.seen
    assert finding.next_step == "aws configure list"


async def test_keys_that_last_are_named_and_warned_of_in_production_only(aws: Aws) -> None:
    for is_production, level in ((False, Level.OK), (True, Level.WARNING)):
        subject = subject_of(aws, is_production=is_production)
        (finding,) = await check_credentials(AwsClients.of(subject), subject)
        assert finding.level is level
        assert "keys in the environment" in finding.seen
        assert "testing" not in repr(finding)


async def test_an_instances_role_is_named_with_what_its_metadata_service_asks_for(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, imds: Imds
) -> None:
    without_keys(monkeypatch, asks_imds=imds())
    subject = subject_of(aws, is_production=True)
    identity, service = await check_credentials(AwsClients.of(subject), subject)
    assert (identity.level, service.level) == (Level.OK, Level.OK)
    assert "the instance's role" in identity.seen
    assert "IMDSv2" in service.seen


async def test_credentials_of_nobody_known_are_no_fault_of_theirs(aws: Aws) -> None:
    subject = subject_of(aws)
    elsewhere = AwsClients.of(subject)
    clients = AwsClients(elsewhere.session, "http://127.0.0.1:1", elsewhere.limits)
    (finding,) = await check_credentials(clients, subject)
    assert finding.level is Level.OK
    assert "whose is not known" in finding.seen


async def test_credentials_that_aws_refuses_are_broken(aws: Aws, imds: Imds) -> None:
    subject = subject_of(aws)
    of_aws = AwsClients.of(subject)
    (finding,) = await check_credentials(AwsClients(of_aws.session, imds(), of_aws.limits), subject)
    assert finding.level is Level.BROKEN
    assert finding.seen == "AWS refuses keys in the environment (ExpiredToken)"
    assert finding.next_step == "aws sts get-caller-identity"


def test_a_metadata_service_that_answers_without_a_token_is_warned_of(imds: Imds) -> None:
    finding = check_metadata_service(imds(answers_without=True))
    assert finding.level is Level.WARNING
    assert "IMDSv1" in finding.seen
    assert "HttpTokens" in finding.next_step


def test_a_metadata_service_that_gives_no_token_is_not_judged(imds: Imds) -> None:
    assert check_metadata_service(imds(gives_tokens=False)).level is Level.SKIPPED


def test_a_metadata_service_out_of_reach_of_a_token_needs_another_hop() -> None:
    finding = check_metadata_service("http://127.0.0.1:1")
    assert finding.level is Level.WARNING
    assert "hop-limit" in finding.next_step
