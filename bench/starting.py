"""One start of the secrets, the first thing a process does: `python -m bench.starting gateway|boto3`.

Settings come from the environment. Prints the seconds of the imports and of the start as JSON.
"""

import asyncio
import importlib
import json
import os
import sys
import time


async def start_gateway() -> str:
    """Fetch every secret as the gateway does; return how it ended."""
    errors = importlib.import_module("email_gateway.errors")
    settings = importlib.import_module("email_gateway.settings").load_settings()
    try:
        service = await importlib.import_module("email_gateway.secrets").SecretsService.start(settings)
    except errors.SecretUnavailable as error:
        return str(error)
    await service.close()
    return "started"


async def start_boto3() -> str:
    """Fetch one secret as three lines of boto3 do."""
    boto3 = importlib.import_module("boto3")
    client = boto3.session.Session(region_name=os.environ["AWS_REGION"]).client("secretsmanager")
    client.get_secret_value(SecretId=f"{os.environ['SECRETS_PREFIX']}/encryption-key")
    return "started"


STARTS = {
    "gateway": (start_gateway, ("email_gateway.secrets", "email_gateway.secrets.secrets_manager")),
    "boto3": (start_boto3, ("boto3",)),
}


def main() -> None:
    """Import, start, and print how long each took."""
    start, modules = STARTS[sys.argv[1]]
    began = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    imported = time.perf_counter()
    end = asyncio.run(start())
    print(json.dumps({"import": imported - began, "start": time.perf_counter() - imported, "end": end}))


if __name__ == "__main__":
    main()
