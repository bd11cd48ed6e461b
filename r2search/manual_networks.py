"""What `--help` says of the commands for an exported network."""

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
    "write a network for other runtimes, or average several",
    """\
Write an exported network for other runtimes, as ONNX (opset 18) or by torch.export. It
takes images of any height, width and number at once, prepared and standardised as its
metadata say, and gives probabilities. Resizing, contrast, tiles and the threshold are
the caller's.

Before the file is kept it is run: where it says something else than torch, by more than
0.001 in any probability, there is none. ONNX needs the packages of '.[onnx]'. A file of
torch.export is loaded by torch alone; load only those that you trust.

With --ensemble the best networks of a study become one bundle, RUN/bundle-ensemble, which
is used as any other: those that its confirmation trained, with their several seeds, then
those of the search. It is scored on the validation split, and says what it costs.
""",
    """examples:
  r2search export runs/NAME/bundle --onnx model.onnx
      for onnxruntime, and whatever else reads ONNX
  r2search export runs/NAME/bundle --torch model.pt2
      for torch without r2search: torch.export.load('model.pt2').module(check_guards=False)
  r2search export runs/NAME --ensemble 3
      the mean of the three best networks whose weights are there
  r2search export runs/NAME/bundle --onnx runs/NAME/bundle-onnx/model.onnx
      into another folder: what lies in a bundle is left as it is

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
  r2search serve runs/NAME
      with a gallery of the study: its best and its worst images, and the score of each
  r2search serve runs/NAME/bundle --host 0.0.0.0 --allow lab3.example.org --rate 30
      for the machines of a laboratory; no password is asked for
  r2search serve runs/NAME/bundle --port 0 --megapixels 100 --megabytes 200
      on a free port, and larger images

""",
)
