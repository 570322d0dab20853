"""`python -m greenprune`: the command line."""

import sys

from greenprune.bench.cli.main import main

sys.exit(main())
