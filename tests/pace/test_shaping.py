"""Which server is known by its name, and that whose mail it takes plays no part."""

import pytest

from email_gateway.pace import Shape, shape_of
from email_gateway.pace.shaping import SHAPES


@pytest.mark.parametrize(
    ("host", "shape"),
    [
        ("smtp.office365.com", Shape(connections=3, per_second=0.5)),
        ("SMTP.Office365.com.", Shape(connections=3, per_second=0.5)),
        ("smtp.gmail.com", Shape(recipients=100)),
        ("smtp-relay.gmail.com", Shape(recipients=100)),
        ("gmail-smtp-in.l.google.com", Shape(connections=5, mails=50)),
        ("aspmx2.googlemail.com", Shape(connections=5, mails=50)),
        ("hotmail-com.olc.protection.outlook.com", Shape(connections=5, mails=50)),
        ("acme-com-br.mail.protection.outlook.com", Shape(connections=5, mails=50)),
        ("acme-com.v-v1.mx.microsoft", Shape(connections=5, mails=50)),
        ("mta5.am0.yahoodns.net", Shape(mails=20)),
        ("mx01.mail.icloud.com", Shape(connections=10, mails=5)),
        ("smtp-in.orange.fr", Shape(connections=2)),
        ("mx2h1.comcast.net", Shape(connections=25, mails=1000)),
    ],
)
def test_a_server_of_a_large_provider_is_known_by_the_end_of_its_name(host: str, shape: Shape) -> None:
    assert shape_of(host) == shape


@pytest.mark.parametrize(
    "host",
    [
        "email-smtp.sa-east-1.amazonaws.com",
        "smtp.acme.example",
        "notgoogle.com",
        "google.com.acme.example",
        "gmail.com",  # a recipient's domain, and no server's name
        "office365.com",
        "192.0.2.1",
        "2001:db8::1",
        "localhost",
        "",
    ],
)
def test_whoever_is_not_in_the_table_is_bound_by_nothing(host: str) -> None:
    assert shape_of(host) == Shape()


def test_every_entry_says_something_and_is_written_as_it_is_looked_up() -> None:
    for host, shape in SHAPES.items():
        assert shape != Shape(), host
        assert host == host.lower().strip(".")
        assert all(
            figure is None or figure > 0
            for figure in (shape.connections, shape.per_second, shape.mails, shape.recipients)
        )
