"""The version of Headlamp: the one place that says it. Building a wheel reads it here."""

VERSION = "0.1.0"
