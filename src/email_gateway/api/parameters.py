"""Parameters that several routes read, for the documentation."""

from email_gateway.api.calls import DEFAULT_PAGE, MAX_PAGE
from email_gateway.api.routing import Query

ID = {"type": "string", "format": "uuid"}
MOMENT = {"type": "string", "format": "date-time"}
LIMIT = Query(
    "limit",
    "How many to return.",
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
)
PAGE = (LIMIT, Query("after", "Older than this id.", ID), Query("before", "Newer than this id.", ID))
