import pytest

from email_gateway.errors import AwsRefused, ConfigurationError
from email_gateway.operator.account import Account, advise
from email_gateway.secrets.failures import FetchFailed, classify_answer
from email_gateway.settings import load_settings
from tests.moto_server import AWS_ENVIRONMENT, REGION

LOCAL = {name: f"{name}-for-a-test-of-the-account" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT")} | {
    "ADMIN_API_KEY": "an-admin-key-for-a-test-of-the-account"
}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def open_account(**environ: str) -> Account:
    return Account.open(load_settings({**LOCAL, "AWS_REGION": REGION, **environ}))


@pytest.mark.parametrize(
    ("prefix", "alias"),
    [
        ("email-gateway", "alias/email-gateway"),
        ("company/mail_1", "alias/company/mail_1"),
        ("mail.example.com+a=b@c", "alias/mail-example-com-a-b-c"),
    ],
)
def test_the_alias_is_the_prefix_in_the_characters_that_an_alias_may_have(prefix: str, alias: str) -> None:
    assert open_account(SECRETS_PREFIX=prefix).kms_alias == alias


def test_a_profile_that_does_not_exist_is_a_matter_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match="AWS_PROFILE"):
        open_account()


def test_parameters_that_the_client_refuses_are_not_quoted() -> None:
    with pytest.raises(AwsRefused) as refused:
        open_account().call("secretsmanager:PutSecretValue", on="a", SecretId="a", SecretString=7, MARK="MARK")
    assert refused.value.aws_code == "ParamValidationError"
    assert "MARK" not in f"{refused.value!r} {refused.value} {refused.value.next_step}"
    assert refused.value.__context__ is None


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        ("AccessDeniedException", 400, "allow kms:CreateKey to this role"),
        ("ExpiredTokenException", 400, "aws sts get-caller-identity"),
        ("UnauthorizedSSOTokenError", 0, "aws sso login"),
        ("DisabledException", 400, "the KMS key is enabled"),
        ("MalformedPolicyDocumentException", 400, "role ARNs exist"),
        ("ResourceNotFoundException", 400, "AWS_REGION and SECRETS_PREFIX"),
        ("ThrottlingException", 400, "wait a minute"),
        ("InternalServiceError", 500, "check the network"),
        ("SomethingNew", 400, "AWS_ENDPOINT_URL"),
    ],
)
def test_every_kind_of_error_has_a_next_step(code: str, status: int, advice: str) -> None:
    assert advice in advise("kms:CreateKey", FetchFailed(classify_answer(code, status), code))
