"""The signals that ask a long command to stop."""

import signal


def stopping() -> list[signal.Signals]:
    """SIGINT (Ctrl-C), SIGTERM (service managers) and SIGHUP (a terminal that is closed, as by a lost connection).

    SIGHUP is left out where it is ignored: `nohup` asks for that.
    """
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]
