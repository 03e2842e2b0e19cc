"""The `predlog` command: look at a service, and send it records from a file."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from predlog.cli import exporting, importing, sending, show
from predlog.cli.console import CommandError, Exit
from predlog.connecting import Route
from predlog.importers import SOURCES
from predlog.settings import Settings
from predlog.text import printable
from predlog.transport import Transport
from predlog.version import __version__

EPILOG = """\
The service is at --url or PREDLOG_URL; PREDLOG_API_KEY is sent as the key (there is no option for it: other users of
the machine can read the command line). Exit codes: 0 done, 1 some records were rejected, 2 wrong usage or a file that
cannot be read or written, 3 the service could not be reached or refused the key, 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal has no letters for must not end the command
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    code = int(Exit.DONE)
    try:
        transport = _transport(options.url, options.timeout)
        code = int(options.run(transport, options))
        sys.stdout.flush()  # at the interpreter's exit it is too late to say what failed
        return code
    except CommandError as error:
        print(f"predlog: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of our output, `head` say, has had enough
        _give_up_output()
        return code
    except OSError as error:  # the disk that our output goes to is full, say
        print(f"predlog: reading or writing failed: {error.strerror or printable(error)}", file=sys.stderr)
        _give_up_output()
        return Exit.USAGE


def _replace_closed_streams() -> None:
    """Open the null device for each standard stream that was closed before the start, as `>&-` in a shell does."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (for as long as we run)


def _give_up_output() -> None:
    """Let the null device take what is left to write, so that the interpreter's exit does not fail at it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _transport(url: str | None, timeout: float) -> Transport:
    url = url or os.environ.get("PREDLOG_URL")
    if not url:
        raise CommandError("no service: pass --url http://logs:8000 or set PREDLOG_URL", Exit.USAGE)
    try:
        route = Route.of(Settings.made_of({}))
        route.check_files()
        return Transport(url, os.environ.get("PREDLOG_API_KEY") or None, timeout, route)
    except (ValueError, OSError) as error:
        raise CommandError(str(error), Exit.USAGE) from None


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", help="where the service is (default: PREDLOG_URL)")
    common.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="for one request (10)")

    parser = argparse.ArgumentParser(
        "predlog", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"predlog {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    tail = commands.add_parser(
        "tail", parents=[common], help="print predictions as they are logged", description=show.tail.__doc__
    )
    tail.add_argument("-n", "--lines", type=_count, default=10, metavar="N", help="begin with the last N (10)")
    tail.add_argument("--model", help="of this model only")
    tail.add_argument("--failed", action="store_true", help="failed ones only")
    tail.add_argument("--json", action="store_true", help="print each as a line of JSON")
    tail.add_argument("--once", action="store_true", help="print the last N and stop")
    tail.add_argument("--interval", type=_seconds, default=2.0, metavar="SECONDS", help="between two looks (2)")
    tail.set_defaults(run=show.tail)

    ranged = argparse.ArgumentParser(add_help=False, parents=[common])
    ranged.add_argument("--model", action="append", default=[], help="of this model only; may be given again")
    ranged.add_argument("--from", dest="from_", metavar="WHEN", help="date or time, 2025-06-09 or 2025-06-09T12:00Z")
    ranged.add_argument("--to", metavar="WHEN", help="date (included) or time (excluded)")
    ranged.add_argument("--json", action="store_true", help="print the answer as it is")

    stats = commands.add_parser("stats", parents=[ranged], help="print the statistics of a range")
    stats.add_argument("--under", metavar="MS,…", help="share of the predictions that took at most so long: 200,500")
    stats.set_defaults(run=show.stats)

    histogram = commands.add_parser("histogram", parents=[ranged], help="draw how the durations are distributed")
    histogram.add_argument("--bins", type=int, default=20, metavar="N", help="at most so many lines (20)")
    histogram.set_defaults(run=show.histogram)

    retried = argparse.ArgumentParser(add_help=False, parents=[common])
    retried.add_argument(
        "--retry-timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for a service away (60)",
    )

    send = commands.add_parser("send", parents=[retried], help="send the records of an NDJSON file; run again to go on")
    send.add_argument("file", metavar="FILE", help="one JSON object a line; - for standard input")
    send.add_argument("--restart", action="store_true", help="send from the first line, whatever was sent before")
    send.set_defaults(run=sending.send_file)

    export = commands.add_parser("export", parents=[retried], help="write predictions to a file; run again to go on")
    export.add_argument("file", metavar="FILE", help="its name ends in .ndjson, .csv or .parquet")
    export.add_argument("--format", choices=("ndjson", "csv", "parquet"), help="if the name does not say it")
    export.add_argument("--model", help="of this model only")
    export.add_argument("--from", dest="from_", metavar="WHEN", help="date or time, 2025-06-09 or 2025-06-09T12:00Z")
    export.add_argument("--to", metavar="WHEN", help="date (included) or time (excluded)")
    export.set_defaults(run=exporting.export)

    bring = commands.add_parser(
        "import", parents=[retried], help="store an export, or what another system has kept; run again adds nothing"
    )
    bring.add_argument("file", metavar="FILE")
    bring.add_argument("--from", dest="source", choices=SOURCES, default="predlog", help="what wrote it (predlog)")
    bring.add_argument("--model", metavar="M", help="access-log: the model of all lines")
    bring.add_argument("--path", metavar="REGEX", help="access-log: finds (?P<model>…), (?P<version>…) in a path")
    bring.add_argument("--unit", choices=("s", "ms", "us"), help="access-log: of the duration at the end of a line")
    bring.set_defaults(run=importing.import_file)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= show.MAX_PAGE:
        raise argparse.ArgumentTypeError(f"must be from 1 to {show.MAX_PAGE}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("must be more than 0")
    return number
