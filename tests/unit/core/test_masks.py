"""What looks like a secret in a foreign text is hidden, and the rest stays to be read."""

import pytest

from bluegreen.core.masks import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://app:hunter22@db/shop is down", "postgres://app:***@db/shop is down"),
        ('{"db_password": "hunter22", "status": "ok"}', '{"db_password": "***", "status": "ok"}'),
        ("API_KEY=hunter22 PORT=80", "API_KEY=*** PORT=80"),
        ("Authorization: Bearer abcdef.hunter22", "Authorization: Bearer ***"),
        ("basic checks passed", "basic checks passed"),
        ("http://10.0.0.1:8080/health", "http://10.0.0.1:8080/health"),
    ],
)
def test_what_is_written_like_a_secret(text, shown):
    assert masked(text) == shown


def test_known_secrets_the_longer_first():
    assert masked("it is abcdef", ["abc", "", "abcdef"]) == "it is ***"
