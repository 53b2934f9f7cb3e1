"""Record: findings and runs."""
