"""Declarations of the commands: their options and help. What they do lies beside this package."""
