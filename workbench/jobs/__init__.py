"""Long work: the queue, the engines that carry it out, and how it stands."""
