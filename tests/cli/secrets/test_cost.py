"""`secrets cost`: the arithmetic, which needs no account."""

from tests.cli.secrets.conftest import Shell


def test_two_processes_and_four_secrets(shell: Shell) -> None:
    ran = shell.run("cost", "--processes", "2", "--secrets", "4")
    assert ran.code == 0
    for shown in (
        "30 days / 300 s = 8,640",
        "2 processes x 4 secrets x 8,640 = 69,120",
        "4 x 0.40",
        "0.35",
        "1.60",
        "2.95",
    ):
        assert shown in ran.out
    assert "September 2026" in ran.out
    assert shell.proxy.requests == []


def test_machines_get_exact_figures(shell: Shell) -> None:
    told = shell.run("cost", "--processes", "2", "--secrets", "4", "--json").told
    assert told["calls"] == 69_120
    assert told["calls_dollars"] == "0.3456"
    assert told["secrets_dollars"] == "1.60"
    assert told["total_dollars"] == "2.9456"
    assert told["most_calls"] == round(2 * 7 * 8640 / 0.8)


def test_a_longer_cache_makes_fewer_calls(shell: Shell) -> None:
    assert (
        shell.run("cost", "--processes", "2", "--secrets", "4", "--cache-seconds", "600", "--json").told["calls"]
        == 34_560
    )


def test_numbers_must_be_given(shell: Shell) -> None:
    assert shell.run("cost", "--processes", "2").code == 2
    assert shell.run("cost", "--processes", "0", "--secrets", "1").code == 2
