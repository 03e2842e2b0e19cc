"""The tests that do not hold on Citus, each with the reason: one place, so that the list can be seen to shrink."""

from __future__ import annotations

OTHER_PREDICTION = (
    "the model is a part of a prediction's key on Citus: a request id used for another model is another prediction"
)
PLAN = "the plan that the test reads is made on the nodes, and the coordinator's has tasks alone"
WAITERS = "the lock is waited for on a node, where the coordinator's pg_stat_activity does not show it"
TRIGGER = "the test makes a trigger of its own, or disables some, which Citus refuses on a distributed table"
READ_ONLY = (
    "a role that is read-only cannot even change itself on Citus, because its sessions on the nodes are read-only"
)
NO_BLOCK = "Citus tells its nodes a setting in a transaction block alone, and the test removes summaries outside of one"
NONE_YET = "Predlog 0.1 knew no Citus"

REASONS = {
    "tests/presentation/test_request_id_conflict.py": OTHER_PREDICTION,
    "tests/presentation/test_predict_logs.py::test_a_database_that_fails_in_the_middle_stores_nothing": TRIGGER,
    "tests/presentation/test_predict_logs.py::test_a_connection_that_breaks_in_the_middle_stores_nothing": WAITERS,
    "tests/presentation/test_predict_logs.py::"
    "test_more_batches_than_the_service_takes_are_503_while_single_writes_and_reads_get_through": WAITERS,
    "tests/presentation/test_predictions.py::test_a_late_page_is_found_in_an_index": PLAN,
    "tests/infrastructure/test_life_cycle.py::"
    "test_a_prediction_behind_the_edge_that_retention_has_not_come_to_cannot_be_deleted": TRIGGER,
    "tests/infrastructure/test_time_zones.py::test_what_is_left_of_a_day_of_summaries_is_a_day_of_utc": NO_BLOCK,
    "tests/test_migrations.py::test_a_database_of_0_1_is_brought_over_without_losing_a_row": NONE_YET,
    "tests/test_migrations.py::test_a_database_of_0_1_has_the_schema_of_a_new_one_once_it_is_brought_over": NONE_YET,
    "tests/test_migrations.py::test_a_database_of_an_earlier_revision_of_0_1_is_refused_and_left_as_it_is": NONE_YET,
    "tests/test_migrations.py::test_history_of_0_1_whose_rows_retention_has_dropped_is_brought_over": NONE_YET,
    "tests/test_grafana.py::test_what_the_reader_has_set_for_itself_is_undone_when_it_is_made_again": READ_ONLY,
    "tests/presentation/test_stats.py::test_rows_are_read_at_the_cut_ends_and_behind_the_watermark_alone": PLAN,
}


def why_not(test: str) -> str | None:
    """Why this test (a node id) does not run on Citus; None if it does."""
    name = test.partition("[")[0]
    return REASONS.get(name) or REASONS.get(name.partition("::")[0])
