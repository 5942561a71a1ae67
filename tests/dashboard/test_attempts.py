from email_gateway.dashboard.attempts import MAX_ADDRESSES, MAX_FAILURES, LoginAttempts


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def failed(attempts: LoginAttempts, client: str, times: int = MAX_FAILURES) -> None:
    for _ in range(times):
        attempts.add_failure(client)


def test_after_ten_failures_a_client_waits_and_then_may_try_again() -> None:
    clock = Clock()
    attempts = LoginAttempts(clock)
    failed(attempts, "203.0.113.9", 9)
    assert attempts.wait_seconds("203.0.113.9") == 0
    failed(attempts, "203.0.113.9", 1)
    assert attempts.wait_seconds("203.0.113.9") == 600
    clock.now += 599.5
    assert attempts.wait_seconds("203.0.113.9") == 1
    clock.now += 1
    assert attempts.wait_seconds("203.0.113.9") == 0


def test_another_client_does_not_wait() -> None:
    attempts = LoginAttempts(Clock())
    failed(attempts, "203.0.113.9")
    assert attempts.wait_seconds("203.0.113.10") == 0


def test_one_ipv6_network_counts_as_one_client() -> None:
    attempts = LoginAttempts(Clock())
    failed(attempts, "2001:db8:0:1::5")
    assert attempts.wait_seconds("2001:db8:0:1:ffff::9") > 0
    assert attempts.wait_seconds("2001:db8:0:2::5") == 0


def test_an_ipv4_address_is_one_client_in_both_spellings() -> None:
    attempts = LoginAttempts(Clock())
    failed(attempts, "::ffff:203.0.113.9")
    assert attempts.wait_seconds("203.0.113.9") > 0
    assert attempts.wait_seconds("::ffff:203.0.113.10") == 0


def test_many_addresses_do_not_fill_the_memory() -> None:
    attempts = LoginAttempts(Clock())
    for n in range(MAX_ADDRESSES + 500):
        attempts.add_failure(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}")
    assert len(attempts._failures) == MAX_ADDRESSES
