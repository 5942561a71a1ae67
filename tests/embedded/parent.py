"""A program that starts the embedded server, says so on one line, and waits to be killed: `parent.py HOME`."""

import json
import sys
import time
from pathlib import Path

from email_gateway.embedded import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]))
url = server.start()
print(json.dumps({"url": url, "pid": server.pid}), flush=True)
time.sleep(600)
