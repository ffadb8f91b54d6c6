"""Real small files with damage from a seeded generator, given to every command that reads them.

`make fuzz` gives 2,000 inputs; `python -m tests.fuzz --help` says more. An input is a function of kind,
command and seed, and of the libraries that wrote the undamaged file.
"""
