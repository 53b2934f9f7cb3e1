"""Concepts removed by TARS: the question, the removal, its verdict, the answer."""
