-- There are none on this engine, and a question about one model reads that there are none on the node of the model.
SELECT create_reference_table('prediction_invalidation');
