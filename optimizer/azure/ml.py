"""azure-ai-ml: what its entities tell. Importing it costs 1.3 s, so only those who need it do."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optimizer.azure.access import Access, azure_errors
from optimizer.errors import AzureError

with warnings.catch_warnings():
    # Hundreds, about a marshmallow that azure-ai-ml itself rules out; users can do nothing of it.
    warnings.simplefilter("ignore")
    from azure.ai.ml import MLClient

_CLOUD_VARIABLE = "AZUREML_CURRENT_CLOUD"


class MachineLearning:
    """Lists what a subscription or workspace holds, through azure-ai-ml.

    Its entities leave out node states and unknown properties: settings are read through `Arm`.
    """

    def __init__(self, access: Access) -> None:
        """Use `access`; nothing is sent yet."""
        self._access = access

    def workspaces(self, subscription: str) -> list[str]:
        """Return the ids of a subscription's workspaces. Raises AzureError."""
        client = self._client(subscription)
        with azure_errors(f"the workspaces of subscription {subscription}"):
            return [w.id for w in client.workspaces.list(scope="subscription")]

    def computes(self, workspace_id: str) -> list[str]:
        """Return the names of a workspace's computes.

        Raises:
            AzureError: Azure refuses, or azure-ai-ml cannot read one of the documents: it falls
                over a custom application whose endpoint says no port.
        """
        with azure_errors(f"the computes of {workspace_id}"):
            try:
                return [compute.name for compute in self._of(workspace_id).compute.list()]
            except TypeError as error:
                raise AzureError(
                    f"azure-ai-ml cannot read a compute of {workspace_id}, such as a custom "
                    "application without a port; `optimizer collect` reads it all the same."
                ) from error

    def jobs(self, workspace_id: str) -> list[str]:
        """Return the names of a workspace's active jobs. Raises AzureError."""
        with azure_errors(f"the jobs of {workspace_id}"):
            return [job.name for job in self._of(workspace_id).jobs.list()]

    def _of(self, workspace_id: str) -> MLClient:
        parts = workspace_id.split("/")
        return self._client(parts[2], parts[4], parts[8])

    def _client(self, subscription: str, *names: str) -> MLClient:
        with _cloud_variable_kept():
            return MLClient(
                self._access.credential,
                subscription,
                *names,
                show_progress=False,
                enable_telemetry=False,
                **self._cloud(),
                **self._access.options,
            )

    def _cloud(self) -> dict[str, Any]:
        """Return what points MLClient at another address, under a name that no other one has.

        A name that MLClient has seen keeps its first address, whatever comes later.
        """
        endpoint = self._access.settings.endpoint
        if endpoint is None:
            return {}
        address = f"{endpoint.rstrip('/')}/"
        return {
            "cloud": f"Optimizer {address}",
            "cloud_metadata": {
                "azure_portal": "https://portal.azure.com/",
                "resource_manager": address,
                "active_directory": "https://login.microsoftonline.com/",
                "aml_resource_id": "https://ml.azure.com/",
                "storage_endpoint": "core.windows.net",
                "registry_discovery_endpoint": address,
            },
        }


@contextmanager
def _cloud_variable_kept() -> Iterator[None]:
    """Undo what MLClient does to the environment: every later client would inherit its cloud."""
    before = os.environ.get(_CLOUD_VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_CLOUD_VARIABLE, None)
        else:
            os.environ[_CLOUD_VARIABLE] = before
