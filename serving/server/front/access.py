"""Who may ask: the secret, the names that the server goes by, and the web pages that may read its answers."""

import hmac
from dataclasses import dataclass

from grpc import StatusCode

from gan.errors import RequestError
from serving.server.front.refused import Refused

SHORTEST = 16  # characters of a token
SCHEME = "Bearer "  # of the header, or the gRPC metadata, "authorization"


@dataclass(frozen=True, kw_only=True)
class Access:
    """Rules for every request, over HTTP and gRPC. The default: whoever reaches the ports, but no web page.

    Raises RequestError when the token is too short.
    """

    token: str | None = None  # what "authorization" must hold after "Bearer "; None: nothing
    hosts: tuple[str, ...] = ()  # names, beside addresses and localhost, that requests may be for
    origins: tuple[str, ...] = ()  # of pages that browsers may let read answers, such as https://salon.example

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < SHORTEST:
            raise RequestError(
                f"`token_file` must hold a token of at least {SHORTEST} characters; it has {len(self.token)}. One that "
                "nobody guesses: openssl rand -hex 32"
            )

    def check_token(self, authorization: str | bytes | None) -> None:
        """Raises Refused when `authorization` does not hold the token."""
        if self.token is None:
            return
        given = (authorization or "").encode() if not isinstance(authorization, bytes) else authorization
        if not hmac.compare_digest(given, f"{SCHEME}{self.token}".encode()):
            raise Refused(
                'this server asks for its token, as "authorization: Bearer TOKEN"', StatusCode.UNAUTHENTICATED
            )
