"""Questions to the Kubernetes API, where a kubeconfig or a service account is at hand."""

import base64
from collections.abc import Callable
from typing import Any, Final

_TIMEOUT_S: Final = 10
_NOT_FOUND: Final = 404


class CannotAskError(Exception):
    """The question could not be asked: no credentials, no right, no answer."""


class KubernetesApi:
    """Reads objects of one namespace. It changes nothing."""

    def __init__(self, namespace: str) -> None:
        """Finds credentials: those of KUBECONFIG, of ~/.kube/config, or of the pod that this runs in.

        Raises:
            CannotAskError: there are none.
        """
        from kubernetes import client, config  # 1 s to import

        try:
            try:
                config.load_kube_config()
            except config.ConfigException:
                config.load_incluster_config()
        except Exception as error:  # its own errors, those of YAML and of files
            raise CannotAskError("no kubeconfig and no service account is at hand") from error
        self.namespace = namespace
        settings = client.Configuration.get_default_copy()
        settings.retries = False
        api_client = client.ApiClient(settings)
        self._core = client.CoreV1Api(api_client)
        self._storage = client.StorageV1Api(api_client)
        self._discovery = client.DiscoveryV1Api(api_client)

    def read_labels(self) -> dict[str, str] | None:
        """Labels of the namespace; None where there is no such namespace."""
        namespace = self._ask(self._core.read_namespace, self.namespace)
        return None if namespace is None else dict(namespace.metadata.labels or {})

    def read_claim(self, name: str) -> Any | None:
        """A persistent volume claim; None where there is none."""
        return self._ask(self._core.read_namespaced_persistent_volume_claim, name, self.namespace)

    def read_storage_class(self, name: str) -> Any | None:
        """A storage class; None where there is none."""
        return self._ask(self._storage.read_storage_class, name)

    def read_secret(self, name: str) -> dict[str, str] | None:
        """Keys and values of a secret; None where there is none. The values are for no output."""
        secret = self._ask(self._core.read_namespaced_secret, name, self.namespace)
        if secret is None:
            return None
        return {
            key: base64.b64decode(value).decode(errors="replace")
            for key, value in (secret.data or {}).items()
        }

    def read_config_map(self, name: str) -> dict[str, str] | None:
        """Keys and values of a config map; None where there is none."""
        config_map = self._ask(self._core.read_namespaced_config_map, name, self.namespace)
        return (
            None if config_map is None else dict(config_map.data or {}) | dict(config_map.binary_data or {})
        )

    def count_ready_addresses(self, service: str, namespace: str) -> int | None:
        """Pods that a Service leads to and that are ready; None where there is no such Service."""
        if self._ask(self._core.read_namespaced_service, service, namespace) is None:
            return None
        slices = self._ask(
            self._discovery.list_namespaced_endpoint_slice,
            namespace,
            label_selector=f"kubernetes.io/service-name={service}",
        )
        endpoints = [
            endpoint for part in (slices.items if slices else ()) for endpoint in part.endpoints or ()
        ]
        # Kubernetes counts an endpoint that says nothing of its state as ready.
        return sum(
            len(endpoint.addresses or ())
            for endpoint in endpoints
            if endpoint.conditions is None or endpoint.conditions.ready is not False
        )

    def _ask(self, read: Callable[..., Any], *arguments: str, **options: str) -> Any | None:
        from kubernetes.client.exceptions import ApiException

        try:
            answer = read(*arguments, _request_timeout=_TIMEOUT_S, **options)
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise CannotAskError(f"the Kubernetes API says HTTP {error.status}") from error
        except Exception as error:  # of connections, certificates, plugins that fetch tokens
            raise CannotAskError(f"the Kubernetes API does not answer ({type(error).__name__})") from error
        # A proxy's page is read as an object without anything in it.
        if answer is None or (answer.metadata is None and not hasattr(answer, "items")):
            raise CannotAskError("something else than the Kubernetes API answers; look at your kubeconfig")
        return answer
