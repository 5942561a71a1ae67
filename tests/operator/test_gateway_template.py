"""gateway.yaml and endpoint.yaml: what cfn-lint says, that they agree with the code, and what a stack would hold."""

import json
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from email_gateway.operator.account import Account
from email_gateway.operator.making import DESCRIPTIONS, State, Wanted, plan
from email_gateway.operator.policies import Guards, make_policy
from email_gateway.operator.roles import PLATFORMS, ROLES, Place, make_trust
from email_gateway.operator.stored import GENERATED
from email_gateway.operator.template_files import get_template, list_templates
from email_gateway.secrets.secret import MOST_AGE, SecretName
from email_gateway.settings import load_settings
from tests.moto_server import AWS_ENVIRONMENT, REGION
from tests.operator.cloudformation import ACCOUNT, Stack, document

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
ADMINISTRATOR, ROTATION = (
    f"arn:aws:iam::{ACCOUNT}:role/stack-{name}" for name in ("AdministratorRole", "RotationRole")
)
ISSUER = "oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE"
ATTRIBUTES = {
    "Key.Arn": KEY,
    "AdministratorRole.Arn": ADMINISTRATOR,
    "RotationRole.Arn": ROTATION,
    "RotationFunction.Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:email-gateway-rotation",
}
ROTATING = {"RotationCodeBucket": "code", "GatewayUrl": "https://mail.example.com"}
PLACE = Place.of(KEY, "email-gateway")
SIX = {SecretName(name) for name in SecretName} - {SecretName.REDIS_URL}  # that one is of stores.yaml


def gateway(**parameters: str) -> Stack:
    return Stack("gateway.yaml", parameters, ATTRIBUTES)


def lint(text: str) -> list[str]:
    from cfnlint import lint as run
    from cfnlint.config import ManualArgs

    return [str(found) for found in run(text, config=ManualArgs(regions=[REGION, "sa-east-1"]))]


@pytest.mark.parametrize("name", [name for name, what in list_templates().items() if what.startswith("CloudFormation")])
def test_cfn_lint_has_no_findings(name: str) -> None:
    assert lint(get_template(name)) == []


def test_cfn_lint_finds_a_property_that_does_not_exist() -> None:
    assert lint(get_template("gateway.yaml").replace("EnableKeyRotation", "EnableKeyRotations"))


@pytest.mark.parametrize("resource", ["ReaderPolicy", "RotationPolicy", "AdministratorPolicy"])
def test_each_policy_is_the_one_that_the_command_prints(resource: str) -> None:
    policies = gateway().of_type("AWS::IAM::ManagedPolicy")
    assert set(policies) == {"ReaderPolicy", "RotationPolicy", "AdministratorPolicy"}
    assert policies[resource]["PolicyDocument"] == ROLES[resource.removesuffix("Policy").lower()](PLACE)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_platform_is_trusted_as_the_command_prints_it(platform: str) -> None:
    stack = gateway(Platform=platform, OidcProvider=ISSUER)
    trusted = document(stack.of_type("AWS::IAM::Role")["ReaderRole"]["AssumeRolePolicyDocument"])
    assert trusted == make_trust(platform, PLACE, ISSUER)
    assert stack.template["Parameters"]["Platform"]["AllowedValues"] == list(PLATFORMS)
    assert bool(stack.of_type("AWS::IAM::InstanceProfile")) is (platform == "ec2")


def test_each_role_has_its_own_policy_and_no_other() -> None:
    stack = gateway()
    roles, policies = stack.of_type("AWS::IAM::Role"), stack.of_type("AWS::IAM::ManagedPolicy")
    for name in ("Reader", "Rotation", "Administrator"):
        assert policies[f"{name}Policy"]["Roles"] == [f"<{name}Role>"]
        assert not {"ManagedPolicyArns", "Policies"} & set(roles[f"{name}Role"])


def test_who_takes_the_roles_of_function_and_administrator_is_named() -> None:
    me = f"arn:aws:iam::{ACCOUNT}:role/me"
    roles = gateway(AdministratorPrincipal=me).of_type("AWS::IAM::Role")
    for name, principal in (("AdministratorRole", {"AWS": me}), ("RotationRole", {"Service": "lambda.amazonaws.com"})):
        (statement,) = roles[name]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == principal


def test_what_keeps_mail_readable_outlives_the_stack() -> None:
    kept = {"AWS::KMS::Key", "AWS::KMS::Alias", "AWS::SecretsManager::Secret", "AWS::SecretsManager::ResourcePolicy"}
    found = [each for each in gateway(**ROTATING).resources.values() if each["Type"] in kept]
    assert len(found) == 2 + 2 * len(SIX)
    assert {(each["DeletionPolicy"], each["UpdateReplacePolicy"]) for each in found} == {("Retain", "Retain")}


def test_the_secrets_are_those_that_init_makes() -> None:
    secrets = gateway().of_type("AWS::SecretsManager::Secret").values()
    found = {SecretName(each["Name"].removeprefix("email-gateway/")): each for each in secrets}
    assert set(found) == SIX
    for name, secret in found.items():
        assert secret["Description"] == DESCRIPTIONS[name]
        assert ("GenerateSecretString" in secret) is (name in GENERATED)
        assert "SecretString" not in secret
        assert secret["KmsKeyId"] == "<KeyAlias>"


def test_the_key_is_deleted_by_nobody_and_policies_decide_the_rest() -> None:
    (key,) = gateway().of_type("AWS::KMS::Key").values()
    allow, deny = key["KeyPolicy"]["Statement"]
    assert allow["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert (deny["Effect"], deny["Principal"], set(deny["Action"])) == (
        "Deny",
        "*",
        {"kms:DisableKey", "kms:ScheduleKeyDeletion"},
    )
    assert "Condition" not in deny


def test_nothing_rotates_before_there_is_code_for_it() -> None:
    stack = gateway()
    for kind in ("AWS::Lambda::Function", "AWS::Lambda::Permission", "AWS::SecretsManager::RotationSchedule"):
        assert stack.of_type(kind) == {}
        assert gateway(**ROTATING).of_type(kind) != {}


def test_key_and_admin_key_have_schedules_of_the_age_that_verify_allows() -> None:
    schedules = gateway(**ROTATING).of_type("AWS::SecretsManager::RotationSchedule")
    found = {each["SecretId"]: each for each in schedules.values()}
    for secret, name in (("<EncryptionKey>", SecretName.ENCRYPTION_KEY), ("<AdminApiKey>", SecretName.ADMIN_API_KEY)):
        schedule = found.pop(secret)
        assert schedule["RotationRules"] == {
            "ScheduleExpression": f"rate({MOST_AGE[name].days} days)",
            "Duration": "4h",
        }
        assert schedule["RotationLambdaARN"] == ATTRIBUTES["RotationFunction.Arn"]
        assert schedule["RotateImmediatelyOnUpdate"] is False
    assert found == {}


def test_the_function_is_the_one_that_the_zip_holds() -> None:
    from email_gateway.cli.aws.rotation_zip import ROTATION_HANDLER

    stack = gateway(**ROTATING)
    (function,) = stack.of_type("AWS::Lambda::Function").values()
    assert function["Handler"] == ROTATION_HANDLER
    assert function["FunctionName"] == PLACE.function_name
    assert function["Environment"] == {"Variables": {"GATEWAY_URL": "https://mail.example.com"}}
    assert function["Role"] == ROTATION
    assert function["Timeout"] == 90
    assert "VpcConfig" not in function
    (log,) = stack.of_type("AWS::Logs::LogGroup").values()
    assert log["LogGroupName"] == f"/aws/lambda/{PLACE.function_name}"


def test_only_this_accounts_secrets_manager_invokes_the_function() -> None:
    (permission,) = gateway(**ROTATING).of_type("AWS::Lambda::Permission").values()
    assert permission == {
        "FunctionName": ATTRIBUTES["RotationFunction.Arn"],
        "Action": "lambda:InvokeFunction",
        "Principal": "secretsmanager.amazonaws.com",
        "SourceAccount": ACCOUNT,
    }


def test_in_a_vpc_the_function_has_its_network_and_the_permission_for_it() -> None:
    stack = gateway(**ROTATING, FunctionSubnetIds="subnet-1", FunctionSecurityGroupId="sg-1")
    (function,) = stack.of_type("AWS::Lambda::Function").values()
    assert function["VpcConfig"] == {"SubnetIds": "subnet-1", "SecurityGroupIds": ["sg-1"]}
    (managed,) = stack.of_type("AWS::IAM::Role")["RotationRole"]["ManagedPolicyArns"]
    assert managed.endswith("/AWSLambdaVPCAccessExecutionRole")


def test_the_endpoint_has_subnets_and_a_group_and_no_route_tables() -> None:
    stack = Stack("endpoint.yaml", {"VpcId": "vpc-1", "SubnetIds": "subnet-1", "ClientSecurityGroupId": "sg-1"})
    (endpoint,) = stack.of_type("AWS::EC2::VPCEndpoint").values()
    assert endpoint["VpcEndpointType"] == "Interface"
    assert endpoint["SubnetIds"] == "subnet-1"
    assert endpoint["ServiceName"] == "com.amazonaws.us-east-1.secretsmanager"
    assert "RouteTableIds" not in endpoint
    assert endpoint["PolicyDocument"]["Statement"][0]["Condition"] == {
        "StringEquals": {"aws:PrincipalAccount": ACCOUNT}
    }
    (group,) = stack.of_type("AWS::EC2::SecurityGroup").values()
    (rule,) = group["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"], rule["SourceSecurityGroupId"]) == (443, 443, "sg-1")


def account_at(url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    environ = {"USE_SECRETS_MANAGER": "true", "AWS_REGION": REGION, "AWS_ENDPOINT_URL": url, "SECRETS_PREFIX": prefix}
    return Account.open(load_settings(environ))


def test_over_what_the_stack_made_init_finds_everything_there(
    moto_url: str, operator: "SecretsManagerClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    # moto's CloudFormation makes no secrets, so the template's properties are given to the API here.
    prefix = f"stack-{uuid.uuid4().hex[:12]}"
    stack = Stack("gateway.yaml", {"Prefix": prefix}, {**ATTRIBUTES, "KeyAlias": f"alias/{prefix}"})
    make: Any = boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
    ).client
    kms = make("kms", endpoint_url=moto_url)
    (key,) = stack.of_type("AWS::KMS::Key").values()
    made = kms.create_key(Tags=[{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in key["Tags"]])
    (alias,) = stack.of_type("AWS::KMS::Alias").values()
    kms.create_alias(AliasName=alias["AliasName"], TargetKeyId=made["KeyMetadata"]["KeyId"])
    for name, secret in stack.of_type("AWS::SecretsManager::Secret").items():
        generated = secret.pop("GenerateSecretString", None)
        if generated is not None:
            secret["SecretString"] = operator.get_random_password(**generated)["RandomPassword"]
        operator.create_secret(**secret)
        policy = stack.of_type("AWS::SecretsManager::ResourcePolicy")[f"{name}Policy"]
        assert policy["SecretId"] == f"<{name}>"
        assert policy["BlockPublicPolicy"] is True
        operator.put_resource_policy(SecretId=secret["Name"], ResourcePolicy=json.dumps(policy["ResourcePolicy"]))
    account = account_at(moto_url, prefix, monkeypatch)
    guards = Guards(administrator=ADMINISTRATOR, rotation=ROTATION)
    steps = plan(account, Wanted.of(SIX, guards))
    assert {step.state for step in steps if step.what != "value"} == {State.THERE}
    assert {step.state for step in steps if step.what == "value"} == {State.YOURS}
    assert len([step for step in steps if step.what == "policy"]) == len(SIX)


def test_a_generated_value_is_one_that_the_gateway_takes(operator: "SecretsManagerClient") -> None:
    from email_gateway.secrets.secret import SECRETS

    form = {
        json.dumps(each.get("GenerateSecretString"))
        for each in gateway().of_type("AWS::SecretsManager::Secret").values()
    }
    (generated,) = (json.loads(each) for each in form if each != "null")
    for known in SECRETS:
        if known.name in GENERATED:
            value = operator.get_random_password(**generated)["RandomPassword"]
            assert known.read_stored(value) == value


def test_the_resource_policies_are_those_of_init() -> None:
    stack = gateway()
    secrets = stack.of_type("AWS::SecretsManager::Secret")
    for name, policy in stack.of_type("AWS::SecretsManager::ResourcePolicy").items():
        secret = SecretName(secrets[name.removesuffix("Policy")]["Name"].removeprefix("email-gateway/"))
        assert policy["ResourcePolicy"] == make_policy(secret, Guards(administrator=ADMINISTRATOR, rotation=ROTATION))


@pytest.mark.filterwarnings("ignore:Tried to parse")  # moto names what it does not make: secrets and their policies
def test_moto_deploys_it(moto_url: str) -> None:
    make: Any = boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
    ).client
    cloudformation, iam, kms = (make(service, endpoint_url=moto_url) for service in ("cloudformation", "iam", "kms"))
    prefix = f"deployed-{uuid.uuid4().hex[:8]}"
    # moto takes a KMS key's tags in the form of KMS's API only, and fails on those of CloudFormation.
    tags = '      Tags:\n        - {Key: "email-gateway:prefix", Value: !Ref Prefix}\n\n'
    text = get_template("gateway.yaml").replace(tags, "\n", 1)
    given = {"Prefix": prefix, "AdministratorPrincipal": f"arn:aws:iam::{ACCOUNT}:role/me"}
    cloudformation.create_stack(
        StackName=prefix,
        TemplateBody=text,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
    )
    (stack,) = cloudformation.describe_stacks(StackName=prefix)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    assert f"alias/{prefix}" in {alias["AliasName"] for alias in kms.list_aliases()["Aliases"]}
    for output in ("ReaderRoleArn", "RotationRoleArn", "AdministratorRoleArn"):
        name = outputs[output].rpartition("/")[2]
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        assert len(attached) == 1, output
