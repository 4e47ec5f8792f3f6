"""The version of the program and of its client."""

VERSION = "0.1.0"
