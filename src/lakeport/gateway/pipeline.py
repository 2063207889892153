"""What is asked of every invocation before a model sees it.

Today this is the permission. Rate limits, guardrails, usage and payload records take their place
here, in order, when they come.
"""

from lakeport.auth.callers import AccessList, Caller, Level
from lakeport.errors import PermissionDenied


def admit(endpoint: str, access: AccessList, caller: Caller) -> None:
    """Raises PermissionDenied unless `caller` holds CAN_QUERY on the endpoint."""
    if not access.allows(caller, Level.CAN_QUERY):
        raise PermissionDenied(
            f"You do not have permission to query the serving endpoint '{endpoint}'. "
            "Ask someone with CAN_MANAGE on it for CAN_QUERY."
        )
