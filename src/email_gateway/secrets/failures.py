"""Why a secret could not be fetched, in five classes, and what an operator does about each."""

from enum import StrEnum


class Failure(StrEnum):
    """The class of a failed fetch: the first two of these pass by themselves, the others do not."""

    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    MALFORMED = "malformed"

    @property
    def is_passing(self) -> bool:
        return self in (Failure.THROTTLED, Failure.UNAVAILABLE)


ABSENT_CODE = "ResourceNotFoundException"
DELETED_CODE = "InvalidRequestException"
TIMED_OUT_CODE = "TimedOut"
INVALID_VALUE_CODE = "InvalidValue"
NO_CREDENTIALS_CODES = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")

# Error codes of the service, of KMS behind it, and of request signing. A throttle is HTTP 400 here.
CLASSES = {
    ABSENT_CODE: Failure.NOT_FOUND,
    # GetSecretValue says so of a secret that is marked for deletion.
    DELETED_CODE: Failure.NOT_FOUND,
    "AccessDenied": Failure.DENIED,
    "AccessDeniedException": Failure.DENIED,
    "DecryptionFailure": Failure.DENIED,
    "DecryptionFailureException": Failure.DENIED,
    "ExpiredToken": Failure.DENIED,
    "ExpiredTokenException": Failure.DENIED,
    "IncompleteSignature": Failure.DENIED,
    "InvalidClientTokenId": Failure.DENIED,
    "InvalidIdentityToken": Failure.DENIED,
    "InvalidSignatureException": Failure.DENIED,
    "MissingAuthenticationToken": Failure.DENIED,
    "MissingAuthenticationTokenException": Failure.DENIED,
    "NotAuthorized": Failure.DENIED,
    "OptInRequired": Failure.DENIED,
    "SignatureDoesNotMatch": Failure.DENIED,
    "UnauthorizedOperation": Failure.DENIED,
    "UnrecognizedClientException": Failure.DENIED,
    "LimitExceededException": Failure.THROTTLED,
    "RequestLimitExceeded": Failure.THROTTLED,
    "RequestThrottled": Failure.THROTTLED,
    "RequestThrottledException": Failure.THROTTLED,
    "SlowDown": Failure.THROTTLED,
    "Throttling": Failure.THROTTLED,
    "ThrottlingException": Failure.THROTTLED,
    "ThrottledException": Failure.THROTTLED,
    "TooManyRequestsException": Failure.THROTTLED,
    "InternalFailure": Failure.UNAVAILABLE,
    "InternalServiceError": Failure.UNAVAILABLE,
    "InternalServiceErrorException": Failure.UNAVAILABLE,
    "RequestTimeout": Failure.UNAVAILABLE,
    "RequestTimeoutException": Failure.UNAVAILABLE,
    "ServiceUnavailable": Failure.UNAVAILABLE,
    "ServiceUnavailableException": Failure.UNAVAILABLE,
}


class FetchFailed(Exception):
    """A secret could not be fetched, or what came is not one.

    `code` is AWS's error code or the name of the client's error; `problem`, when given, says what is
    wrong with the value without quoting it.
    """

    def __init__(self, failure: Failure, code: str, problem: str | None = None) -> None:
        super().__init__(failure, code)
        self.failure = failure
        self.code = code
        self.problem = problem

    @property
    def is_absent(self) -> bool:
        """True only when Secrets Manager says that there is no such secret; a deleted one is not absent."""
        return self.code == ABSENT_CODE


def classify_answer(code: str, http_status: int) -> Failure:
    """Return the class of an error answer, by its code, else by its HTTP status."""
    if code in CLASSES:
        return CLASSES[code]
    if http_status == 429:
        return Failure.THROTTLED
    if http_status in (401, 403, 407):
        return Failure.DENIED
    # Anything else below 500 did not come from Secrets Manager, or says that we asked wrongly.
    return Failure.UNAVAILABLE if http_status >= 500 or http_status == 408 else Failure.MALFORMED


def advise(failed: FetchFailed) -> str:
    """Return what the operator does next, as one or two sentences."""
    if failed.problem is not None:
        return f"Its value {failed.problem}. {HOW_TO_STORE}"
    if failed.code == DELETED_CODE:
        return "It is marked for deletion: bring it back with `aws secretsmanager restore-secret`."
    if failed.code in NO_CREDENTIALS_CODES:
        return "This process has no AWS credentials: give its instance, task or pod a role."
    if failed.code.startswith("DecryptionFailure"):
        return "Its KMS key cannot be used: check that the key is enabled and that the role has kms:Decrypt on it."
    return ADVICE[failed.failure]


HOW_TO_STORE = (
    "Store a right one with `email-gateway secrets set NAME --from-file FILE`, which checks it first;"
    " docs/secrets.md says which forms are taken."
)
ADVICE = {
    Failure.NOT_FOUND: "Create it, or check AWS_REGION and SECRETS_PREFIX.",
    Failure.DENIED: "Allow this process's role secretsmanager:GetSecretValue on it and kms:Decrypt on its KMS key,"
    " and check that the credentials are of the right account and have not expired.",
    Failure.THROTTLED: "AWS limits the rate of requests: wait a minute, and look for who else sends many.",
    Failure.UNAVAILABLE: "Secrets Manager did not answer: check the network, the VPC endpoint and AWS_ENDPOINT_URL.",
    Failure.MALFORMED: "The answer is not one of Secrets Manager: check AWS_ENDPOINT_URL, SECRETS_PREFIX and proxies.",
}
