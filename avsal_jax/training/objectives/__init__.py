"""What a training step minimises, from which batches: a module for each objective."""
