"""A stack that did not do its work tells what its processes said."""

from pathlib import Path

from benchmarks.stacks import LAST_LINES, MOST_OF_A_LINE, Places


def test_a_broken_run_tells_what_its_processes_complained_about(tmp_path: Path) -> None:
    """By process, the last of what is more than news; nothing of those that have nothing to complain about."""
    places = Places(amqp_url="", database_url="", smtp_port=0, folder=tmp_path)
    assert places.last_words() == ""

    (tmp_path / "gateways-said").write_text(
        '{"event":"integration created","level":"info"}\n{"event":"integrations were not known","level":"warning"}\n'
    )
    (tmp_path / "workers-said").write_text('ready\n\n{"event":"integration created","level":"info"}\n')
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "intake-said").write_text("".join(f"{number}{'x' * 1000}\n" for number in range(100)))

    gateways, intake = places.last_words().split("\nintake-said said last:\n")
    assert gateways == ('\ngateways-said said last:\n  {"event":"integrations were not known","level":"warning"}')
    assert intake.count("\n") == LAST_LINES - 1
    assert intake.endswith(f"\n  {'99' + 'x' * 1000:.{MOST_OF_A_LINE}}")
