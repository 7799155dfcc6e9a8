"""A model of one person's mailbox: what they read in which order, and what they believe after each mail.

It knows nothing of the notifier's stores: only the alerts as the stream raised them, and the mails that arrived.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from domain.alerts import Alert, AlertState, Bound

_Threshold = tuple[UUID, int, Bound]


class Mailbox:
    """The mails of one person, read one after the other."""

    def __init__(self) -> None:
        self.told: set[UUID] = set()
        """The ids of the alerts that were read, or that stood in a mail whose outcome was read."""
        self.breaches: set[tuple[_Threshold, datetime]] = set()
        """The windows that the person believes to be in breach."""
        self.ends: set[tuple[_Threshold, datetime]] = set()
        """The windows in which the person believes that a breach ended."""
        self._states: set[tuple[_Threshold, datetime, AlertState]] = set()
        """What was said of the windows, and not taken back: with `repeat` both FIRING and STILL may be."""
        self.complaints: list[str] = []
        """Sentences about mails that the person cannot understand, or reads a second time."""

    def read(self, alert_ids: Iterable[UUID], statements: Iterable[Alert]) -> None:
        """Read one mail: first find what it is about, then believe each statement."""
        in_mail = list(statements)
        self.told |= set(alert_ids)
        starting = self.breaches | {(_name(each), each.window_start) for each in in_mail if each.state.is_breach}
        ending = self.ends | {(_name(each), each.window_start) for each in in_mail if each.state is AlertState.RESOLVED}
        for each in in_mail:
            if not self._is_begun(each, starting, ending):
                self.complaints.append(f"an end without a beginning: {_describe(each)}")
        for each in sorted(in_mail, key=lambda each: (each.window_start, each.revision, _is_withdrawal(each))):
            self._believe(each)

    def _is_begun(
        self, alert: Alert, breaches: set[tuple[_Threshold, datetime]], ends: set[tuple[_Threshold, datetime]]
    ) -> bool:
        """Return True if the person knows the beginning of what an alert continues, ends or withdraws; else False.

        `breaches`, `ends`: what they believe with what this mail says. For RESOLVED and STILL another breach of the
        same threshold will do that was told, lies before and has not ended since: the record moved its beginning.
        """
        match alert.state:
            case AlertState.FIRING:
                return True
            case AlertState.WITHDRAWN:
                believed = ends if alert.is_about_end else breaches
                return (_name(alert), alert.window_start) in believed
            case AlertState.RESOLVED | AlertState.STILL:
                name, window = _name(alert), alert.window_start
                return alert.episode_id in self.told or any(
                    each == name
                    and start < window
                    and not any(ended == name and start < end < window for ended, end in self.ends)
                    for each, start in breaches
                )

    def _believe(self, alert: Alert) -> None:
        """Change what the person believes by one statement; add a complaint if it was told before."""
        window = _name(alert), alert.window_start
        believed = self.ends if alert.is_about_end else self.breaches
        if alert.state is AlertState.WITHDRAWN:
            believed.discard(window)
            self._let_ends_lapse(alert)
            states = (AlertState.RESOLVED,) if alert.is_about_end else (AlertState.FIRING, AlertState.STILL)
            self._states -= {(*window, state) for state in states}
            return
        if (*window, alert.state) in self._states:
            self.complaints.append(f"the same told twice: {_describe(alert)}")
        believed.add(window)
        self._states.add((*window, alert.state))
        self._let_ends_lapse(alert)

    def _let_ends_lapse(self, alert: Alert) -> None:
        """Forget which later ends were told of the alert's threshold: they lapsed, and may be told again."""
        threshold = _name(alert)
        for each in [each for each in self._states if each[2] is AlertState.RESOLVED]:
            if each[0] == threshold and each[1] > alert.window_start:
                self._states.remove(each)


def _name(alert: Alert) -> _Threshold:
    return alert.interest_id, alert.version, alert.bound


def _is_withdrawal(alert: Alert) -> bool:
    return alert.state is AlertState.WITHDRAWN


def _describe(alert: Alert) -> str:
    """Return an alert in short, for a failure's message."""
    return (
        f"{alert.state} {alert.withdrawn_state or ''} {alert.bound} {alert.window_start:%d %H:%M} r{alert.revision}"
        f" {'corrects' if alert.corrects else alert.provenance}"
    )
