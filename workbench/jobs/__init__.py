"""Jobs: the queue, the engines, and job status."""
