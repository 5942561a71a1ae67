"""Events on their way to callers' servers: signed, sent, tried again for days.

What is due and what became of it is kept by `store`; making events is left to whoever makes them.
"""

from email_gateway.webhooks.dispatching import GIVE_UP_AFTER, Dispatcher
from email_gateway.webhooks.posting import Poster

__all__ = ["GIVE_UP_AFTER", "Dispatcher", "Poster"]
