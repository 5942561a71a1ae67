"""A process among the others of the fleet: what changed anywhere is followed here, and said so.

Every process looks when it is told (NOTIFY), when the generation rows say that it missed something,
and when its own secrets changed: secrets are read again, a new root key is adopted, data keys are
loaded. What it holds then stands in its row of `crypto_instance`, which is how others know.
"""

from email_gateway.fleet.following import Fleet
from email_gateway.fleet.refreshing import Acknowledgement, Refreshed, acknowledgements, refresh_fleet

__all__ = ["Acknowledgement", "Fleet", "Refreshed", "acknowledgements", "refresh_fleet"]
