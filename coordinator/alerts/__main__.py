"""``python -m coordinator.alerts test``: send one alert and say what came back; see ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Final

from contract.errors import TabfleetError
from contract.logs import configure_logging
from contract.output import flush_output, tell
from coordinator.alerts.alert import Alert, AlertKind
from coordinator.alerts.receiver import ANSWER_TIMEOUT_S, Outcome, Receiver
from coordinator.errors import SettingsError
from coordinator.flags import load_settings

_DESCRIPTION: Final = "Send one alert of the kind test to ALERT_URL, once, and say what came back."
_EPILOG: Final = f"""It takes all variables and flags of the coordinator; those that matter here are ALERT_URL,
ALERT_SECRET_FILE (--alert-secret-file), HTTPS_PROXY, NO_PROXY and EXTRA_CA_FILE. It waits
{ANSWER_TIMEOUT_S:g} s at most.

exit codes:
    0  the receiver has it
    1  it does not
    2  a setting or a flag is wrong
  130  interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m coordinator.alerts",
        usage="%(prog)s [-h] test [--FLAG VALUE ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=("test",))
    _, flags = parser.parse_known_args(argv)
    try:
        settings = load_settings(flags)
        configure_logging(settings.log_format, settings.log_level)
        receiver = Receiver.from_settings(settings)
        if receiver is None:
            raise SettingsError("ALERT_URL is not set: there is nobody to tell")
        outcome = asyncio.run(_send(receiver))
    except TabfleetError as error:
        tell(f"error: {error}")  # the one line that the operator sees
        return 2
    except KeyboardInterrupt:
        return 130
    if outcome.problem is not None:
        tell(f"not delivered: {outcome.problem}")
        return 1
    print(f"delivered: the receiver answered HTTP {outcome.status}")  # noqa: T201 - the product
    return 0


async def _send(receiver: Receiver) -> Outcome:
    try:
        return await receiver.deliver(Alert(AlertKind.TEST, time.time()))
    finally:
        await receiver.close()


if __name__ == "__main__":
    code = main()
    flush_output()
    sys.exit(code)
