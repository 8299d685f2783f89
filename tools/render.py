"""Render records into tables, README blocks and report.html; see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bdlib.cli.render import main

if __name__ == "__main__":
    sys.exit(main())
