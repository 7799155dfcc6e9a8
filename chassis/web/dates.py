"""The header `Date` by a service's own clock, from which a client learns how far its own clock is from that."""

from flask import Flask, Response

from chassis.clock import Clock


def send_dates(app: Flask, clock: Clock) -> None:
    """Make each answer of the app say in `Date` what the service's clock shows, in whole seconds (RFC 9110, 6.6.1).

    Without it the HTTP server writes the machine's time, which is another one where the service's clock is shifted.
    """

    @app.after_request
    def add_date(response: Response) -> Response:
        response.date = clock.now()
        return response
