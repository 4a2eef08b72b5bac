"""``python -m coordinator.profiles hydrate|check``: see ``--help``."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NoReturn

import structlog

from contract.errors import TabfleetError
from contract.logs import configure_logging
from contract.output import flush_output, tell
from coordinator.errors import FleetFileError, KeyFileError, NoUsableProfile, ProfileBackendError, SettingsError
from coordinator.flags import cell_fields, load_settings, table
from coordinator.profiles.check import check
from coordinator.profiles.errors import CacheError, S3Refused, S3Unreachable
from coordinator.profiles.hydration import Hydrator
from coordinator.profiles.model import Progress, no_progress
from coordinator.profiles.registry import PROVIDERS, provider_for
from coordinator.settings import PROFILES, S3

log = structlog.get_logger(__name__)
EXIT_CODES: Final[tuple[tuple[int, type[TabfleetError] | None, str], ...]] = (
    (0, None, "all is well"),
    (1, None, "check: some profiles may be used, but not all"),
    (2, SettingsError, "a setting or a flag is wrong"),
    (3, NoUsableProfile, "not one profile may be used"),
    (4, S3Refused, "S3 refuses: bucket, credentials or permissions"),
    (5, S3Unreachable, "S3 does not answer, or fails"),
    (6, CacheError, "the cache folder cannot be used, or is full"),
    (7, KeyFileError, "the key file cannot be used, or holds no key though REQUIRE_API_KEY is set"),
    (8, ProfileBackendError, "the local folder of profiles cannot be read"),
    (9, None, "an error in the program itself; its log has the place"),
    (10, FleetFileError, "the fleet file cannot be used"),
    (130, None, "interrupted"),
)
_COMMANDS: Final = {
    "hydrate": "Bring the profiles here and print where they are, as JSON on stdout; the log goes to stderr.",
    "check": "Validate the profiles and keys at their place, write nothing, and print a table.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        options, flags = _parser().parse_known_args(argv)
        if options.backend:
            flags += ["--profile-backend", options.backend]
        settings = load_settings(flags)
        configure_logging(settings.log_format, settings.log_level, **cell_fields(settings))
        with _progress_bar() as progress:
            if options.command == "check":
                report = check(provider_for(settings, progress), settings.auth_key_file_path)
                if options.json:
                    print(report.as_json())  # noqa: T201 - the product
                else:
                    from rich.console import Console  # noqa: PLC0415 - machines need not wait for it

                    Console(width=None if sys.stdout.isatty() else 160).print(report.as_table())
                if not report.usable:
                    return 3
                return 0 if report.usable == len(report.profiles) else 1
            hydration = Hydrator.from_settings(settings, progress).hydrate()
            print(hydration.result.model_dump_json())  # noqa: T201 - the product
            return 0
    except TabfleetError as error:
        tell(f"error: {error}")  # the one line that the operator sees
        return next(code for code, kind, _ in EXIT_CODES if kind and isinstance(error, kind))
    except KeyboardInterrupt:
        return 130
    except Exception:
        log.exception("command_failed")  # the class and the place; the text might hold a secret
        return 9


def _parser() -> argparse.ArgumentParser:
    epilog = ["flags and variables:"]
    for option in table():
        if option.group in {PROFILES, S3}:
            name = f"{option.flag} [{option.variable}]" if option.flag else f"[{option.variable}]"
            epilog += [f"  {name}", f"      {option.meaning} (default: {option.default})"]
    epilog += ["", "exit codes:", *(f"  {code:3}  {meaning}" for code, _, meaning in EXIT_CODES)]
    parser = argparse.ArgumentParser(
        prog="python -m coordinator.profiles",
        usage="%(prog)s [-h] {hydrate,check} [--backend {local,s3}] [--json] [--FLAG VALUE ...]",
        description="\n".join(f"{name:8} {meaning}" for name, meaning in _COMMANDS.items()),
        epilog="\n".join(epilog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("--backend", choices=PROVIDERS, help="in place of PROFILE_BACKEND")
    parser.add_argument("--json", action="store_true", help="check: print JSON in place of a table")
    return parser


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """Show a bar on stderr, if that is a terminal, from the first object to the last, so that it tears nothing else."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield no_progress
        return
    from rich.console import Console  # noqa: PLC0415 - machines need not wait for it
    from rich.progress import Progress as Bar  # noqa: PLC0415

    bar = Bar(console=Console(stderr=True), transient=True)
    task = bar.add_task("profiles", total=None)

    def show(done: int, of: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=of)
        if done == of:
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()


def run() -> NoReturn:
    """Run a command as a process that ends with it."""
    # Collecting garbage would take a third of its time, and taking the interpreter apart another.
    gc.disable()
    code = main()
    flush_output()
    os._exit(code)


if __name__ == "__main__":
    run()
