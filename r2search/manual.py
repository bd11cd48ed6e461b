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
""",
    """examples:
  r2search train --space retina.yaml --data data/chase_db1 --baseline B1
      the published setting that the space file names
  r2search train --space quick.yaml --set model.block=conv --set budget.max_epochs=2
      a plain U-Net on synthetic images, for two epochs

""",
)

PREDICT = (
    "segment images with an exported network",
    """\
Segment images with an exported network.

For every image NAME.* it writes, at the image's own size, NAME_mask.png (0 and 255; of
several classes their values in data.labels), NAME_probability.png (16 bit: 65535 is 1)
and NAME_overlay.png (for the eye). A DICOM slice (.dcm) is an image; a NIfTI volume
(.nii, .nii.gz) gets NAME_mask.nii.gz in its own grid. A file that cannot be read is
named and costs only itself; the exit code is then 1.

A TIFF of more than 67 million pixels is read, predicted and written by rows, as TIFF
files: it may be larger than memory. The list of what is done, predictions.jsonl, lies
with the results: the same command again goes on where it was stopped.
""",
    """examples:
  r2search predict runs/NAME/bundle photo.png -o predictions
      one image
  r2search predict runs/NAME/bundle scans/ extra.tif -o predictions --threshold 0.4
      all images of a folder and one more, at another threshold than the bundle's
  r2search predict runs/NAME/bundle 'scans/**/*.dcm' -o predictions --tta flips
      slices at any depth of a folder, each seen in four ways: slower, a little better

""",
)

EXPORT = (
    "write an exported network for other runtimes, as ONNX",
    """\
Write an exported network for other runtimes, as ONNX (opset 18). It takes images of
any height, width and number at once, prepared and standardised as its metadata say,
and gives probabilities. Resizing, contrast, tiles and the threshold are the caller's.

Before the file is kept it is run: where it says something else than torch, by more than
0.001 in any probability, there is none. The packages for it are those of '.[onnx]'.
""",
    """examples:
  r2search export runs/NAME/bundle --onnx model.onnx
      for onnxruntime, and whatever else reads ONNX
  r2search export runs/NAME/bundle --onnx runs/NAME/bundle-onnx/model.onnx
      into another folder: what lies in a bundle is left as it is

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

EVALUATE = (
    "score an exported network anew on labelled images",
    """\
Score an exported network anew on labelled images: whole images, at their own size,
inside the field of view, at the bundle's threshold. No stored score is read, and
changed weights are scored as they are.

The split is the one that the study made of these images. Ask for all of a data set
that the study has not seen: --split all.
""",
    """examples:
  r2search evaluate runs/NAME/bundle
      the study's validation images: the score that its summary.json holds
  r2search evaluate runs/NAME/bundle --split test -o test.csv
      its test images; the scores of each image go into test.csv
  r2search evaluate runs/NAME/bundle --data OTHER_FOLDER --reader folder --split all
      every image of another folder

""",
)

SERVE = (
    "open a web page on an exported network",
    """\
Open a web page on an exported network: drop images, see their masks, move the threshold,
save the results. Nothing leaves this machine, and no network is needed.

Scripts send images to /api/predict; /openapi.json describes it, /health says that the
server is up. Whoever can reach the address may use it, so it is of this machine only
unless --host says otherwise. An image is predicted as `r2search predict` does. Files are
refused that are no images, damaged, or larger than the limits; volumes are, too.
""",
    """examples:
  r2search serve runs/NAME/bundle --browser
      the page, opened
  r2search serve runs/NAME/bundle --host 0.0.0.0 --allow lab3.example.org --rate 30
      for the machines of a laboratory; no password is asked for
  r2search serve runs/NAME/bundle --port 0 --megapixels 100 --megabytes 200
      on a free port, and larger images

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
