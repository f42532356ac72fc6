"""Who is in the mesh: the pods of Bookinfo, as Istio would see them."""
from dataclasses import dataclass

NAMESPACE = "bookinfo"
CLUSTER_ID = "Kubernetes"  # Istio's default istio.cluster_id
PORT = 9080  # the service port in names and Host headers; the sockets get free ports
GATEWAY_HOST = "bookinfo.example.com"


@dataclass(frozen=True)
class Pod:
    workload: str
    service: str
    version: str | None  # None: no version label, as at the ingress gateway
    ip: str  # loopback: nothing outside this machine can reach it
    zone: str
    calls: tuple[str, ...] = ()
    namespace: str = NAMESPACE
    is_gateway: bool = False

    @property
    def node_id(self) -> str:
        """`type~ip~pod.namespace~domain`, the form Istio gives to every proxy."""
        kind = "router" if self.is_gateway else "sidecar"
        name = f"{self.workload}-7d9f6c5b8-x{self.ip.rsplit('.', 1)[1]}kqz"
        return f"{kind}~{self.ip}~{name}.{self.namespace}~{self.namespace}.svc.cluster.local"


PODS = (
    Pod("istio-ingressgateway", "istio-ingressgateway", None, "127.0.1.1", "eu-west-1a", ("productpage",),
        namespace="istio-system", is_gateway=True),
    Pod("productpage-v1", "productpage", "v1", "127.0.1.2", "eu-west-1a", ("details", "reviews")),
    Pod("details-v1", "details", "v1", "127.0.1.3", "eu-west-1b"),
    Pod("reviews-v1", "reviews", "v1", "127.0.1.4", "eu-west-1c"),
    Pod("reviews-v2", "reviews", "v2", "127.0.1.5", "eu-west-1a", ("ratings",)),
    Pod("reviews-v3", "reviews", "v3", "127.0.1.6", "eu-west-1b", ("ratings",)),
    Pod("ratings-v1", "ratings", "v1", "127.0.1.7", "eu-west-1c"),
)


def pods_of(service: str) -> list[Pod]:
    return [pod for pod in PODS if pod.service == service]


def fqdn(service: str) -> str:
    return f"{service}.{NAMESPACE}.svc.cluster.local"


def operation(service: str) -> str:
    """The span name that Istio's route decorator gives to a call of `service`."""
    return f"{fqdn(service)}:{PORT}/*"
