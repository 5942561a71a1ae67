"""AWS Secrets Manager as a source; the one file that imports the AWS client, and only when it is used."""

import asyncio
import re
import time
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSOError,
)
from botocore.parsers import ResponseParserError
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from email_gateway.errors import ConfigurationError
from email_gateway.secrets.failures import TIMED_OUT_CODE, Failure, FetchFailed, classify_answer
from email_gateway.secrets.secret import SECRETS
from email_gateway.secrets.source import CURRENT, Fetched
from email_gateway.secrets.threads import call_in_thread
from email_gateway.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

READ_BYTES = 65_536
CODE = re.compile(r"[A-Za-z0-9_.]{1,64}")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long one fetch may take, in seconds; the client's own defaults would hold a start for minutes.

    `deadline` stands above connect and read of all attempts, for what those do not bound: an answer
    that drips, or credentials asked of STS. One answer has at most as long.
    """

    connect: float = 1.0
    read: float = 3.0
    attempts: int = 2
    deadline: float = 9.0


DEFAULT_LIMITS = CallLimits()


class SecretsManagerSource:
    """Reads with GetSecretValue in threads; boto3 in threads is as fast as an asynchronous client.

    Always asks for a stage or a version: without one an emulator answers with any.
    """

    can_change = True

    def __init__(self, client: "SecretsManagerClient", prefix: str, deadline: float) -> None:
        self.title = f"AWS Secrets Manager in {client.meta.region_name}"
        self._client = client
        self._prefix = prefix
        self._deadline = deadline

    @classmethod
    async def open(cls, settings: Settings, limits: CallLimits = DEFAULT_LIMITS) -> Self:
        """Make the client with the credentials of this machine's role; sends nothing yet.

        Raises ConfigurationError when AWS_REGION, AWS_ENDPOINT_URL or the AWS profile cannot be used.
        """
        config = Config(
            connect_timeout=limits.connect,
            read_timeout=limits.read,
            retries={"total_max_attempts": limits.attempts, "mode": "standard"},
            max_pool_connections=len(SECRETS),
            tcp_keepalive=True,
        )
        try:
            client = await asyncio.to_thread(_make_client, settings, config)
            _bound_answers(client, limits.deadline)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(
                f"The AWS client cannot be made ({type(error).__name__}):"
                " check AWS_REGION, AWS_ENDPOINT_URL and AWS_PROFILE"
            ) from None
        return cls(client, settings.secrets_prefix, limits.deadline)

    def full_name(self, name: str) -> str:
        """Return the secret's name with its prefix."""
        return f"{self._prefix}/{name}"

    async def fetch(self, name: str, version_id: str | None = None, stage: str = CURRENT) -> Fetched:
        """Return the text with this stage, or of this version."""
        try:
            async with asyncio.timeout(self._deadline):
                return await call_in_thread(lambda: self._get(self.full_name(name), version_id, stage))
        except TimeoutError:
            raise FetchFailed(Failure.UNAVAILABLE, TIMED_OUT_CODE) from None

    async def close(self) -> None:
        """Close the connections that are idle; requests under way end by the limits, and hold up nothing."""
        await asyncio.to_thread(self._client.close)

    def _get(self, full_name: str, version_id: str | None, stage: str) -> Fetched:
        which: Any = {"VersionId": version_id} if version_id else {"VersionStage": stage}
        try:
            answer = self._client.get_secret_value(SecretId=full_name, **which)
        except Exception as error:  # noqa: BLE001  (the client's parser raises anything on a malformed answer)
            raise classify(error) from None
        return read_answer(dict(answer), full_name)


def _make_client(settings: Settings, config: Config) -> "SecretsManagerClient":
    session = boto3.session.Session(region_name=settings.aws_region)
    return session.client("secretsmanager", endpoint_url=settings.aws_endpoint_url, config=config)


def _bound_answers(client: Any, seconds: float) -> None:
    """Let no answer take longer than this: one that drips in byte by byte never meets the read timeout.

    Without it the thread that reads such an answer, and its connection, would stay as long as it drips.
    """

    def send(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        ends = time.monotonic() + seconds
        request.stream_output = True  # or the body would be read to its end in there
        response = client._endpoint.http_session.send(request)  # noqa: SLF001  (there is no public name for it)
        body = BytesIO()
        try:
            while piece := response.raw.read1(READ_BYTES):
                body.write(piece)
                if time.monotonic() > ends:
                    response.raw.close()
                    raise ReadTimeoutError(endpoint_url=request.url)
        except HTTPError as error:
            raise ConnectionClosedError(endpoint_url=request.url, error=error) from None
        body.seek(0)
        whole = HTTPResponse(body, preload_content=False)
        return AWSResponse(response.url, response.status_code, response.headers, whole)

    client.meta.events.register("before-send.secrets-manager.GetSecretValue", send)


def read_answer(answer: dict[str, Any], full_name: str) -> Fetched:
    """Return the text and version of an answer, or raise FetchFailed when it is not one.

    botocore turns a 200 that holds a web page into an empty answer, and passes wrong types through.
    """
    version_id, name = answer.get("VersionId"), answer.get("Name", full_name)
    if not isinstance(version_id, str) or not version_id:
        raise FetchFailed(Failure.MALFORMED, "NoVersionId")
    if name != full_name:
        raise FetchFailed(Failure.MALFORMED, "AnotherSecret")
    return Fetched(answer.get("SecretString"), version_id)


def classify(error: Exception) -> FetchFailed:
    """Return the class and code of whatever the AWS client raised; its text quotes answers and is dropped."""
    kind = type(error).__name__
    match error:
        case ClientError():
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            known = code if CODE.fullmatch(code) else f"HTTP {int(status)}"
            return FetchFailed(classify_answer(code, int(status)), known)
        case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound() | SSOError():
            return FetchFailed(Failure.DENIED, kind)
        case ParamValidationError() | ResponseParserError():
            return FetchFailed(Failure.MALFORMED, kind)
        case BotoCoreError() | OSError():
            return FetchFailed(Failure.UNAVAILABLE, kind)
    # What is left are TypeError, KeyError and the like from parsing an answer of another shape.
    return FetchFailed(Failure.MALFORMED, kind)
