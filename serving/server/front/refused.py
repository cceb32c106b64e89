"""What the front answers in place of Triton: a gRPC status with one line, and the same as HTTP."""

from http import HTTPStatus

from grpc import StatusCode

HTTP = {  # gRPC -> HTTP
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_FOUND,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}


class Refused(Exception):
    """A request that gets no answer of a model: `code`, and why in one line."""

    def __init__(self, reason: str, code: StatusCode = StatusCode.INVALID_ARGUMENT) -> None:
        super().__init__(reason)
        self.code = code

    @property
    def status(self) -> HTTPStatus:
        """The code as HTTP says it."""
        return HTTP.get(self.code, HTTPStatus.INTERNAL_SERVER_ERROR)
