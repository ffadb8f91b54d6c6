"""What `avsal predict` can write: a module for each output. They import without numpy."""
