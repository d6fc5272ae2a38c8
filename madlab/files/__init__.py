"""Files that are whole or absent, and checked when they are read: bytes, JSON, tensors, locks and schemas."""
