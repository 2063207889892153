"""`python -m lakeport`: the command."""

from lakeport.cli.main import main

main()
