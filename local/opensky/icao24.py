"""Transponder addresses (ICAO 24-bit, "icao24") of aircraft known by their registration.

The United States assign addresses by rule: the registrations N1 to N99999 are counted in one order and get the block
a00001 to adf7c7 one by one. The order is that of a dictionary in which letters come before digits: N1, N1A, N1AA to
N1AZ, N1B to N1ZZ, N10, N10A and so on. Rules for a registration: FAA, "Forming an N-Number" (one to five digits, or one
to four and a letter, or one to three and two letters; no leading zero; no I, no O). Block: ICAO Annex 10, volume III,
table 9-1.
"""

import re
from zlib import crc32

_FIRST_US_ADDRESS = 0xA00001
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_N_NUMBER = re.compile(rf"N(?=.{{1,5}}$)([1-9][0-9]{{0,4}})([{_LETTERS}]{{0,2}})")

# A subtree of the order: every registration that begins with the given number of digits. Five digits stand alone;
# four are followed by nothing, one letter or a fifth digit; fewer by nothing, one letter, two letters or a digit.
_SUFFIXES = 1 + len(_LETTERS) * (1 + len(_LETTERS))
_SUBTREE = {5: 1, 4: 1 + len(_LETTERS) + 10}
for _digits in (3, 2, 1):
    _SUBTREE[_digits] = _SUFFIXES + 10 * _SUBTREE[_digits + 1]

# ICAO reserves the addresses that begin with the bits 1101 for no state, so that no real aircraft can be meant.
_RESERVED_BLOCK = 0xD00000
_RESERVED_SIZE = 0x100000


def compute_icao24(registration: str) -> str:
    """Return the transponder address of an aircraft as six lower-case hexadecimal digits.

    Airlines also report names of their own for their aircraft ("N3ALAA"), which are no registrations; such an aircraft
    gets an invented address in a block that is given to nobody, always the same one for the same name.
    """
    address = compute_us_address(registration)
    if address is None:
        address = _RESERVED_BLOCK + crc32(registration.encode()) % _RESERVED_SIZE
    return f"{address:06x}"


def compute_us_address(registration: str) -> int | None:
    """Return the address (a number) of an aircraft registered in the United States, by the rule of the N-numbers.

    None if the registration is not a valid N-number.
    """
    match = _N_NUMBER.fullmatch(registration)
    if match is None:
        return None
    digits, suffix = match.groups()
    position = (int(digits[0]) - 1) * _SUBTREE[1]
    for place, digit in enumerate(digits[1:], start=2):
        # Before this digit come the parent's own registrations without a further digit, then its smaller digits.
        position += _SUBTREE[place - 1] - 10 * _SUBTREE[place] + int(digit) * _SUBTREE[place]
    return _FIRST_US_ADDRESS + position + _compute_suffix_position(suffix, last=len(digits) == 4)


def _compute_suffix_position(suffix: str, *, last: bool) -> int:
    """Return the position of a suffix (no, one or two letters) among the registrations with the same digits, from 0.

    `last`: no second letter can follow the first.
    """
    if not suffix:
        return 0
    first = _LETTERS.index(suffix[0])
    if last:
        return 1 + first
    return 1 + first * (1 + len(_LETTERS)) + (1 + _LETTERS.index(suffix[1]) if len(suffix) == 2 else 0)
