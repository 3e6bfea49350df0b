"""The version, apart so that nothing imports the package to ask for it."""

__version__ = "0.1.0"
