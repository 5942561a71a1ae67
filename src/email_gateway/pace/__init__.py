"""Pace: who may send how fast now, on one route and to each destination and for each sender within it.

Learns from what servers say, shares it with the fleet through the database, and says to the queue which
deliveries to take and to an attempt when to begin. Holds no sockets and writes no delivery.
"""

from email_gateway.pace.keeper import Keeper
from email_gateway.pace.limits import PaceLimits
from email_gateway.pace.route import Pace, Reserve
from email_gateway.pace.shaping import Shape, shape_of
from email_gateway.pace.turns import NotYet, Turn

__all__ = ["Keeper", "NotYet", "Pace", "PaceLimits", "Reserve", "Shape", "Turn", "shape_of"]
