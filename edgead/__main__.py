"""`python -m edgead`."""

from edgead.cli import main

main()
