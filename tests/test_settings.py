import os
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from email_gateway.errors import ConfigurationError
from email_gateway.settings import SETTINGS, Settings, advise_tls, describe_settings, load_settings

LOCAL = {
    "ENCRYPTION_KEY": "MARK-key-" + "k" * 32,
    "ENCRYPTION_SALT": "MARK-salt-" + "s" * 32,
    "ADMIN_API_KEY": "MARK-admin-" + "a" * 32,
}
PRODUCTION = {"APP_ENV": "production", "AWS_REGION": "us-east-1", "TRANSPORT": "smtp"}


def refused(environ: dict[str, str], **options: object) -> str:
    with pytest.raises(ConfigurationError) as error:
        load_settings(environ, **options)  # type: ignore[arg-type]
    return str(error.value)


def test_development_needs_the_three_keys_and_nothing_else() -> None:
    settings = load_settings(LOCAL)
    assert settings.app_env == "development"
    assert settings.use_secrets_manager is False
    assert settings.encryption_key == LOCAL["ENCRYPTION_KEY"]
    assert settings.database_url is None
    assert settings.secrets_prefix == "email-gateway"
    assert settings.secrets_cache == timedelta(seconds=300)
    assert (settings.transport, settings.log_format, settings.log_level) == ("inbox", "console", "INFO")
    assert (settings.api_host, settings.api_port, settings.api_processes) == ("127.0.0.1", 8025, 1)
    assert settings.trusted_proxies == ()
    assert settings.worker_concurrency == 100
    assert (settings.max_doubts, settings.route_connections, settings.route_rate) == (2, 20, 0)
    assert settings.warnings == ()


def test_every_problem_is_listed_at_once() -> None:
    problems = refused({"API_PORT": "http", "LOG_LEVEL": "loud", "ENCRYPTION_KEY": "short"})
    for name in ("API_PORT", "LOG_LEVEL", "ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY"):
        assert problems.count(f"  - {name} ") == 1


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
def test_no_problem_echoes_a_value(name: str) -> None:
    problems = refused({**LOCAL, name: "MARK @\x01 {}"})
    assert f"  - {name} must " in problems
    assert "MARK" not in problems


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"APP_ENV": "test"}, False),
        ({"APP_ENV": "staging"}, True),
        ({"APP_ENV": "PRODUCTION"}, True),
        ({"NODE_ENV": "production"}, True),
        ({"APP_ENV": "development", "NODE_ENV": "production"}, False),
        ({"APP_ENV": "production", "NODE_ENV": "development"}, True),
        ({"USE_SECRETS_MANAGER": "true"}, True),
        ({"APP_ENV": "staging", "USE_SECRETS_MANAGER": "false"}, False),
        ({"APP_ENV": "production", "USE_SECRETS_MANAGER": "TRUE"}, True),
        ({"APP_ENV": "", "NODE_ENV": "production", "USE_SECRETS_MANAGER": " "}, True),
    ],
)
def test_secrets_manager_is_chosen_by_the_flag_then_by_the_environment(environ: dict[str, str], is_on: bool) -> None:
    settings = load_settings({**LOCAL, "AWS_REGION": "us-east-1", "TRANSPORT": "inbox", **environ})
    assert settings.use_secrets_manager is is_on


def test_production_refuses_to_go_without_secrets_manager() -> None:
    problems = refused({**LOCAL, **PRODUCTION, "USE_SECRETS_MANAGER": "false"})
    assert "USE_SECRETS_MANAGER cannot be false in production" in problems
    assert problems.count("  - ") == 1


def test_secrets_manager_needs_a_region_by_either_of_its_names() -> None:
    assert "AWS_REGION must be set" in refused({"APP_ENV": "production", "TRANSPORT": "smtp"})
    by_default = {"APP_ENV": "production", "TRANSPORT": "smtp", "AWS_DEFAULT_REGION": "sa-east-1"}
    assert load_settings(by_default).aws_region == "sa-east-1"


def test_a_login_by_iam_needs_a_region_also_where_secrets_manager_is_off() -> None:
    by_iam = {**LOCAL, "DATABASE_IAM_AUTH": "true"}
    assert "AWS_REGION must be set to the region of the database" in refused(by_iam)
    assert load_settings({**by_iam, "AWS_REGION": "sa-east-1"}).database_iam_auth


@pytest.mark.parametrize(("given", "missing"), [("TLS_CERT_FILE", "TLS_KEY_FILE"), ("TLS_KEY_FILE", "TLS_CERT_FILE")])
def test_a_certificate_and_its_key_are_given_together(given: str, missing: str) -> None:
    assert f"{missing} must be set where {given} is" in refused({**LOCAL, given: "/etc/server.pem"})


def test_keys_of_the_environment_are_dropped_while_secrets_manager_is_on() -> None:
    settings = load_settings({**LOCAL, **PRODUCTION})
    assert (settings.encryption_key, settings.encryption_salt, settings.admin_api_key) == (None, None, None)
    assert any("are ignored" in warning for warning in settings.warnings)
    assert load_settings({**PRODUCTION, "ENCRYPTION_KEY": "short"}).encryption_key is None


def test_key_and_salt_must_differ() -> None:
    problems = refused({**LOCAL, "ENCRYPTION_SALT": LOCAL["ENCRYPTION_KEY"]})
    assert "ENCRYPTION_SALT must differ from ENCRYPTION_KEY" in problems


@pytest.mark.parametrize("value", ["a" * 31, "a" * 40 + " b", "a" * 40 + "\u00e9", "a" * 5000])
def test_an_admin_key_must_be_long_and_fit_a_header(value: str) -> None:
    assert "ADMIN_API_KEY must " in refused({**LOCAL, "ADMIN_API_KEY": value})


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:9464", ("::1", 9464)), ("0.0.0.0:1", ("0.0.0.0", 1))],
)
def test_metrics_listen_on_an_address_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert load_settings({**LOCAL, "METRICS_LISTEN": text}).metrics_listen == address
    assert load_settings(LOCAL).metrics_listen is None


@pytest.mark.parametrize("text", ["9464", "localhost:9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", ":9464"])
def test_metrics_listen_on_nothing_else(text: str) -> None:
    assert "METRICS_LISTEN must be an IP address and a port" in refused({**LOCAL, "METRICS_LISTEN": text})


@pytest.mark.parametrize("transport", ["ses", "mx", "SES"])
def test_transports_of_a_later_release_are_refused_saying_so(transport: str) -> None:
    assert f"TRANSPORT cannot be {transport.lower()} yet" in refused({**LOCAL, "TRANSPORT": transport})


@pytest.mark.parametrize("app_env", ["production", "staging"])
def test_where_people_expect_their_mail_somebody_must_say_how_it_leaves(app_env: str) -> None:
    deployed = {"APP_ENV": app_env, "AWS_REGION": "us-east-1"}
    problems = refused(deployed)
    assert f"  - TRANSPORT must be set in {app_env}: to smtp" in problems
    assert "or to inbox, which sends nothing and keeps the mail" in problems
    assert problems.count("  - ") == 1
    assert refused({**deployed, "TRANSPORT": " "}) == problems
    assert load_settings({**deployed, "TRANSPORT": "smtp"}).transport == "smtp"


@pytest.mark.parametrize("app_env", ["development", "test"])
def test_where_developers_work_mail_stays_in_the_inbox_unless_told_otherwise(app_env: str) -> None:
    settings = load_settings({**LOCAL, "APP_ENV": app_env})
    assert (settings.transport, settings.keeps_mail, settings.warnings) == ("inbox", False, ())


@pytest.mark.parametrize("app_env", ["production", "staging"])
def test_an_inbox_that_was_asked_for_by_name_where_people_expect_their_mail_is_warned_of(app_env: str) -> None:
    deployed = {"APP_ENV": app_env, "AWS_REGION": "us-east-1"}
    settings = load_settings({**deployed, "TRANSPORT": "inbox"})
    assert settings.keeps_mail
    assert settings.warnings == ("TRANSPORT is inbox: mail is kept here and not sent to anyone.",)
    assert not load_settings({**deployed, "TRANSPORT": "smtp"}).keeps_mail


def test_smtp_needs_a_smarthost_unless_a_secret_may_hold_it() -> None:
    assert "SMTP_URL must be set for TRANSPORT=smtp" in refused({**LOCAL, "TRANSPORT": "smtp"})
    assert load_settings({**PRODUCTION, "TRANSPORT": "smtp"}).smtp_url is None


@pytest.mark.parametrize(
    "url",
    [
        "smtp://user:password@relay.example.com:587?tls=required",
        "smtps://user:password@relay.example.com:465",
        "smtp://AKIAEXAMPLE:Aq+Am/U8ma@relay.example.com:587",
    ],
)
def test_a_smarthost_is_taken_in_every_form_that_delivery_reads(url: str) -> None:
    assert load_settings({**LOCAL, "TRANSPORT": "smtp", "SMTP_URL": url}).smtp_url == url


def test_a_percent_sign_in_a_password_that_cannot_be_decoded_is_told_how_to_be_written() -> None:
    problems = refused({**LOCAL, "TRANSPORT": "smtp", "SMTP_URL": "smtp://user:MARK%ff@host"})
    assert "SMTP_URL must have a % in the user or the password written as %25" in problems
    assert "MARK" not in problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://host/db"),
        ("DATABASE_URL", "postgresql://host:port/db"),
        ("DATABASE_URL", "host/db"),
        ("REDIS_URL", "http://host"),
        ("REDIS_URL", "redis://"),
        ("SMTP_URL", "smtps://host:465?tls=none"),
        ("SMTP_URL", "smtp://host?tls=maybe"),
        ("SMTP_URL", "smtp://[::1"),
        ("AWS_ENDPOINT_URL", "vpce.example.com"),
        ("AWS_REGION", "Virginia"),
        ("SECRETS_PREFIX", "email-gateway/"),
        ("SECRETS_PREFIX", "a b"),
        ("SECRETS_CACHE_SECONDS", "0"),
        ("SECRETS_CACHE_SECONDS", "5m"),
        ("API_PORT", "65536"),
        ("API_PORT", "-1"),
        ("API_PORT", "\u0661\u0662"),
        ("API_PROCESSES", "0"),
        ("WORKER_CONCURRENCY", "1e3"),
        ("MAX_DOUBTS", "11"),
        ("ROUTE_CONNECTIONS", "0"),
        ("ROUTE_RATE", "1000001"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("TLS_CERT_FILE", "server.pem"),
        ("DATABASE_IAM_AUTH", "perhaps"),
        ("USE_SECRETS_MANAGER", "maybe"),
        ("APP_ENV", "prod"),
        ("NODE_ENV", "prod"),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_by_name(name: str, value: str) -> None:
    assert f"  - {name} must " in refused({**LOCAL, name: value})


@pytest.mark.parametrize(
    "url", ["postgresql://u:p@h:5432/d", "postgres://h/d", "postgresql:///d?host=/run/pg", "postgresql://a:1,b:2/d"]
)
def test_the_forms_of_a_database_url_that_postgresql_takes(url: str) -> None:
    assert load_settings({**LOCAL, "DATABASE_URL": url}).database_url == url


def test_networks_are_read_in_both_families() -> None:
    settings = load_settings({**LOCAL, "TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.7  fd00::/8"})
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("192.0.2.7"), ip_network("fd00::/8"))


def test_what_was_handed_over_goes_before_the_environment_and_generated_values_last() -> None:
    settings = load_settings(
        {"API_PORT": "1111", "LOG_LEVEL": "debug"},
        {"API_PORT": "2222"},
        generated={**LOCAL, "API_PORT": "3333", "LOG_LEVEL": "ERROR", "API_PROCESSES": "2"},
    )
    assert (settings.api_port, settings.log_level, settings.api_processes) == (2222, "DEBUG", 2)


def write_dotenv(directory: Path) -> Path:
    path = directory / ".env"
    path.write_text(
        "USE_SECRETS_MANAGER=false\n"
        'ENCRYPTION_KEY="MARK-from-file-${HOME}-0123456789-0123456789"\n'
        f"ENCRYPTION_SALT={LOCAL['ENCRYPTION_SALT']}\nADMIN_API_KEY={LOCAL['ADMIN_API_KEY']}\nAPI_PORT=4444\n"
    )
    return path


def test_dotenv_is_read_in_development_below_the_environment_and_never_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dotenv(tmp_path)
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS:
        for name in (setting.name, *setting.also):
            monkeypatch.delenv(name, raising=False)
    settings = load_settings()
    assert settings.encryption_key == "MARK-from-file-${HOME}-0123456789-0123456789"
    assert settings.api_port == 4444
    assert "ENCRYPTION_KEY" not in os.environ
    monkeypatch.setenv("API_PORT", "5555")
    assert load_settings().api_port == 5555


@pytest.mark.parametrize("app_env", ["production", "staging", "test"])
def test_dotenv_is_not_read_outside_development(tmp_path: Path, app_env: str) -> None:
    environ = {**LOCAL, "APP_ENV": app_env, "AWS_REGION": "us-east-1", "TRANSPORT": "inbox"}
    assert load_settings(environ, dotenv=write_dotenv(tmp_path)).api_port == 8025


def test_dotenv_cannot_turn_itself_into_production(tmp_path: Path) -> None:
    path = write_dotenv(tmp_path)
    path.write_text(path.read_text() + "NODE_ENV=production\n")
    assert "APP_ENV in .env can only be development" in refused({}, dotenv=path)


def test_a_dotenv_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    assert ".env cannot be read as UTF-8 text" in refused(LOCAL, dotenv=tmp_path / ".env")


def test_the_repr_hides_every_field_that_may_hold_a_credential() -> None:
    urls = {"DATABASE_URL": "postgresql://u:MARK@h/d", "REDIS_URL": "redis://:MARK@h", "SMTP_URL": "smtp://u:MARK@h"}
    settings = load_settings({**LOCAL, **urls})
    assert "MARK" not in repr(settings)
    assert "MARK" not in f"{settings}"


def test_every_setting_has_one_sentence_and_a_field() -> None:
    described = describe_settings()
    assert len({name for name, _, _ in described}) == len(described) <= 40
    assert all(sentence.endswith(".") and len(sentence) <= 150 for _, _, sentence in described)
    assert len(described) == len(Settings.__dataclass_fields__) - 2  # `warnings`, `is_database_embedded`


@pytest.mark.parametrize(
    ("url", "is_advised"),
    [
        ("postgresql://u:p@db.example.com/d", True),
        ("postgresql://u:p@db.example.com/d?sslmode=require", True),
        ("postgresql://u:p@db.example.com/d?sslmode=verify-full", False),
        ("postgresql://u:p@127.0.0.1/d", False),
        ("postgresql://u:p@[::1]/d", False),
        ("postgresql:///d?host=/run/postgresql", False),
        (None, False),
    ],
)
def test_a_database_elsewhere_without_verified_tls_is_warned_of(url: str | None, is_advised: bool) -> None:
    assert (advise_tls("DATABASE_URL", url) is not None) is is_advised


def test_production_warns_and_starts() -> None:
    settings = load_settings(
        {
            **PRODUCTION,
            "TRANSPORT": "inbox",
            "DATABASE_URL": "postgresql://u:MARK@db.example.com/d",
            "AWS_ENDPOINT_URL": "http://aws.example.com",
        }
    )
    assert [warning.split()[0] for warning in settings.warnings] == ["DATABASE_URL", "TRANSPORT", "AWS_ENDPOINT_URL"]
    assert "MARK" not in " ".join(settings.warnings)


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"APP_ENV": "staging"}, False),
        ({"APP_ENV": "production"}, True),
        ({"APP_ENV": "production", "REQUIRE_VERIFIED_DOMAINS": "false"}, False),
        ({"REQUIRE_VERIFIED_DOMAINS": "true"}, True),
    ],
)
def test_domains_must_be_verified_in_production_and_where_it_is_asked_for(environ: dict[str, str], is_on: bool) -> None:
    settings = load_settings({**LOCAL, "AWS_REGION": "us-east-1", "TRANSPORT": "inbox", **environ})
    assert settings.require_verified_domains is is_on


def test_dns_servers_are_addresses_with_a_port_or_without() -> None:
    settings = load_settings({**LOCAL, "DNS_RESOLVERS": "10.0.0.2, 127.0.0.1:5353 ::1 [::1]:5353"})
    assert settings.dns_resolvers == (("10.0.0.2", 53), ("127.0.0.1", 5353), ("::1", 53), ("::1", 5353))
    assert load_settings(LOCAL).dns_resolvers == ()
    for wrong in ("dns.example", "10.0.0.2:0", "10.0.0.2:99999", "10.0.0.300"):
        assert "DNS_RESOLVERS must be IP addresses" in refused({**LOCAL, "DNS_RESOLVERS": wrong})
