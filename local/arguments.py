"""Types of command-line arguments, whose errors say what is wanted: argparse's own name Python's types."""

import argparse


def parse_port(text: str) -> int:
    """Parse a TCP port. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a number from 1 to 65535")
    return int(text)


def parse_whole_number(text: str) -> int:
    """Parse a number of digits alone. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)
