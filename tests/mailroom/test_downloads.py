"""Names and sizes of downloads."""

import pytest

from mailroom.downloads import attachment_named, readable_size


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("bill.pdf", "attachment; filename=\"bill.pdf\"; filename*=UTF-8''bill.pdf"),
        ('a"b\\c%.txt', "attachment; filename=\"a_b_c_.txt\"; filename*=UTF-8''a%22b%5Cc%25.txt"),
        ("é.txt", "attachment; filename=\"e.txt\"; filename*=UTF-8''%C3%A9.txt"),
        ("日本", "attachment; filename=\"attachment\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC"),
        ("a\r\nX: y", "attachment; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
    ],
)
def test_download_names_are_written_as_the_rfc_has_it(name: str, header: str) -> None:
    """Any name fits into one header line, for old clients and for new ones."""
    assert attachment_named(name) == header


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (34_000, "34 KB"), (40_000_000, "40 MB"), (2 * 10**9, "2.0 GB")],
)
def test_sizes_are_said_as_a_person_says_them(size: int, said: str) -> None:
    """At most three digits and a unit."""
    assert readable_size(size) == said
