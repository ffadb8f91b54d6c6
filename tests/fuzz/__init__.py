"""Real small files with damage from a seeded generator, given to every command that reads them.

`python -m tests.fuzz --help` runs it; `make fuzz` runs 2,000 inputs. An input is a function of (kind, command,
seed) and of the libraries that wrote the undamaged file.
"""
