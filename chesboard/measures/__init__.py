"""The measures of a preference pair: CHES and its relatives, edit distance, and their registry."""
