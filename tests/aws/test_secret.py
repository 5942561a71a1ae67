from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from email_gateway.aws.failures import AwsRefused, RotationFailed
from email_gateway.aws.secret import Secret, find_current_value
from tests.aws.rotating import STEPS, VALUES, Rotating, everything_said_by

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


class Faulty:
    """A client whose one action answers something else; `error` is raised, `answer` returned."""

    def __init__(
        self, real: "SecretsManagerClient", action: str, *, error: Exception | None = None, answer: Any = None
    ) -> None:
        self._real, self._action, self._error, self._answer = real, action, error, answer

    def __getattr__(self, action: str) -> Any:
        return self._fail if action == self._action else getattr(self._real, action)

    def _fail(self, **parameters: Any) -> Any:
        if self._error is not None:
            raise self._error
        return self._answer


def refused(code: str, action: str = "PutSecretValue") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "MARK"}, "ResponseMetadata": {"HTTPStatusCode": 400}},  # type: ignore[typeddict-item]
        action,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refused("ThrottlingException"), "ThrottlingException"),
        (refused("<MARK>"), "HTTP 400"),
        (ParamValidationError(report="MARK"), "ParamValidationError"),
        (ReadTimeoutError(endpoint_url="MARK"), "ReadTimeoutError"),
        (ResponseParserError("MARK"), "ResponseParserError"),
        (KeyError("MARK"), "KeyError"),
    ],
)
def test_what_the_client_raises_keeps_its_code_and_loses_its_text(
    rotating: Rotating, error: Exception, code: str
) -> None:
    version_id = rotating.begin("encryption-key")
    client: Any = Faulty(rotating.client, "put_secret_value", error=error)
    with pytest.raises(AwsRefused) as failed:
        rotating.take("createSecret", "encryption-key", version_id, client=client)
    assert failed.value.code == code
    told = everything_said_by(failed.value)
    assert f"createSecret of {rotating.prefix}/encryption-key: PutSecretValue failed: {code}" in told
    assert "MARK" not in told


def test_a_denial_says_what_to_allow(rotating: Rotating) -> None:
    client: Any = Faulty(rotating.client, "describe_secret", error=refused("AccessDeniedException", "DescribeSecret"))
    with pytest.raises(AwsRefused, match="allow the function's role secretsmanager:DescribeSecret"):
        rotating.take("createSecret", "encryption-key", rotating.begin("encryption-key"), client=client)


def test_a_value_that_another_run_stored_in_between_is_kept(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    client: Any = Faulty(rotating.client, "put_secret_value", error=refused("ResourceExistsException"))
    rotating.take("createSecret", "encryption-key", version_id, client=client)


@pytest.mark.parametrize("code", ["LimitExceededException", "AccessDeniedException"])
def test_labels_that_cannot_be_set_do_not_stop_the_promotion(
    rotating: Rotating, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    version_id = rotating.begin("encryption-key")
    for step in STEPS[:3]:
        rotating.take(step, "encryption-key", version_id)
    client: Any = Labelling(rotating.client, code)
    rotating.take("finishSecret", "encryption-key", version_id, client=client)

    old = rotating.versions["encryption-key"]
    assert rotating.labels("encryption-key") == {version_id: {"AWSCURRENT", "AWSPENDING"}, old: {"AWSPREVIOUS"}}
    for told in (
        f"version {version_id} has no label EGW-",
        f"version {old} has no label EGW-",
        "AWSPENDING, to no harm",
    ):
        assert told in caplog.text
    assert caplog.text.count(code) == 3


class Labelling:
    """A client that may move AWSCURRENT and no other label."""

    def __init__(self, real: "SecretsManagerClient", code: str) -> None:
        self._real, self._code = real, code

    def __getattr__(self, action: str) -> Any:
        return getattr(self._real, action)

    def update_secret_version_stage(self, **parameters: Any) -> Any:
        if parameters["VersionStage"] != "AWSCURRENT":
            raise refused(self._code, "UpdateSecretVersionStage")
        return self._real.update_secret_version_stage(**parameters)


class Forgetful(Labelling):
    """A client that loses the answer to the promotion, so that the repeat finds the label moved."""

    def update_secret_version_stage(self, **parameters: Any) -> Any:
        answer = self._real.update_secret_version_stage(**parameters)
        if parameters["VersionStage"] == "AWSCURRENT":
            raise refused(self._code, "UpdateSecretVersionStage")
        return answer


def test_a_promotion_whose_answer_was_lost_counts(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    for step in STEPS[:3]:
        rotating.take(step, "encryption-key", version_id)
    client: Any = Forgetful(rotating.client, "InvalidParameterException")
    rotating.take("finishSecret", "encryption-key", version_id, client=client)
    rotating.assert_rotated("encryption-key", version_id)


def test_a_promotion_that_is_refused_is_a_failure(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    for step in STEPS[:3]:
        rotating.take(step, "encryption-key", version_id)
    client: Any = Faulty(rotating.client, "update_secret_version_stage", error=refused("AccessDeniedException"))
    with pytest.raises(AwsRefused, match="secretsmanager:UpdateSecretVersionStage"):
        rotating.take("finishSecret", "encryption-key", version_id, client=client)
    assert rotating.value("encryption-key", "AWSCURRENT") == VALUES["encryption-key"]


@pytest.mark.parametrize("answer", [{}, {"SecretBinary": b"MARK"}, {"SecretString": 7}])
def test_a_value_that_is_not_text_is_refused(rotating: Rotating, answer: dict[str, object]) -> None:
    version_id = rotating.begin("encryption-key")
    client: Any = Faulty(rotating.client, "get_secret_value", answer=answer)
    with pytest.raises(RotationFailed, match="not text") as failed:
        rotating.take("createSecret", "encryption-key", version_id, client=client)
    assert "MARK" not in everything_said_by(failed.value)


def test_what_is_no_answer_of_secrets_manager_is_refused(rotating: Rotating) -> None:
    client: Any = Faulty(rotating.client, "describe_secret", answer={})
    with pytest.raises(RotationFailed, match="AWS_ENDPOINT_URL"):
        Secret.describe(client, "a/encryption-key")


def test_a_secret_that_is_not_there_has_no_current_value(rotating: Rotating) -> None:
    assert find_current_value(rotating.client, f"{rotating.prefix}/nothing") is None


def test_the_token_of_a_rotation_across_accounts_goes_to_put_secret_value_and_nowhere_else(
    rotating: Rotating, caplog: pytest.LogCaptureFixture
) -> None:
    token = "MARK-rotation-token-of-an-account-0123456789"
    version_id = rotating.begin("encryption-key")
    sent: dict[str, list[dict[str, Any]]] = {}

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        sent.setdefault(model.name, []).append(dict(params))

    rotating.client.meta.events.register("provide-client-params.secrets-manager", note)
    try:
        for step in STEPS:
            rotating.take(step, "encryption-key", version_id, rotation_token=token)
    finally:
        rotating.client.meta.events.unregister("provide-client-params.secrets-manager", note)

    assert [call["RotationToken"] for call in sent.pop("PutSecretValue")] == [token]
    assert token not in repr(sent)
    assert token not in repr(rotating.gateway.asked)
    assert token not in caplog.text


def test_every_read_of_a_value_names_a_label(rotating: Rotating) -> None:
    asked: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        asked.append(dict(params))

    rotating.client.meta.events.register("provide-client-params.secrets-manager.GetSecretValue", note)
    try:
        rotating.rotate("encryption-key", rotating.begin("encryption-key"))
    finally:
        rotating.client.meta.events.unregister("provide-client-params.secrets-manager.GetSecretValue", note)
    assert asked
    assert all(call.get("VersionStage") in ("AWSCURRENT", "AWSPENDING") for call in asked)
