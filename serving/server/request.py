"""What `salon serve` takes. `--help` loads it: nothing heavy here."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from gan.runtime.addresses import check_host_names, check_origins

SERVICES = ("http", "grpc", "metrics")  # each at a port of its own


@dataclass(frozen=True, kw_only=True)
class ServeRequest:
    """A Triton server on a model repository."""

    repository: Path
    http_port: int = 8000  # 0: any that is free
    grpc_port: int = 8001  # 0: any that is free
    metrics_port: int = 8002  # 0: any that is free
    host: str = "127.0.0.1"  # IP address to listen on
    allow_host: tuple[str, ...] = ()  # names, beside addresses and localhost, that requests may be for
    allow_origin: tuple[str, ...] = ()  # of web pages that may ask, such as https://salon.example
    token_file: Path | None = None  # file with the secret that every request must bring; None: no secret
    tritonserver: Path | None = None  # program; None: the one on PATH, else one that Salon installs
    reload: str | None = None  # poll: new versions are loaded as they appear; None: models stay as they are
    log: Path | None = None  # file that the server's log is appended to, kept below 16 MiB and one older part
    timeout: int = 600  # seconds for the models to become ready

    def __post_init__(self) -> None:
        check_host_names(self.allow_host)
        check_origins(self.allow_origin)
        if same := [name for name, port in self.ports.items() if port and [*self.ports.values()].count(port) > 1]:
            named = " and ".join(f"`{service}_port`" for service in same)
            raise RequestError(f"{named} must differ; got {[*self.ports.values()]} instead")

    @property
    def ports(self) -> dict[str, int]:
        """Service -> port."""
        return {service: getattr(self, f"{service}_port") for service in SERVICES}
