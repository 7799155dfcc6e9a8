"""Checks of the airport that a request names: its code must be in use, or be that of an interest of the user.

An update of the table of airports may retire a code, whose interests stay.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from collector.errors import NoSuchAirportError, NoSuchInterestError
from collector.model import InterestRow
from domain.airports import describe_unknown_code, find_airport, is_icao

_SHOWN_CHARACTERS: Final = 10
"""Characters of an invalid airport code that an error text repeats."""


def require_airport(icao: str, field: str | None = "airport_icao") -> None:
    """Raise NoSuchAirportError, which suggests similar airports, unless the code is an airport's ICAO code.

    `field`: the member or parameter of the request that has the code; None: its path has it.
    """
    if find_airport(icao) is None:
        raise NoSuchAirportError(f"{icao[:_SHOWN_CHARACTERS]}: {describe_unknown_code(icao)}", field)


def require_interest(session: Session, user_id: UUID, icao: str) -> None:
    """Raise NoSuchInterestError unless the user has an interest in the airport.

    Raises NoSuchAirportError in its place if no airport has the code; an interest is found even if its airport's code
    was retired.
    """
    query = select(InterestRow.interest_id).where(InterestRow.user_id == user_id, InterestRow.airport == icao).limit(1)
    if is_icao(icao) and session.scalar(query) is not None:
        return
    require_airport(icao, field=None)
    raise NoSuchInterestError(f"You have no interest in {icao}; set one first.")
