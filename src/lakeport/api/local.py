"""Without authentication: everybody on this machine is the admin, and nobody else gets in."""

import re
from functools import lru_cache

from lakeport.auth.callers import ADMINS, USERS, Caller
from lakeport.errors import PermissionDenied

LOCAL_ADMIN = Caller("admin", "admin", frozenset((ADMINS, USERS)))

_LOOPBACK = re.compile(rb"(?:https?://)?(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?", re.I)


@lru_cache(maxsize=256)
def refuse_strangers(host: bytes, origin: bytes | None) -> None:
    """With authentication off: only what this machine's own programs send may pass.

    A web page can make its visitor's browser send requests here, under a name of its own that it
    has pointed at loopback, or as a form from its own origin. Raises PermissionDenied.
    """
    if not _LOOPBACK.fullmatch(host):
        raise PermissionDenied("Without authentication, Lakeport answers only to a loopback name.")
    if origin is not None and not _LOOPBACK.fullmatch(origin):
        raise PermissionDenied("Without authentication, Lakeport answers no other site's pages.")
