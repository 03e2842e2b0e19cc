"""What is made by scripts and kept in the repository, or made for the documentation."""

from __future__ import annotations

from flask.testing import FlaskClient

from app.domain.sketch import RELATIVE_ERROR
from app.infrastructure.tables import metadata
from tools import reference, sketch_plot


def test_the_plot_of_the_sketchs_error_is_that_of_the_sketch_and_stays_below_the_bound() -> None:
    measured = dict(sketch_plot.errors())
    assert all(max(errors) <= RELATIVE_ERROR for errors in measured.values())
    assert sketch_plot.TARGET.read_text() == sketch_plot.picture(measured)


def test_the_reference_has_every_route_parameter_and_answer(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json
    page = reference.routes(document)
    for path, methods in document["paths"].items():
        for method in set(methods) & set(reference.METHODS):
            section = page.split(f"## {method.upper()} {path}\n")[1].split("\n## ")[0]
            assert methods[method]["summary"] in section
            for parameter in methods[method].get("parameters", []):
                assert "$ref" in parameter or f"| `{parameter['name']}` |" in section
            assert all(f"| {status} | " in section for status in methods[method]["responses"] if status != "default")
    assert set().union(*document["paths"].values()) <= {*reference.METHODS, "parameters"}


def test_the_reference_has_every_column_of_every_table() -> None:
    page = reference.tables(metadata)
    for table in metadata.tables.values():
        section = page.split(f"## {table.name}\n")[1].split("\n## ")[0]
        assert all(f"| `{column.name}` | " in section for column in table.columns)
