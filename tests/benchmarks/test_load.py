"""What wrk prints becomes numbers, or the reason why there are none."""

import pytest

from benchmarks.load import BadLoad, Load, read_load

PRINTED = """Running 4s test @ http://127.0.0.1:8080/genesys/2/email/support
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    25.01ms   10.92ms 172.77ms   89.85%
    Req/Sec     2.60k   204.11     2.92k    76.00%
  Latency Distribution
     50%   {half}
     75%   27.50ms
     90%   32.11ms
     99%   {most}
  10300 requests in 4.00s, 2.67MB read
{more}Requests/sec:   2573.24
Transfer/sec:    683.59KB
accepted 10300
inside 7800
lasted 3.0
refused {refused}
"""


def printed(half: str = "23.49ms", most: str = "61.20ms", refused: str = "0 ", more: str = "") -> str:
    """What a load prints of which all was accepted."""
    return PRINTED.format(half=half, most=most, refused=refused, more=more)


@pytest.mark.parametrize(
    ("half", "most", "latency"),
    [
        ("23.49ms", "61.20ms", (23.49, 61.2)),
        ("870.00us", "1.20s", (0.87, 1200.0)),
        ("1.50m", "2.00m", (90_000.0, 120_000.0)),
    ],
    ids=["milliseconds", "micro and whole seconds", "minutes"],
)
def test_rates_are_of_the_window_and_latencies_in_milliseconds(
    half: str, most: str, latency: tuple[float, float]
) -> None:
    """What came before or after the window is accepted too, and counts for no rate."""
    assert read_load(printed(half, most), 5.0) == Load(10300, 2600.0, 5.0, latency)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (printed(refused='3 503 {"statusCode":1}'), r'3 503 {"statusCode":1}'),
        (printed(more="  Socket errors: connect 0, read 7, write 0, timeout 0\n"), "read 7"),
        ("accepted 0\ninside 0\nrefused 0 \n", "nothing was accepted"),
        ("", "nothing was accepted"),
        (printed().replace("lasted 3.0", "lasted -1"), "some may still be missing"),
    ],
    ids=["refused", "connections lost", "nothing came", "nothing printed", "never over"],
)
def test_a_load_that_was_not_accepted_has_no_figures(said: str, reason: str) -> None:
    """One answer other than 0 is one too many: the figures would be of something else."""
    with pytest.raises(BadLoad) as raised:
        read_load(said, 5.0)

    assert reason in str(raised.value)
