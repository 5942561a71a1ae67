"""What the image and the compose file promise, checked by reading them: no engine is needed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def instructions(name: str, text: str = DOCKERFILE) -> list[str]:
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")]


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_every_service_is_hardened(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service.get("user") not in ("root", "0")


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8025:8025"]}
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["data"]
    assert COMPOSE["networks"]["data"]["internal"] is True


def test_no_secret_stands_in_the_compose_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|_KEY$|_SALT$", name):
                assert value.startswith("${"), name


def test_only_the_migrations_log_in_as_the_owner_and_nobody_as_the_superuser() -> None:
    urls = {name: service.get("environment", {}).get("DATABASE_URL", "") for name, service in SERVICES.items()}
    logins = {
        name: match.groups()
        for name, url in urls.items()
        if (match := re.match(r"postgresql://(\w+):\$\{(\w+):\?", url))
    }
    process = ("email_gateway_process", "PROCESS_PASSWORD")
    owner = ("email_gateway_migrator", "MIGRATOR_PASSWORD")
    assert logins == {"migrate": owner, "api": process, "worker": process}
    assert not re.search("_KEY|_SALT", str(SERVICES["migrate"]["environment"]))


def test_compose_makes_the_roles_that_the_documentation_has() -> None:
    documented = (ROOT / "docs" / "settings.md").read_text()
    lines = [line for line in (ROOT / "compose.sql").read_text().splitlines() if line.endswith(";")]
    assert len(lines) == 9
    for line in lines:
        assert re.sub(r" PASSWORD :'\w+'", "", line) in documented


def test_nothing_serves_before_the_migrations_and_nothing_migrates_before_the_database() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for name in ("postgres", "redis"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    assert instructions("USER", LAST_STAGE) == ["10001:10001"]


def test_the_image_needs_no_shell() -> None:
    commands = [*instructions("RUN"), *instructions("ENTRYPOINT"), *instructions("CMD")]
    commands += [check[check.index("CMD ") + 4 :] for check in instructions("HEALTHCHECK")]
    assert len(commands) >= 6
    for command in commands:
        parts = json.loads(command)
        assert not {"sh", "bash", "/bin/sh", "-lc"} & set(parts)


def test_what_the_image_installs_is_hashed() -> None:
    installs = [json.loads(run) for run in instructions("RUN") if "install" in run]
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install


def test_what_the_image_copies_is_in_the_build_context() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in let_in or f"{Path(source).parent}/*{Path(source).suffix}" in let_in, source


def test_the_health_check_asks_a_path_that_the_api_serves() -> None:
    from email_gateway.api.routes import ROUTES

    (check,) = instructions("HEALTHCHECK")
    path = re.search(r"127\.0\.0\.1:8025(/[a-z0-9/]+)", check)
    assert path is not None
    assert path.group(1) in {route.path for route in ROUTES}
