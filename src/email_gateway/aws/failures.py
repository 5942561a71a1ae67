"""The one error that ends a step of a rotation; Secrets Manager shows it and tries again later."""


class RotationFailed(Exception):
    """A step could not be done; before the promotion that also means that nothing was promoted.

    The message says which step of which secret, why, and with which HTTP status and code. It never
    holds a value, a key or a RotationToken.
    """

    def __init__(self, reason: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.code = code
        self.place = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}" if self.place else self.reason


class AwsRefused(RotationFailed):
    """A call to Secrets Manager failed; `code` is AWS's own, or the name of the client's error."""

    def __init__(self, action: str, code: str) -> None:
        advice = ""
        if code.startswith("AccessDenied"):
            advice = f"; allow the function's role secretsmanager:{action} on this secret, and its KMS key"
        super().__init__(f"{action} failed: {code}{advice}", code=code)
