"""`email-gateway doctor`: looks at everything the gateway stands on, changes nothing, and names the next command.

`examination` runs the checks; each of the other modules knows one thing that may be broken. None of
them prints, and no finding holds the value of a secret.
"""

from email_gateway.operator.doctor.findings import Finding, Level, Report, report_settings
from email_gateway.operator.doctor.subject import Subject

__all__ = ["Finding", "Level", "Report", "Subject", "report_settings"]
