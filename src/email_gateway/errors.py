"""Every error the gateway raises on purpose, by who must act.

GatewayError
├── CallerError                 the caller must change something (4xx)
│   ├── InvalidRequest          422  validation_error or missing_required_field, with one `Fault` per mistake
│   ├── Unauthorized            401  missing_api_key
│   ├── Forbidden               403  invalid_api_key
│   ├── DomainNotVerified       403  domain_not_verified
│   ├── NotFound                404
│   ├── Conflict                409
│   │   ├── NotScheduled
│   │   ├── NothingToRetry
│   │   ├── IdempotencyConflict
│   │   └── IdempotencyInFlight
│   ├── TooLarge                413
│   ├── RateLimited             429
│   │   └── QuotaExceeded       429  daily_quota_exceeded or monthly_quota_exceeded
│   └── NotOffered              501
├── TryLater                    waiting helps, repeating is safe (503 with Retry-After)
│   ├── DatabaseUnavailable
│   │   ├── LockTimeout
│   │   └── CredentialsRefused
│   ├── SecretUnavailable
│   ├── KeyUnavailable
│   ├── KeysNotFollowed
│   ├── DnsUnavailable
│   └── Overloaded
├── OperatorError               an operator must look (500, no detail outside)
│   ├── Tampered
│   ├── WrongRootKey
│   ├── SchemaMismatch
│   ├── DatabaseRefused
│   ├── OperationRefused        a command of an operator would do harm, or cannot; says the next step
│   │   └── AwsRefused
│   └── ConfigurationError      exit 78
└── ClaimLost                   another worker holds the delivery now; nothing may be sent

No message of these classes holds an address, a subject, a body, a tax id, a key or a token.
"""

from dataclasses import dataclass


class GatewayError(Exception):
    """The root: `code` is stable and may be matched by scripts."""

    code = "error"


class CallerError(GatewayError):
    """The caller must change something before trying again."""

    code = "caller_error"


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in a request: where (a JSON pointer, RFC 6901) and what to change; or what is not there."""

    pointer: str
    detail: str
    is_missing: bool = False


class InvalidRequest(CallerError):
    """The request cannot be accepted as it stands; `faults` lists every mistake found.

    Where fields are missing and nothing else is wrong, the code is Resend's word for that: its SDKs
    have an error of its own for it.
    """

    code = "validation_error"

    def __init__(self, detail: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(detail)
        self.faults = faults
        if faults and all(fault.is_missing for fault in faults):
            self.code = "missing_required_field"


class Unauthorized(CallerError):
    """No usable credential came with the request."""

    code = "missing_api_key"


class Forbidden(CallerError):
    """The credential is unknown, revoked, expired, or not allowed to do this."""

    code = "invalid_api_key"


class DomainNotVerified(CallerError):
    """The sender's domain is not one that the tenant has proven to be its own."""

    code = "domain_not_verified"

    def __init__(self) -> None:
        super().__init__(
            "the domain of `from` is not verified for this account: add it with POST /v1/domains (an operator:"
            " `email-gateway domains add`), publish its records, then verify it"
        )


class NotFound(CallerError):
    """No such thing for this caller; things of other tenants answer the same."""

    code = "not_found"


class Conflict(CallerError):
    """The request contradicts what is stored."""

    code = "conflict"


class NotScheduled(Conflict):
    """The message is not waiting for its time (any more): it cannot be moved or called back."""

    code = "not_scheduled"


class NothingToRetry(Conflict):
    """No delivery of the message has ended as a dead letter: it is under way, or has ended for good."""

    code = "nothing_to_retry"


class IdempotencyConflict(Conflict):
    """The Idempotency-Key was used within 24 hours for another body."""

    code = "invalid_idempotent_request"


class IdempotencyInFlight(Conflict):
    """The first request with this Idempotency-Key has not been answered yet."""

    code = "concurrent_idempotent_requests"
    retry_after_seconds = 1


class TooLarge(CallerError):
    """The body is over the limit."""

    code = "content_too_large"


class RateLimited(CallerError):
    """Too many requests; wait `retry_after_seconds`."""

    code = "rate_limit_exceeded"

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class NotOffered(CallerError):
    """Resend's API has it, and this gateway has not."""

    code = "not_implemented"


class QuotaExceeded(RateLimited):
    """The tenant's recipients of the day or the month are spent; `code` says which, in Resend's words."""

    def __init__(self, code: str, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail, retry_after_seconds)
        self.code = code


class TryLater(GatewayError):
    """Waiting helps, and repeating the request is safe."""

    code = "try_later"
    retry_after_seconds = 1


class DatabaseUnavailable(TryLater):
    """PostgreSQL did not answer, or answered, with this SQLSTATE, that it cannot do it now."""

    code = "database_unavailable"

    def __init__(self, detail: str, sqlstate: str = "") -> None:
        super().__init__(detail)
        self.sqlstate = sqlstate


class LockTimeout(DatabaseUnavailable):
    """Another transaction held a lock for longer than `lock_timeout`."""


class CredentialsRefused(DatabaseUnavailable):
    """PostgreSQL refuses the user or the password, and the secret holds no newer ones that work."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"PostgreSQL refuses the credentials of the database's URL (SQLSTATE {sqlstate})", sqlstate)


class SecretUnavailable(TryLater):
    """A secret cannot be read at the moment."""

    code = "secret_unavailable"


class KeyUnavailable(TryLater):
    """No root key at hand opens this data key."""

    code = "key_unavailable"


class KeysNotFollowed(TryLater):
    """The process still writes under keys that others have replaced: it must not say that it has followed."""

    code = "keys_not_followed"


class DnsUnavailable(TryLater):
    """The DNS gave no answer: nothing is known of a name, which is not the same as its absence."""

    code = "dns_unavailable"


class Overloaded(TryLater):
    """The process already holds as many bytes in flight as it may."""

    code = "overloaded"


class OperatorError(GatewayError):
    """Something an operator must look at; callers learn nothing of it."""

    code = "application_error"


class Tampered(OperatorError):
    """A sealed value or a wrap does not open: changed, moved, or sealed under another key."""

    code = "tampered"


class WrongRootKey(OperatorError):
    """The secrets at hand derive a root key that the database does not know."""

    code = "wrong_root_key"


class SchemaMismatch(OperatorError):
    """The database's schema is older than this release needs: run `email-gateway migrate`."""

    code = "schema_mismatch"


class DatabaseRefused(OperatorError):
    """PostgreSQL refused a statement; only the SQLSTATE and the constraint's name are kept."""

    code = "database_refused"

    def __init__(self, sqlstate: str, constraint: str | None = None) -> None:
        named = f", constraint {constraint}" if constraint else ""
        super().__init__(f"PostgreSQL refused a statement (SQLSTATE {sqlstate}{named})")
        self.sqlstate = sqlstate
        self.constraint = constraint


class OperationRefused(OperatorError):
    """What an operator asked for is not done; `next_step` says what to try."""

    code = "operation_refused"

    def __init__(self, detail: str, next_step: str | None = None) -> None:
        super().__init__(detail)
        self.next_step = next_step


class AwsRefused(OperationRefused):
    """AWS did not do what an operator's command asked; `aws_code` is AWS's own code, or the client error's name."""

    code = "aws_refused"

    def __init__(self, action: str, aws_code: str, *, on: str | None, next_step: str) -> None:
        super().__init__(f"{action}{f' on {on}' if on else ''} failed: {aws_code}", next_step)
        self.action = action
        self.aws_code = aws_code


class ConfigurationError(OperatorError):
    """The settings cannot work (exit 78); the message lists every problem."""

    code = "configuration"


class ClaimLost(GatewayError):
    """Another worker holds this delivery now: send nothing, record nothing as a state."""

    code = "claim_lost"
