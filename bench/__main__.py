"""`python -m bench`: accepted mails, delivered mails, sealed values, each beside a peer."""

import argparse
import json
import statistics
import time

from rich.console import Console
from rich.table import Table

from bench import crypto, gateway, smtp

ACCEPT_SINGLE = 24_000
ACCEPT_BATCHED = 40_000
END_TO_END = 12_000
CONNECTIONS = 64
BATCH_CONNECTIONS = 8
PROCESSES = 2


def accepted_per_second(batch: int, count: int) -> float:
    """Durable, sealed accepts per second, in requests of `batch` messages."""
    connections = CONNECTIONS if batch == 1 else BATCH_CONNECTIONS
    with gateway.running("api", API_PROCESSES=str(PROCESSES)) as running:
        with gateway.load(running, count=count // 10, batch=batch, connections=connections) as warm_up:
            gateway.result(warm_up)
        with gateway.load(running, count=count, batch=batch, connections=connections) as client:
            seconds = gateway.result(client)["seconds"]
    return count / float(seconds)  # type: ignore[arg-type]


def delivered_per_second(count: int) -> float:
    """Mails per second from the first HTTP request to the sink's last message, all parts running."""
    with smtp.sink(count) as (port, receiver):
        settings = {"TRANSPORT": "smtp", "SMTP_URL": f"smtp://127.0.0.1:{port}?tls=none"}
        with (
            gateway.running("api", "worker", **settings) as running,
            gateway.load(running, count=count, batch=1, connections=CONNECTIONS) as client,
        ):
            started = time.perf_counter()
            gateway.result(client)
            receiver.wait(timeout=300)
            return count / (time.perf_counter() - started)


def main() -> None:
    """Run what was asked for and print tables, or JSON for machines."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=["accept", "deliver", "crypto"], help="one part instead of all")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each figure; the median is printed (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    console = Console(stderr=options.json)
    figures: dict[str, float] = {}
    with console.status("measuring") as status:

        def measure(name: str, run: "object", *arguments: object) -> None:
            values = []
            for turn in range(options.repeat):
                status.update(f"{name} ({turn + 1} of {options.repeat})")
                values.append(run(*arguments))  # type: ignore[operator]
            figures[name] = statistics.median(values)

        if options.only in (None, "accept"):
            measure("accepted/s, single requests", accepted_per_second, 1, ACCEPT_SINGLE)
            measure("accepted/s, batches of 100", accepted_per_second, 100, ACCEPT_BATCHED)
        if options.only in (None, "deliver"):
            measure("accepted to delivered/s", delivered_per_second, END_TO_END)
        if options.only in (None, "accept", "deliver") and smtp.is_installed():
            measure_postfix(figures, options.repeat, status.update)
    if options.json:
        print(json.dumps(figures | ({"crypto": crypto.measure()} if options.only in (None, "crypto") else {})))
        return
    if figures:
        console.print(table_of(figures))
    if options.only in (None, "crypto"):
        crypto.main([])


if __name__ == "__main__":
    main()
