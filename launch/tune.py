"""`python launch/tune.py --space retina.yaml`: the same as `r2search tune`."""

import sys

from r2search.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
