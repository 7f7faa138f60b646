"""Not here: importing it says what to do instead."""

from pool._ray._absent import refuse

refuse(__name__)
