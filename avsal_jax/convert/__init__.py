"""PyTorch weights -> model directories, strictly and without running any code from the file."""
