"""What a start that failed says for each fault: the code, and what to do about it."""

from tests.fault_proxy import Fault

# What waiting does not mend, and what may pass by itself.
LASTING = {
    Fault.DENIED: ("AccessDeniedException", "secretsmanager:GetSecretValue"),
    Fault.NO_KMS: ("DecryptionFailure", "kms:Decrypt"),
    Fault.EXPIRED: ("ExpiredTokenException", "have not expired"),
    Fault.NOT_FOUND: ("ResourceNotFoundException", "Create it, or check AWS_REGION and SECRETS_PREFIX"),
    Fault.DELETED: ("InvalidRequestException", "restore-secret"),
    Fault.PAGE_NOT_FOUND: ("404", "check AWS_ENDPOINT_URL"),
    Fault.HTML: ("NoVersionId", "check AWS_ENDPOINT_URL"),
    Fault.EMPTY: ("NoVersionId", "check AWS_ENDPOINT_URL"),
    Fault.JSON_LIST: ("", "check AWS_ENDPOINT_URL"),
    Fault.WRONG_TYPES: ("NoVersionId", "check AWS_ENDPOINT_URL"),
    Fault.NO_VERSION: ("NoVersionId", "check AWS_ENDPOINT_URL"),
    Fault.ANOTHER_SECRET: ("AnotherSecret", "check AWS_ENDPOINT_URL"),
    Fault.BINARY: ("InvalidValue", "must be text in SecretString"),
    Fault.TOO_SHORT: ("InvalidValue", "must have at least 32 characters"),
    Fault.WRONG_ALPHABET: ("InvalidValue", "printable characters"),
}
PASSING = {
    Fault.THROTTLED: ("ThrottlingException", "limits the rate"),
    Fault.SERVER_ERROR: ("InternalServiceError", "did not answer"),
    Fault.BAD_GATEWAY: ("502", "did not answer"),
    Fault.HANG: ("ReadTimeoutError", "did not answer"),
    Fault.RESET: ("ConnectionClosedError", "did not answer"),
    Fault.DRIP: ("TimedOut", "did not answer"),
}
