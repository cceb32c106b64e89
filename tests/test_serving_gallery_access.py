"""What a client of the gallery may do how often."""

import pytest

from gan.errors import RequestError
from serving.gallery.access import RateExceeded, RateLimit, parse_rate


@pytest.mark.parametrize(("text", "rate"), [("60/min", (60, 60.0)), (" 2 / s", (2, 1.0)), ("1000/h", (1000, 3600.0))])
def test_rates(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "60", "0/min", "-1/min", "60/day", "1.5/s", "60/min/s", "9999999999/s"])
def test_rates_that_are_refused(text):
    with pytest.raises(RequestError, match="`rate` must be requests a time, such as 60/min"):
        parse_rate(text)


def test_a_client_waits_when_it_asked_too_often():
    now = 100.0
    limit = RateLimit(3, 60.0, clock=lambda: now)
    assert [limit.wait("a") for _ in range(3)] == [0, 0, 0]
    assert limit.wait("a") == pytest.approx(20) and limit.wait("a") == pytest.approx(20)  # no refusal counts
    assert limit.wait("b") == 0  # another client
    now += 19.5
    assert limit.wait("a") == pytest.approx(0.5)
    now += 0.5
    assert limit.wait("a") == 0 and limit.wait("a") == pytest.approx(20)
    now += 1e6
    assert [limit.wait("a") > 0 for _ in range(4)] == [False, False, False, True]  # no more than a full bucket


def test_clients_are_forgotten():
    now = 0.0
    limit = RateLimit(60, 60.0, clock=lambda: now)
    for number in range(3000):
        now += 0.1
        limit.wait(str(number))
    assert len(limit.full_at) < 1100


def test_the_message_says_when_to_go_on():
    error = RateExceeded(RateLimit(60, 60.0), 0.2)
    assert error.seconds == 1 and "60 requests in 60 s" in str(error) and "Go on in 1 s" in str(error)
