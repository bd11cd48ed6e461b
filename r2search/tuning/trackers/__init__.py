"""Where a study is shown; trials.jsonl remains the record.

`views` says what Weights & Biases is to hold of a record, `wandb` brings it there by the SDK,
`follow` does so in a process of its own, and `follower` is the driver's end of that process.
"""
