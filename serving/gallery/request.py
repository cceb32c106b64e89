"""What `salon gallery` takes. `--help` loads it: nothing heavy here."""

from dataclasses import dataclass

from serving.contract import DEFAULT_URL
from serving.gallery.access import check_host_names, parse_rate


@dataclass(frozen=True, kw_only=True)
class GalleryRequest:
    """A web page on the generators of a running server."""

    url: str = DEFAULT_URL  # grpc://HOST:PORT or http://HOST:PORT of the server; grpcs and https are encrypted
    model: str | None = None  # generator to show first; None: the first that is served
    host: str = "127.0.0.1"  # address to listen on
    port: int = 8080  # to listen on; 0: any that is free
    allow_host: tuple[str, ...] = ()  # further host names that requests may be for
    max_images: int = 16  # in one request
    rate: str = "60/min"  # requests for images that are not cached, of each client
    timeout: float = 30.0  # seconds, for each request to the server with all of its attempts

    def __post_init__(self) -> None:
        parse_rate(self.rate)
        check_host_names(self.allow_host)
