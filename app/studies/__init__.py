"""Studies: plans that make runs, go on as these end, and answer with a table or figure."""
