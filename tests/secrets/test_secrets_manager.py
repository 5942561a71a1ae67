import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from email_gateway.secrets.failures import CLASSES, Failure, FetchFailed, advise
from email_gateway.secrets.secrets_manager import classify, read_answer

NAME = "email-gateway/encryption-key"


def answered(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "MARK"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetSecretValue",
    )


@pytest.mark.parametrize(
    ("error", "failure", "code"),
    [
        (answered("ThrottlingException", 400), Failure.THROTTLED, "ThrottlingException"),
        (answered("SomethingNew", 429), Failure.THROTTLED, "SomethingNew"),
        (answered("ResourceNotFoundException", 400), Failure.NOT_FOUND, "ResourceNotFoundException"),
        (answered("InvalidRequestException", 400), Failure.NOT_FOUND, "InvalidRequestException"),
        (answered("SomethingNew", 403), Failure.DENIED, "SomethingNew"),
        (answered("SomethingNew", 503), Failure.UNAVAILABLE, "SomethingNew"),
        (answered("SomethingNew", 400), Failure.MALFORMED, "SomethingNew"),
        (answered("<html>MARK", 404), Failure.MALFORMED, "HTTP 404"),
        (ConnectTimeoutError(endpoint_url="MARK"), Failure.UNAVAILABLE, "ConnectTimeoutError"),
        (ReadTimeoutError(endpoint_url="MARK"), Failure.UNAVAILABLE, "ReadTimeoutError"),
        (EndpointConnectionError(endpoint_url="MARK"), Failure.UNAVAILABLE, "EndpointConnectionError"),
        (SSLError(endpoint_url="MARK", error=OSError("MARK")), Failure.UNAVAILABLE, "SSLError"),
        (CredentialRetrievalError(provider="x", error_msg="MARK"), Failure.UNAVAILABLE, "CredentialRetrievalError"),
        (NoCredentialsError(), Failure.DENIED, "NoCredentialsError"),
        (ResponseParserError("MARK"), Failure.MALFORMED, "ResponseParserError"),
        (KeyError("MARK"), Failure.MALFORMED, "KeyError"),
        (OSError("MARK"), Failure.UNAVAILABLE, "OSError"),
    ],
)
def test_every_error_has_a_class_and_keeps_its_code_only(error: Exception, failure: Failure, code: str) -> None:
    failed = classify(error)
    assert (failed.failure, failed.code) == (failure, code)
    assert "MARK" not in f"{failed!r} {failed} {advise(failed)}"


@pytest.mark.parametrize("code", CLASSES)
def test_a_known_code_decides_whatever_the_status(code: str) -> None:
    assert classify(answered(code, 400)).failure is CLASSES[code]


@pytest.mark.parametrize(
    "answer", [{}, {"VersionId": ""}, {"VersionId": 7}, {"VersionId": "v", "Name": "another"}, {"Name": NAME}]
)
def test_what_is_no_answer_is_malformed(answer: dict[str, object]) -> None:
    with pytest.raises(FetchFailed) as failed:
        read_answer(answer, NAME)
    assert failed.value.failure is Failure.MALFORMED


def test_only_one_code_means_that_a_secret_is_not_there() -> None:
    assert classify(answered("ResourceNotFoundException", 400)).is_absent
    assert not classify(answered("InvalidRequestException", 400)).is_absent
    assert not classify(answered("404", 404)).is_absent
