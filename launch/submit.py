"""`python launch/submit.py --address http://HEAD:8265 ...`: the same as `r2search job ...`."""

import sys

from r2search.cli import main
from r2search.submitting import command

if __name__ == "__main__":
    sys.exit(main(command(sys.argv[1:])))
