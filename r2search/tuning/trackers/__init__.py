"""Where trials are shown; trials.jsonl remains the record."""
