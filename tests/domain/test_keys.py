from __future__ import annotations

import base64
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.keys import ApiKey, Scope, full_key, hash_of, new_secret, split_key

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def key(secret: str) -> ApiKey:
    return ApiKey(1, "shop", Scope.WRITE, hash_of(secret), datetime.now(timezone.utc))


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.WRITE, {Scope.WRITE}),
        (Scope.READ, {Scope.READ}),
        (Scope.ADMIN, {Scope.WRITE, Scope.READ, Scope.ADMIN}),
    ],
)
def test_only_admin_includes_other_scopes(scope: Scope, allowed: set[Scope]) -> None:
    assert {needed for needed in Scope if scope.allows(needed)} == allowed


def test_a_secret_has_256_bits_and_comes_once() -> None:
    secrets = {new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert {len(base64.urlsafe_b64decode(secret + "=")) for secret in secrets} == {32}


@given(st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_key_is_split_into_what_it_was_made_of(key_id: int, random: bytes) -> None:
    secret = base64.urlsafe_b64encode(random).decode().rstrip("=")  # it may have underscores, too
    assert split_key(full_key(key_id, secret)) == (str(key_id), secret)


@pytest.mark.parametrize("text", ["", "predlog", "predlog_", "predlog_1", "predlog_1_", "predlog__x", "other_1_x"])
def test_what_cannot_be_a_key_is_not_split(text: str) -> None:
    assert split_key(text) is None


@given(st.text())
def test_any_text_at_all_can_be_compared(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert not key(new_secret()).accepts(hash_of(text), NOW)


def test_a_secret_fits_its_own_key_only() -> None:
    secret = new_secret()
    assert key(secret).accepts(hash_of(secret), NOW)
    assert not key(secret).accepts(hash_of(secret[:-1]), NOW)
    assert not key(secret).accepts(hash_of(secret + "A"), NOW)
    assert not key(new_secret()).accepts(hash_of(secret), NOW)


def test_a_key_that_is_printed_shows_no_hash() -> None:
    assert "hash" not in repr(key(new_secret()))
