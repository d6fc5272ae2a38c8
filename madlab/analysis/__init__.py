"""What trained adapters show, what they cost, how small they can be made, and why a training disappoints."""
