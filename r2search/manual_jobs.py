"""What `--help` says of `r2search job` beside the flags; as in manual.py."""

JOB = (
    "run a study on a Ray cluster",
    """\
Run a study on a Ray cluster that is reached by its dashboard's address: submit it,
follow it, stop it, fetch its results. Of a cluster with Slurm: make the batch script.
""",
    """examples:
  r2search job submit --help
      how a study is submitted
  r2search job status
      the studies of the cluster that RAY_API_SERVER_ADDRESS names

`python launch/submit.py ...` is `r2search job submit ...`; `python launch/submit.py stop ...`
is `r2search job stop ...`, and so on. docs/cluster.md begins at the beginning.

""",
)

SUBMIT = (
    "send a study to a cluster, and follow it",
    """\
Send a study to a Ray cluster, follow what it prints, and end with its own exit code.
The flags are those of `r2search tune`.

Only the code and the space file are sent, never data. So --data and --out are paths
of the cluster's nodes: the images lie at --data on every node, and --out, which must be
given, is on storage that all of them share. What is wrong with the space is said here,
what is wrong with the nodes by the study itself, before it trains anything.

--resume goes on with a study in its run folder, a path of the cluster's nodes: one that was
stopped or broke off, or one that is to have more time or trials. Nothing else is needed.

Ctrl-C ends the following, not the study. Later, with the printed name ID of the study:
  follow ID   stop ID   status [ID]   fetch ID --out DIR
""",
    """examples:
  r2search job submit --address http://HEAD:8265 --space retina.yaml --out /shared/runs/first
      a study of the shipped space; without images, on synthetic ones
  r2search job submit --space retina.yaml --data /shared/chase_db1 --out /shared/runs/r1 --time 8h
      eight hours on photographs, where RAY_API_SERVER_ADDRESS holds the address
  r2search job submit --space my.yaml --out /shared/runs/my --workers 8 --detach
      your own space file, without waiting for the end
  r2search job submit --resume /shared/runs/r1 --time +30m
      half an hour more for the study in this run folder

`python launch/submit.py ...` is the same command.

""",
)

FOLLOW = (
    "print what a study prints, to its end",
    """\
Print what a study has printed and prints, until it ends; the exit code is the study's.
A lost connection is taken up again. Ctrl-C ends the following, not the study.
""",
    """examples:
  r2search job follow ID
      the study of this name
  r2search job follow ID --address http://HEAD:8265
      on another cluster than RAY_API_SERVER_ADDRESS names

""",
)

STATUS = (
    "say how the studies of a cluster stand",
    """\
Say how a study stands, or all that were submitted: its state, when it began, how long
it has taken, its run folder on the cluster and the exit code.
""",
    """examples:
  r2search job status
      all of them, the oldest first
  r2search job status ID --address http://HEAD:8265
      one

""",
)

STOP = (
    "end a study well, before its time",
    """\
End a study before its time, as Ctrl-C does where it runs: trials stop, the best one is
tested and exported. It gets 30 seconds for that; then it is killed.
""",
    """examples:
  r2search job stop ID
      end it, and wait until it has ended; `fetch ID` then brings what it found
  r2search job stop ID --address http://HEAD:8265
      on another cluster than RAY_API_SERVER_ADDRESS names

""",
)

FETCH = (
    "bring the results of a study to this machine",
    """\
Bring the results of a study to this machine: summary.json, report.html, bundle/,
trials.jsonl, space.yaml, environment.json. Checkpoints and offline W&B runs stay on the
cluster. A study that still runs can be fetched, too, as far as it is.

Sizes and checksums are compared; the folder is made whole or not at all.
""",
    """examples:
  r2search job fetch ID --out runs/retina
      then open runs/retina/report.html
  r2search job fetch ID --address http://HEAD:8265
      into runs/ID

""",
)

SLURM = (
    "print a batch script for a cluster with Slurm",
    """\
Print a batch script for a cluster with Slurm. Sent with sbatch, from a clone that all nodes
see, it starts Ray on the nodes, runs the study and ends with its exit code. The flags
are those of `r2search tune`; --out is on storage that all nodes share.
""",
    """examples:
  r2search job slurm --nodes 2 --cpus 16 --gpus 4 --space retina.yaml --time 4h --out runs/r1
      > study.sh, then: sbatch --partition=gpu study.sh
  r2search job slurm --space general.yaml --data /shared/mine --out /shared/runs/mine
      one node with 8 CPUs
  r2search job slurm --resume /shared/runs/mine --time +4h
      go on with it where Slurm ended it, and four hours longer

""",
)
