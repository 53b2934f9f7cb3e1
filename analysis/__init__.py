"""The science: tensors in, frozen results out. No interface, no SQL."""
