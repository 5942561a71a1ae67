"""An AWS account as its operator's commands see it; the one file of this room that imports the AWS client.

Every call goes through `Account.call`, so that what the client raises becomes `AwsRefused`, with the next
step, in one place.
"""

from typing import Any, Self

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from email_gateway.errors import AwsRefused, ConfigurationError
from email_gateway.secrets.failures import NO_CREDENTIALS_CODES, Failure, FetchFailed
from email_gateway.secrets.secrets_manager import classify
from email_gateway.settings import Settings

# Standard mode waits between attempts; adaptive mode also slows down when it is told to (CloudTrail
# allows two look-ups a second for a whole account).
PATIENT = Config(connect_timeout=3, read_timeout=15, retries={"total_max_attempts": 4, "mode": "standard"})
SLOWING = Config(connect_timeout=3, read_timeout=30, retries={"total_max_attempts": 10, "mode": "adaptive"})

# What the services call a thing that is not there.
ABSENT_CODES = ("ResourceNotFoundException", "NotFoundException", "NoSuchEntity")
EXISTING_CODES = ("ResourceExistsException", "AlreadyExistsException")


class Account:
    """The account and region that the settings and the AWS credentials at hand name.

    `prefix` stands before the names of the secrets.
    """

    def __init__(self, session: "boto3.session.Session", region: str, settings: Settings) -> None:
        self.region = region
        self.prefix = settings.secrets_prefix
        self._session = session
        self._endpoint_url = settings.aws_endpoint_url
        self._clients: dict[str, Any] = {}

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Take the credentials and the region of this shell; sends nothing yet. Raises ConfigurationError."""
        try:
            session = boto3.session.Session(region_name=settings.aws_region)
        except BotoCoreError as error:
            raise ConfigurationError(
                f"the AWS client cannot be made ({type(error).__name__}): check AWS_PROFILE and AWS_REGION"
            ) from None
        if session.region_name is None:
            raise ConfigurationError("AWS_REGION must be set to the region of the secrets")
        return cls(session, session.region_name, settings)

    @property
    def kms_alias(self) -> str:
        """Return the alias of the KMS key: alias/email-gateway, or that of another prefix."""
        allowed = (character if character.isalnum() or character in "/_-" else "-" for character in self.prefix)
        return f"alias/{''.join(allowed)}"

    def full_name(self, name: str) -> str:
        """Return a secret's name with its prefix."""
        return f"{self.prefix}/{name}"

    def call(self, action: str, /, on: str | None = None, **parameters: object) -> dict[str, Any]:
        """Send one request, such as "secretsmanager:DescribeSecret", and return the answer.

        `on` is what the request is about, for the error. Raises AwsRefused, which keeps AWS's code
        and nothing else of the client's error: its text quotes parameters, and so values.
        """
        service, _, operation = action.partition(":")
        try:
            answer: dict[str, Any] = getattr(self._client(service), xform_name(operation))(**parameters)
        except Exception as error:  # noqa: BLE001  (the client's parser raises anything on a malformed answer)
            failed = classify(error)
        else:
            return answer
        # Outside of the handler, or the original would hang on as the context.
        raise AwsRefused(action, failed.code, on=on, next_step=advise(action, failed))

    def find(self, action: str, /, on: str | None = None, **parameters: object) -> dict[str, Any] | None:
        """Send one request; None is AWS's answer that there is no such thing."""
        try:
            return self.call(action, on=on, **parameters)
        except AwsRefused as refused:
            if refused.aws_code in ABSENT_CODES:
                return None
            raise

    def make(self, action: str, /, on: str, **parameters: object) -> None:
        """Send a request that makes something; one that another run has made meanwhile is left as it is."""
        try:
            self.call(action, on=on, **parameters)
        except AwsRefused as refused:
            if refused.aws_code not in EXISTING_CODES:
                raise

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            config = SLOWING if service == "cloudtrail" else PATIENT
            create: Any = self._session.client
            self._clients[service] = create(service, endpoint_url=self._endpoint_url, config=config)
        return self._clients[service]


def advise(action: str, failed: FetchFailed) -> str:
    """Return what the operator does next about a call that AWS did not do."""
    code = failed.code
    if code in NO_CREDENTIALS_CODES or code.startswith(("SSO", "UnauthorizedSSO")):
        return "give this shell AWS credentials: AWS_PROFILE, `aws sso login`, or the role of its machine"
    if code.startswith(("ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient", "InvalidSignature")):
        return "the credentials of this shell are expired or wrong: `aws sts get-caller-identity` shows whose they are"
    if code.startswith(("DecryptionFailure", "EncryptionFailure", "Disabled", "KMSInvalidState")):
        return "see that the KMS key is enabled and that this role may use it: `email-gateway secrets verify`"
    if code.startswith("MalformedPolicy") or code == "PublicPolicyException":
        return "see that the role ARNs exist: AWS checks the principals of a policy"
    match failed.failure:
        case Failure.DENIED:
            return f"allow {action} to this role, or use one that has it; a resource policy may deny it as well"
        case Failure.NOT_FOUND:
            return "`email-gateway secrets verify` shows what is there; check AWS_REGION and SECRETS_PREFIX"
        case Failure.THROTTLED:
            return "AWS limits the rate of requests: wait a minute and run the command again"
        case Failure.UNAVAILABLE:
            return "AWS did not answer: check the network and AWS_ENDPOINT_URL, and run the command again"
    return "this is no answer that the command knows: check AWS_ENDPOINT_URL and proxies, and `aws --version` beside it"
