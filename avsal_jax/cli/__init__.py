"""The commands: one argparse module each; heavy imports come after the flags are parsed."""
