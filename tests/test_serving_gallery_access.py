"""What a client of the gallery may do how often."""

import pytest

from gan.errors import RequestError
from gan.runtime.addresses import check_origins
from serving.gallery.access import RateExceeded, RateLimit, check_proxies, parse_rate, visitor


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


def test_what_costs_more_takes_more():
    now = 0.0
    limit = RateLimit(6, 60.0, clock=lambda: now)
    assert limit.wait("a", 4) == 0 and limit.wait("a", 3) == pytest.approx(10) and limit.wait("a", 2) == 0
    now = 30.0
    assert limit.wait("a", 99) == pytest.approx(30)  # a full bucket is enough for whatever it is
    now = 60.0
    assert limit.wait("a", 99) == 0 and limit.wait("a") > 0


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("x" * 5000, "x" * 100),
        ("", ""),
    ],
)
def test_an_ipv6_network_is_one_visitor(client, counted):
    assert visitor(client) == counted


def test_proxies_are_addresses_and_networks():
    check_proxies(["10.0.0.7", "10.0.0.0/8", "::1", "fd00::/8"])
    for proxy in ("proxy.example", "10.0.0.7/8", "*", ""):
        with pytest.raises(RequestError, match="`trust_proxy` must be an address or a network"):
            check_proxies([proxy])


def test_origins_are_sites():
    check_origins(["https://me.example", "http://localhost:3000", "http://[::1]:80"])
    for origin in ("me.example", "https://me.example/", "https://Me.example", "*", "null", "ftp://me.example", ""):
        with pytest.raises(RequestError, match="`allow_origin` must be a site"):
            check_origins([origin])


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
