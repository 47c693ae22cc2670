"""`python -m whylens`: the command line."""

from whylens.ui.cli.app import main

main()
