"""What `salon gallery` takes. `--help` loads it: nothing heavy here."""

from dataclasses import dataclass
from pathlib import Path

from gan.runtime.addresses import check_host_names, check_origins
from serving.contract import DEFAULT_URL
from serving.gallery.access import check_proxies, parse_rate


@dataclass(frozen=True, kw_only=True)
class GalleryRequest:
    """A web page on the generators of a running server."""

    url: str = DEFAULT_URL  # grpc://HOST:PORT or http://HOST:PORT of the server; grpcs and https are encrypted
    model: str | None = None  # generator to show first; None: the first that is served
    host: str = "127.0.0.1"  # address to listen on
    port: int = 8080  # to listen on; 0: any that is free
    allow_host: tuple[str, ...] = ()  # further host names that requests may be for
    trust_proxy: tuple[str, ...] = ()  # addresses and networks of proxies whose X-Forwarded-For names the visitor
    allow_origin: tuple[str, ...] = ()  # sites whose pages may read images and answers
    max_images: int = 16  # in one request
    rate: str = "60/min"  # of each client: a request for each dozen images that are not cached, or part of it
    timeout: float = 30.0  # seconds, for each request to the server with all of its attempts
    token_file: Path | None = None  # with the token that the server wants; None: the variable SALON_TOKEN, or none

    def __post_init__(self) -> None:
        parse_rate(self.rate)
        check_host_names(self.allow_host)
        check_proxies(self.trust_proxy)
        check_origins(self.allow_origin)
