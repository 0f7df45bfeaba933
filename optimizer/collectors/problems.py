"""What could not be seen, said once: the rest of the collection goes on."""

from optimizer.azure.access import permission_of
from optimizer.errors import AzureError, ForbiddenError
from optimizer.model import Problem


def problem_of(scope: str, error: AzureError) -> Problem:
    """Return an error of one scope as a problem; it names the permission where that is missing."""
    permission = permission_of(error) if isinstance(error, ForbiddenError) else None
    return Problem(scope=scope, what=str(error), permission=permission)
