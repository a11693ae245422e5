"""The command line: its commands, and how errors become messages and exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownOptionError,
    UnusedCliTokensError,
)

from flows.cli.screen import Closed, fail, out
from tasks.core.errors import FashionFlowError, UserError
from tasks.storage.files import advised

HELP = """Build an image classifier step by step, as a flow that you can stop, resume and inspect.

Every stage is cached: to continue a run that was stopped, start the same command again.
"""

# A command NAME is the function NAME in the module `flows.cli.NAME`, which is imported only when
# the command is called.
COMMANDS = {
    "look": "Show what is in a data set and what is wrong with it, before anything is trained.",
    "run": "Run the workflow; stages whose results are in the store are not computed again.",
    "plan": "Show what a run would do: which stages are cached, which will run, and why.",
    "results": "Show the models of a run and their scores.",
    "verdicts": "Show what the gates of a run decided, and the evidence for it.",
    "labels": "Show images of a run whose labels are probably wrong; needs --protocol kfold.",
    "runs": "Show all runs: when, with which settings, and how they ended.",
    "report": "Print the path of a run's report, or open it.",
    "compare": "Show how two runs differ in settings and results.",
    "predict": "Classify pictures with a trained model: photographs, or images of a data set.",
    "ui": "Start a Prefect server with its UI on this machine; runs report to it while it runs.",
    "deploy": "Let Prefect workers run the flow with these settings, on demand or on a schedule.",
    "verify": "Compare every file in the store with its record; exit status 1 if one is damaged.",
    "doctor": "Show what the program sees on this machine; exit status 1 if anything is wrong.",
    "clean": (
        "Remove results that the latest runs do not use, and show how much space that frees.\n\n"
        "The latest runs, the latest complete run, stages being computed and the log of test "
        "scorings are kept."
    ),
}


def _shown_default(value: object) -> str | None:
    """A default as the help shows it; None, i.e. not shown, if it is off, empty or None."""
    return str(value) if value else None


def make_app() -> App:
    """The commands, their help, and how their options are written."""
    app = App(
        name="fashion-flow",
        help=HELP,
        console=out,
        help_flags=("--help", "-h"),
        version_flags=(),
        help_format="plaintext",
        default_parameter=Parameter(
            # A flag has no `--no-flag`; of an option given twice, the last one counts.
            negative=(),
            allow_repeating=True,
            show_default=_shown_default,
        ),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, text in COMMANDS.items():
        app.command(
            f"flows.cli.{name}:{name}", name=name, help=text, sort_key=list(COMMANDS).index(name)
        )
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; print expected errors as one message without a traceback.

    Args:
        arguments: the command and its options; by default those of the command line.

    Returns:
        The exit status: 0 for success; 1 for a failure; 2 for a mistake of the user; 3 if a
        required success criterion is not met; 130 if the user stopped it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    app = make_app()
    try:
        if not given:
            app.help_print([])
            return 2
        status = app(given)
    except Closed:
        return 0
    except CycloptsError as error:
        fail(_usage(error, given))
        return 2
    except FashionFlowError as error:
        fail(str(error))
        return 2 if isinstance(error, UserError) else 1
    except OSError as error:
        if isinstance(error, BrokenPipeError) and out.is_closed():
            return 0
        found = ": ".join(str(part) for part in (error.filename, advised(error)) if part)
        fail(found if ";" in found else f"{found}; check that it exists and that you may use it.")
        return 1
    except MemoryError:
        fail("there is not enough memory; free some, or raise the limit (`ulimit -v unlimited`).")
        return 1
    return status or 0


def _usage(error: CycloptsError, given: Sequence[str]) -> str:
    """A message that says what is wrong with the arguments and which help to read."""
    error.verbose = False
    message = str(error)
    if isinstance(error, UnusedCliTokensError):
        message = f"unexpected extra argument {' '.join(error.unused_tokens or ())}."
    elif isinstance(error, MissingArgumentError) and error.argument:
        name = error.argument.name
        message = f"missing argument {name}."
        if name.startswith("-"):
            message = f"{name} needs a value; if it begins with a dash, write {name}=VALUE."
    elif isinstance(error, UnknownOptionError) and os.path.lexists(error.token.value):
        # A shell puts the names of files in place of `*`.
        message = f"{error.token.value} is taken for an option; write ./{error.token.value}."
    command = f"{given[0]} " if given[0] in COMMANDS else ""
    return f"{message} See fashion-flow {command}--help."
