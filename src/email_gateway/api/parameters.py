"""Parameters of lists, as they are documented."""

from email_gateway.api.calls import DEFAULT_PAGE, MAX_PAGE
from email_gateway.api.routing import Query

LIMIT = Query(
    "limit",
    "How many to return.",
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
)
ID = {"type": "string", "format": "uuid"}
PAGE = (LIMIT, Query("after", "Older than this id.", ID), Query("before", "Newer than this id.", ID))
