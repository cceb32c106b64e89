"""Where work is done: on this machine, or by a cluster. Light: the command line reads its choices here."""

from gan.errors import RequestError

ENGINES = ("local", "ray")


def check_engine(engine: str, address: str | None) -> None:
    """Raise RequestError for an unknown engine, and an address that nothing is looked for at."""
    if engine not in ENGINES:
        raise RequestError(f"`engine` must be one of {', '.join(ENGINES)}; got {engine} instead")
    if address is not None and engine != "ray":
        raise RequestError(f"`address` is that of `engine` ray; got {address} for {engine}")
