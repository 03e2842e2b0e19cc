"""A page is written without the schema, and reads as if the schema had written it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from app.application.prediction_list import Page
from app.application.predictions import PredictionColumns
from app.domain.predictions import Prediction
from app.presentation.schemas.prediction_list import page_json
from app.presentation.schemas.predictions import PredictionSchema

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(texts, parts, max_size=3),
    max_leaves=10,
)
predictions = st.builds(
    Prediction,
    model_name=texts,
    duration_ms=st.floats(0, 1e292),
    was_successful=st.booleans(),
    timestamp=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)),
    model_version=texts | st.just(""),
    error=st.none() | texts | st.just(""),
    metadata=st.none() | st.dictionaries(texts, json_values, max_size=3),
    request_id=st.none() | st.uuids(),
)


@given(st.lists(predictions, max_size=4))
def test_a_page_reads_as_the_schema_would_write_it(logged: list[Prediction]) -> None:
    ids = range(1, len(logged) + 1)
    page = Page(ids, PredictionColumns.together([PredictionColumns.of(prediction) for prediction in logged]), None)
    schema = PredictionSchema(many=True).dump([replace(one, id=id) for one, id in zip(logged, ids, strict=True)])
    read = json.loads(page_json(page))
    assert read == json.loads(json.dumps(schema))
    assert [list(record) for record in read] == [list(record) for record in schema], "in the same order"


def test_an_empty_page_is_an_empty_array() -> None:
    assert json.loads(page_json(Page([], PredictionColumns.together([]), None))) == []
