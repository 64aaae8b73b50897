"""Helpers for tests of `Config`: secrets, and a search for them in its errors."""

from __future__ import annotations

SECRET = 'p@ss "w/örd" +%41 \\ end'
MISPLACED = "s3cr3t" * 3
"""A secret that was given in the wrong place."""


def assert_hides_secret(error: BaseException) -> None:
    """Fail if an error, or an error in its context, shows a secret."""
    assert error.__cause__ is None
    seen: BaseException | None = error
    while seen is not None:
        for text in (str(seen), repr(seen), repr(seen.args), repr(vars(seen))):
            for secret in (SECRET, repr(SECRET)[1:-1], MISPLACED):
                assert secret not in text
        # The errors of decoders keep the decoded text in these attributes.
        assert not hasattr(seen, "doc")
        assert not hasattr(seen, "object")
        seen = seen.__context__
