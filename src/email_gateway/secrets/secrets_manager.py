"""AWS Secrets Manager as a source; the one file that imports the AWS client, and only when it is used."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)
from botocore.parsers import ResponseParserError

from email_gateway.errors import ConfigurationError
from email_gateway.secrets.failures import TIMED_OUT_CODE, Failure, FetchFailed, classify_answer
from email_gateway.secrets.secret import SECRETS
from email_gateway.secrets.source import CURRENT, Fetched
from email_gateway.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

CODE = re.compile(r"[A-Za-z0-9_.]{1,64}")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long one fetch may take, in seconds; the client's own defaults would hold a start for minutes.

    `deadline` stands above connect and read of all attempts, for what those do not bound: an answer
    that drips, or credentials asked of STS.
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
        self._threads = ThreadPoolExecutor(max_workers=len(SECRETS), thread_name_prefix="secrets")

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
        """Return the text with this stage, or of this version.

        A thread that outlives the deadline ends by the client's own timeouts.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline):
                return await loop.run_in_executor(self._threads, self._get, self.full_name(name), version_id, stage)
        except TimeoutError:
            raise FetchFailed(Failure.UNAVAILABLE, TIMED_OUT_CODE) from None

    async def close(self) -> None:
        """Drop what waits and close the connections; running requests end by their timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)
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
