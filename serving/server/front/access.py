"""Who may ask: the secret, the names that the server goes by, and the web pages that may read its answers."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from grpc import StatusCode

from gan.errors import RequestError
from serving.server.front.refused import Refused

SHORTEST = 16  # characters of a token
SCHEME = "Bearer "  # of the header, or the gRPC metadata, "authorization"


@dataclass(frozen=True, kw_only=True)
class Access:
    """Rules for every request, over HTTP and gRPC. The default: whoever reaches the ports, but no web page."""

    token: str | None = None  # what "authorization" must hold after "Bearer "; None: nothing
    hosts: tuple[str, ...] = ()  # names, beside addresses and localhost, that requests may be for
    origins: tuple[str, ...] = ()  # of pages that browsers may let read answers, such as https://salon.example

    def check_token(self, authorization: str | bytes | None) -> None:
        """Raises Refused when `authorization` does not hold the token."""
        if self.token is None:
            return
        given = (authorization or "").encode() if not isinstance(authorization, bytes) else authorization
        if not hmac.compare_digest(given, f"{SCHEME}{self.token}".encode()):
            raise Refused(
                'this server asks for its token, as "authorization: Bearer TOKEN"', StatusCode.UNAUTHENTICATED
            )

    def check_page(self, headers: Mapping[str, str]) -> None:
        """Raises Refused when a browser sent the request for a page of another site, whose answer no page may use.

        Browsers name the page in Origin, and say in Sec-Fetch-Site what a request without it is for.
        """
        origin = headers.get("origin")
        if origin is None:
            allowed = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        else:
            allowed = origin in self.origins or urlsplit(origin).netloc == headers.get("host")
        if not allowed:
            raise Refused(
                f"web pages of {origin or 'another site'} may not ask this server; salon serve names those that may",
                StatusCode.PERMISSION_DENIED,
            )


def read_token(path: Path) -> str:
    """The token that a file holds, without the space around it. Raises RequestError for none, or a short one."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII"
        raise RequestError(f"`token_file` must be a file with a token in it; got {path}: {reason}") from error
    if len(token) < SHORTEST or not token.isprintable() or " " in token:
        raise RequestError(
            f"`token_file` must hold one word of at least {SHORTEST} characters; {path} does not. One that nobody "
            "guesses: openssl rand -hex 32"
        )
    return token
