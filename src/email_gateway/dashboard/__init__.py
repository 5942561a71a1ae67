"""The operator's pages: server-rendered, behind a login, mounted at /dashboard by the composition root.

Everything that came from a mail or from a mail server is hostile here: it is escaped, and HTML mail is
shown in a sandboxed frame only. Addresses, names, subjects and tax ids are masked until they are asked for.
"""

from email_gateway.dashboard.app import build_dashboard
from email_gateway.dashboard.context import DashboardContext

__all__ = ["DashboardContext", "build_dashboard"]
