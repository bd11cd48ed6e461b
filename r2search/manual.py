"""What `--help` says beside the flags: of each command one line, a description, examples."""

EXIT_CODES = """exit codes:
  0  completed      1  failed      2  misuse: nothing was started
  3  an error ended the search early, and there is a result
  130, 143  interrupted by Ctrl-C or SIGTERM; what was finished is kept
"""

EXAMPLES = """examples:
  r2search tune --space quick.yaml
      a study of about a minute on synthetic images: does everything work here?
  r2search tune --space general.yaml --data MY_FOLDER --time 1h
      the best network for your own images
  r2search predict RUN/bundle image.png -o predictions
      what that network makes of an image
  r2search data check MY_FOLDER
      what is in a folder of images, and what looks wrong with it
  r2search COMMAND --help
      all that a command can do

"""

TUNE = (
    "search for the best network of a space file",
    """\
Search for the best network of a space file. What may vary, the objective and the
budget stand there; flags overrule it.

Data and settings are checked before anything is started. The best epoch of the best
trial is scored once on the test split and exported. Everything lies in one run folder:
report.html to look at, summary.json for scripts, bundle/ to predict with. The first
Ctrl-C ends the search and still writes all of that; a second one ends it at once.
""",
    """examples:
  r2search tune --space retina.yaml
      the shipped study of retinal vessels; without images, on synthetic ones
  r2search tune --space retina.yaml --data data/chase_db1 --time 20m
      the same on real photographs, for twenty minutes
  r2search tune --space general.yaml --data MY_FOLDER
      your own: MY_FOLDER/images/a.png with MY_FOLDER/masks/a.png, and so on
  r2search tune --space retina.yaml --set model.block=conv --set budget.max_epochs=20
      the same study with one setting fixed and another changed
  r2search tune --resume RUN
      go on with a study that was interrupted; RUN is its run folder
  r2search tune --resume RUN --time +30m
      search half an hour longer
  r2search tune --space retina.yaml --warm-start runs/retina-1 runs/retina-2
      begin with what these two studies found out
  r2search tune --space retina.yaml --progress json
      tell a script how it goes: one object a line (docs/watching.md)
  r2search tune --space retina.yaml --out s3://BUCKET/retina1
      keep the run folder in a bucket; --resume s3://BUCKET/retina1 goes on anywhere

`python launch/tune.py ...` is the same command.

""",
)

PREVIEW = (
    "say what a study would train, and what it would take",
    """\
Say what a study would train, and what it would take, before it is begun.

The speed of one worker is measured (some seconds), and many configs are drawn from the
space: how many trials the time allows and how many come to each rung, the baselines, the
fastest and the slowest config with their memory, what of the space is refused and why,
and the disk that the run folder may need. Nothing is trained or written.
""",
    """examples:
  r2search preview --space retina.yaml --data data/chase_db1 --time 20m
      what twenty minutes on this machine would come to
  r2search preview --space general.yaml --data MY_FOLDER --set resources.memory=2GB
      how much of the space fits into two gigabytes a worker

""",
)

TRAIN = (
    "train one configuration, without a search",
    """\
Train one configuration, without a search, for budget.max_epochs epochs.

What varies in the space file takes r2search's default, unless --set or --baseline
says otherwise. The run folder is that of a study with one trial.

With --final it trains the best settings of a study that has ended on all of its labelled
images, as RUN/bundle-final. That network has no test score: no image is left for one.
""",
    """examples:
  r2search train --space retina.yaml --data data/chase_db1 --baseline B1
      the published setting that the space file names
  r2search train --space quick.yaml --set model.block=conv --set budget.max_epochs=2
      a plain U-Net on synthetic images, for two epochs
  r2search train --final runs/NAME
      the best of a study, once more, on its validation and test images too

""",
)

REPORT = (
    "make the report of a study again, or compare several",
    """\
Make report.html of a study again from its run folder, without training or scoring
anything; or set several studies side by side in one page: what each found, how soon,
and by which settings. A page is one file and opens offline.
""",
    """examples:
  r2search report runs/NAME
      its report.html again, as this version of r2search draws it
  r2search report runs/retina-1 runs/retina-2 -o comparison.html
      two studies in one page: a table, and the best so far over time and FLOPs

""",
)

SYNC = (
    "upload a study to Weights & Biases",
    """\
Upload a study to Weights & Biases: one that was run offline, or what is missing of one
that lost its connection. Its sweep, a run for every trial, and a run of the study itself
with the bundle as an artifact, as if it had been online. What is there already stays; the
command may be repeated, and the run folder may have been moved.

It needs a login (`wandb login`, or WANDB_API_KEY). WANDB_BASE_URL, WANDB_ENTITY and
WANDB_PROJECT say where to; the project is r2search otherwise.
""",
    """examples:
  r2search sync runs/NAME
      all that W&B lacks of this study
  r2search sync FROM_THE_CLUSTER/NAME
      the same of a run folder that came from another machine

""",
)

RUNS = (
    "list run folders, and free what they no longer need",
    """\
List the run folders in a folder: when each study began, how it ended, its best value and
its size. With --clean the checkpoints of completed studies are removed, which only extending
them needs; bundles, records and reports stay.
""",
    """examples:
  r2search runs
      those in the folder runs
  r2search runs runs --clean --yes
      free what can be freed, without a question

""",
)

DATA = (
    "check labelled images, or fetch public ones",
    """\
Check labelled images before anything is trained on them, or fetch a public data set.
""",
    """examples:
  r2search data check MY_FOLDER
      what is in it, and what looks wrong
  r2search data fetch
      the data sets that can be fetched, with their terms

""",
)

CHECK = (
    "say what a data set is like, and what looks wrong with it",
    """\
Say what a data set is like, and what looks wrong with it.

Errors, with exit code 1: files that no study would accept, one picture under two
names (also saved again, rescaled, mirrored or turned), one subject or one picture on
two sides of the official split, masks that were swapped, images without content.
Notices, with exit code 0: masks and images far from the rest, and what keeps the data
from being split.

Without --reader, the one reader is used that fits the folder. The sheet shows images
spread over the set, and every suspicious one, with their masks outlined.
""",
    """examples:
  r2search data check MY_FOLDER -o sheet.png
      your own images, with a sheet of pictures to look at
  r2search data check MY_FOLDER --set data.labels=[1,2]
      the masks have the values 1 and 2 for two classes
  r2search data check data/chase_db1 --reader chase_db1 --space retina.yaml
      as a study of that space file would read it

""",
)

FETCH = (
    "download a public data set",
    """\
Download a public data set, unpack it and compare its checksums. Its terms are shown
first, and have to be agreed to. Without a name, list what can be fetched.
""",
    """examples:
  r2search data fetch
      the list, and where to get what its owners hand out themselves
  r2search data fetch chase_db1
      28 retinal photographs into data/chase_db1; asks whether you agree to the terms

""",
)

SIMULATE = (
    "replay searches on recorded learning curves, in seconds",
    """\
Replay searches on recorded learning curves, with workers and a clock that are not real:
which searcher and which scheduler finds how much, how soon? No image is read and nothing
is trained.

A proposal is run as the nearest recorded config that the study has not had yet. The rest is
as in a search: the same decisions, the same deadline. The table has medians over the seeds.
""",
    """examples:
  r2search simulate CURVES --space retina.yaml --time 10m
      ten studies of ten minutes by four workers
  r2search simulate CURVES --space retina.yaml --vary 'search.searcher=[tpe, random]'
      two searchers
  r2search simulate CURVES --space retina.yaml --vary 'early_terminate.type=[asha, none]' --seeds 50
      two schedulers, fifty studies of each
  r2search simulate CURVES --space retina.yaml --workers 16 --json studies.json
      by sixteen workers; every study also in a file, for a script

""",
)
