"""Bytes that were valid before something happened to them."""

from __future__ import annotations

import gzip

from hypothesis import strategies as st

# What a parser of JSON or of UTF-8 may stumble over.
THORNS = [
    b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xfe\xff", b"\x1a", b"\x7f",
    b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"\\u", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\x0c",
    b"null", b"NaN", b"-", b"1e999", b"-0", b"9" * 400, b"0" * 5000, b"1e-400", b"1e292", b"\xe2\x80\xa8", b"/*", b"//",
    b'"a":1,', b'"duration_ms":2,', b'"model_name":"x",', b'"metadata":{"a":1,"a":2},', b'"timestamp":"2025-06-09",',
    b"[" * 3000, b'{"a":' * 3000, b"]" * 3000, b"{}" * 20, b"[]," * 20,
]  # fmt: skip


ONCE_TO_THRICE = st.integers(1, 3)


@st.composite
def damaged(draw: st.DrawFn, body: bytes, times: st.SearchStrategy[int] = ONCE_TO_THRICE) -> bytes:
    """The body after so many accidents."""
    for _ in range(draw(times)):
        start, end = sorted(draw(st.tuples(st.integers(0, len(body)), st.integers(0, len(body)))))
        thorn = draw(st.one_of(st.sampled_from(THORNS), st.binary(min_size=1, max_size=4)))
        accidents = [
            body[:start] + thorn + body[start:],
            body[:start] + thorn + body[start + 1 :],
            body[:start] + body[start + 1 :],
            body[:start],
            body[:start] + body[end:],
            body[:end] + body[start:],
            body + body[start:end],
        ]
        body = draw(st.sampled_from(accidents))
    return body


@st.composite
def zipped(draw: st.DrawFn, body: bytes) -> bytes:
    """The body as gzip: whole, in members, twice, followed by something, or damaged."""
    at = draw(st.integers(0, len(body)))
    level = draw(st.sampled_from([0, 1, 9]))
    whole = gzip.compress(body, level, mtime=0)
    made: bytes = draw(
        st.one_of(
            st.just(whole),
            st.just(gzip.compress(body[:at], mtime=0) + gzip.compress(body[at:], mtime=0)),
            st.just(gzip.compress(b"", mtime=0) * 3 + whole),
            st.just(gzip.compress(whole, mtime=0)),
            st.just(whole + gzip.compress(body[:at], mtime=0)),
            st.just(whole + b"\0" * (1 + at % 9)),
            st.just(whole + body[at:] + b"x"),
            st.just(whole[: at % len(whole)]),
            damaged(whole),
        )
    )
    return made
