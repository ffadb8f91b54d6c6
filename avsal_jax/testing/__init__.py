"""Small models, generated videos and golden helpers, for our tests and our users'."""
