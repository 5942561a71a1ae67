"""`email-gateway up`: everything on one machine, for development and small installations.

Runs the embedded PostgreSQL, the api and a worker under one supervisor, whose home directory keeps
the data and the credentials. It ends with all of them, however it ends.
"""

from email_gateway.up.gateway import Running, Wishes, run_up
from email_gateway.up.home import Credentials, Home, Runtime

__all__ = ["Credentials", "Home", "Running", "Runtime", "Wishes", "run_up"]
