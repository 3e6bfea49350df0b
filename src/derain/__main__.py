"""``python -m derain``."""

from .cli.main import main

main()
