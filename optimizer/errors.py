"""What we raise on purpose. The command line prints each as one sentence and exits 1.

OptimizerError
├── ConfigError          a setting or an argument that cannot be used
├── EstateError          an estate folder that the emulator cannot play
├── AzureError           Azure did not do what was asked
│   ├── UnreachableError     no answer from the endpoint
│   ├── UnauthorizedError    the token was refused (401)
│   ├── ForbiddenError       a permission is missing (403); names it
│   ├── NotFoundError        there is no such resource (404)
│   ├── NotOfferedError      the subscription's offer lacks what was asked for
│   ├── TruncatedError       an answer that Azure may have cut short
│   ├── OperationFailedError a long-running operation ended Failed or Canceled
│   └── NotEndedError        a long-running operation outlasted our patience
├── ImportRefusedError   a file of costs that cannot be understood
├── LakeError            a file of the lake is missing or damaged
├── NoDataError          a question was asked before anything was collected
├── PriceNotFoundError   no price is known; never taken for 0
├── PlanError            a plan that cannot be used: schema, digest, estate, already applied
├── LedgerError          the ledger cannot be read or written
└── MailError            the mail could not be handed over
"""


class OptimizerError(Exception):
    """Anything we raise on purpose; its text is one sentence with the way out."""


class ConfigError(OptimizerError):
    """A setting or an argument that cannot be used."""


class EstateError(OptimizerError):
    """An estate folder that the emulator cannot play."""


class AzureError(OptimizerError):
    """Azure did not do what was asked."""


class UnreachableError(AzureError):
    """The endpoint gave no answer."""


class UnauthorizedError(AzureError):
    """The token was refused (401)."""


class ForbiddenError(AzureError):
    """A permission is missing (403)."""


class NotFoundError(AzureError):
    """There is no such resource (404)."""


class NotOfferedError(AzureError):
    """The subscription's offer lacks what was asked for; asking again is no use."""


class TruncatedError(AzureError):
    """An answer that Azure may have cut short."""


class OperationFailedError(AzureError):
    """A long-running operation ended Failed or Canceled."""


class NotEndedError(AzureError):
    """A long-running operation had not ended when we stopped waiting; it may yet take effect."""


class ImportRefusedError(OptimizerError):
    """A file of costs that cannot be understood; names the file and the column."""


class LakeError(OptimizerError):
    """A file of the lake is missing or damaged."""


class NoDataError(OptimizerError):
    """A question was asked before anything was collected."""


class PriceNotFoundError(OptimizerError):
    """No price is known for this SKU, region and offer."""


class PlanError(OptimizerError):
    """A plan that cannot be used."""


class LedgerError(OptimizerError):
    """The ledger cannot be read or written."""


class MailError(OptimizerError):
    """The mail could not be handed over."""
