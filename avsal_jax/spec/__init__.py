"""What configs, models and inputs are described by: plain values and dataclasses, without jax."""
