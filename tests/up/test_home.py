import os
import stat
from pathlib import Path

import pytest

from email_gateway.errors import ConfigurationError
from email_gateway.up.home import Credentials, Home, Runtime

RUNTIME = Runtime(4711, "http://127.0.0.1:8025/v1", "postgresql://somewhere")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_credentials_are_random_and_kept_for_the_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made = Credentials.make()
    home.keep_credentials(made)

    assert Home(tmp_path).find_credentials() == made
    assert mode_of(home.credentials_file) == 0o600
    assert len({made.encryption_key, made.encryption_salt, made.admin_api_key}) == 3
    assert Credentials.make() != made


def test_before_the_first_start_there_are_no_credentials(tmp_path: Path) -> None:
    assert Home(tmp_path).find_credentials() is None


def test_data_without_its_credentials_is_refused_rather_than_sealed_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="put it back from a backup"):
        Home(tmp_path).find_credentials()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"encryption_key": "only this"}'])
def test_a_damaged_file_of_credentials_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "credentials.json").write_text(text)
    with pytest.raises(ConfigurationError, match="backup") as refused:
        Home(tmp_path).find_credentials()
    assert "only this" not in str(refused.value)


def test_a_home_serves_one_gateway_at_a_time(tmp_path: Path) -> None:
    with (
        Home(tmp_path).held(),
        pytest.raises(ConfigurationError, match=f"process {os.getpid()}"),
        Home(tmp_path).held(),
    ):
        pass
    with Home(tmp_path).held():
        pass


def test_a_home_is_made_on_first_use_with_the_mode_that_its_server_needs(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home")
    with home.held():
        assert mode_of(home.path) & 0o777 == (0o755 if os.geteuid() == 0 else 0o700)


def test_a_home_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--home"), Home(tmp_path / "file" / "home").held():
        pass


def test_what_runs_is_found_while_it_runs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.held():
        home.publish(RUNTIME)
        assert Home(tmp_path).find_runtime() == RUNTIME
        assert mode_of(tmp_path / "runtime.json") == 0o600
        home.withdraw()
        assert Home(tmp_path).find_runtime() is None


def test_what_a_killed_gateway_left_is_not_believed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.held():
        home.publish(RUNTIME)
    assert (tmp_path / "runtime.json").exists()
    assert home.find_runtime() is None


def test_asking_does_not_keep_a_gateway_from_starting(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.publish(RUNTIME)
    home.find_runtime()
    with home.held():
        pass
