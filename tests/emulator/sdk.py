"""The real Azure SDKs, pointed at an emulator by their public settings."""

from datetime import datetime, timedelta
from typing import Any

from azure.core.credentials import AccessToken
from azure.mgmt.costmanagement import CostManagementClient
from azure.mgmt.monitor import MonitorManagementClient
from azure.mgmt.resourcegraph import ResourceGraphClient
from azure.monitor.query import LogsQueryClient
from azure.monitor.querymetrics import MetricsClient

from tests.conftest import Emulator
from tests.estates import SUBSCRIPTION, workspace

WORKSPACE_ID: str = workspace("ws")["id"]
NAMESPACE = "Microsoft.MachineLearningServices/workspaces"


class Credential:
    """Somebody with a token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._token, 32503680000)


class Sdk:
    """One client of each service."""

    def __init__(self, emulator: Emulator, *, token: str = "any") -> None:  # noqa: S107
        self.emulator = emulator
        self.credential = Credential(token)
        self.trust = {"connection_verify": str(emulator.ca_file), "retry_total": 0}

    def costs(self) -> CostManagementClient:
        return CostManagementClient(
            self.credential, base_url=self.emulator.url, polling_interval=0, **self.trust
        )

    def graph(self) -> ResourceGraphClient:
        return ResourceGraphClient(self.credential, base_url=self.emulator.url, **self.trust)

    def monitor(self) -> MonitorManagementClient:
        return MonitorManagementClient(
            self.credential, SUBSCRIPTION, base_url=self.emulator.url, **self.trust
        )

    def logs(self) -> LogsQueryClient:
        return LogsQueryClient(self.credential, endpoint=self.emulator.url, **self.trust)

    def metrics(self) -> MetricsClient:
        return MetricsClient(self.emulator.url, self.credential, **self.trust)

    def ml(self, workspace_name: str = "ws") -> Any:
        # Here, since importing it warns of what a next version of one of its libraries drops.
        from azure.ai.ml import MLClient  # noqa: PLC0415

        url = f"{self.emulator.url}/"
        # A cloud keeps the address it was first given under its name, so each port has its own.
        return MLClient(
            self.credential,
            SUBSCRIPTION,
            "rg-ml",
            workspace_name,
            cloud=f"emulator-{url}",
            cloud_metadata={
                "azure_portal": "https://portal.azure.com/",
                "resource_manager": url,
                "active_directory": "https://login.microsoftonline.com/",
                "aml_resource_id": "https://ml.azure.com/",
                "storage_endpoint": "core.windows.net",
                "registry_discovery_endpoint": url,
            },
            show_progress=False,
            enable_telemetry=False,
            polling_interval=0,
            **self.trust,
        )

    def node_metric(self, name: str, start: datetime, hours: float, *, grain: timedelta) -> Any:
        """Return the points of one metric of the one cluster."""
        (result,) = self.metrics().query_resources(
            resource_ids=[WORKSPACE_ID],
            metric_namespace=NAMESPACE,
            metric_names=[name],
            timespan=(start, start + timedelta(hours=hours)),
            granularity=grain,
            aggregations=["Average", "Maximum", "Minimum", "Count", "Total"],
            filter="ClusterName eq '*'",
        )
        (series,) = result.metrics[0].timeseries
        return series.data
