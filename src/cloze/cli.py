"""The commands: `python train.py …`, `python compare.py …` and `cloze COMMAND …`. What is heavy is imported late."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from cloze.errors import Preempted, Refusal, RunFailure, did_you_mean


def train() -> None:
    """`python train.py …`; ends the process."""
    sys.exit(_guarded(_train, sys.argv[1:]))


def compare() -> None:
    """`python compare.py …`; ends the process."""
    sys.exit(_guarded(_compare, sys.argv[1:]))


def main() -> None:
    """`cloze COMMAND …`; ends the process."""
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "train": _train,
        "glue": _glue,
        "predict": _predict,
        "evaluate": _evaluate,
        "score": _score,
        "compare": _compare,
        "export": _export,
        "world": _world,
        "dashboard": _dashboard,
    }
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_COMMANDS)
        sys.exit(0)
    if words[0] == "--version":
        from cloze import __version__

        print(f"cloze {__version__}")
        sys.exit(0)
    if words[0] not in commands:
        sys.exit(_guarded(_unknown_command, [words[0], *commands]))
    sys.exit(_guarded(commands[words[0]], words[1:]))


_COMMANDS = """cloze train WORDS…        train (the same as python train.py WORDS…; see cloze train --help)
cloze glue RUN --data DIR a run for each task of GLUE, and their table beside the published rows
cloze predict RUN TEXT…   what a trained model says: fills [MASK]s, goes on with a text, writes it again, gives vectors
cloze evaluate RUN        perplexity per token and per word, bits per byte, of a whole split
cloze score TASK GOLD P   predictions P against gold data, as the scorers of SQuAD, GLUE, SuperGLUE, CLUE and CoNLL count
cloze compare FOLDER…     runs or a study side by side: means, intervals, verdicts; --html --md --latex --csv --json FILE
cloze export RUN DIR      write a Hugging Face directory that transformers loads
cloze world --tasks DIR   write the generated language's tasks in the formats of GLUE, XNLI, SQuAD, CoNLL, SWAG, RACE, BLiMP
cloze dashboard [FOLDER]  a page in your browser over all runs below FOLDER (default: outputs), live while they train"""


def _guarded(command: Callable[[Sequence[str]], int], words: Sequence[str]) -> int:
    """Runs a command; what goes wrong becomes one message and an exit code (2: the user's mistake, 1: failed while running)."""
    try:
        return command(words)
    except (Refusal, RunFailure) as fault:
        if "--debug" in words:
            traceback.print_exc()
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:
            for line in str(fault).splitlines():
                print(f"error: {line}", file=sys.stderr)
        return fault.exit_code
    except Preempted as stop:
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:
            print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as fault:
        if "--debug" in words:
            raise
        print(f"error: {type(fault).__name__}: {fault} (a fault of Cloze's own; --debug shows where)", file=sys.stderr)
        return 1


def _train(words: Sequence[str]) -> int:
    flags = [word for word in words if word.startswith("-")]
    settings = [word for word in words if not word.startswith("-")]
    if "--help" in flags or "-h" in flags:
        from cloze.help import render

        print(render())
        return 0
    if "--cfg" in flags:
        return _show_config([word for word in settings if word not in ("job", "all", "hydra")], "--resolve" in flags)
    unknown = [flag for flag in flags if flag not in ("-m", "--multirun", "--debug")]
    if unknown:
        raise Refusal(
            f"{unknown[0]} is not an option{did_you_mean(unknown[0], ['--help', '--cfg', '--multirun', '--debug'])}"
        )
    from cloze import studies
    from cloze.starting import complete
    from cloze.suites import names_all_of_glue

    if names_all_of_glue(settings):
        return _all_of_glue(settings, flags)
    if studies.is_asked_for(settings) or {"-m", "--multirun"} & set(flags):
        return _several(settings)
    from cloze.compose import compose

    words, note = complete(settings)
    composed = compose(words)
    from cloze.environment import prepare

    prepare()
    from cloze.folder import is_follower

    if note and not is_follower():
        print(note)
    from cloze.run import execute

    return execute(composed)


def _several(settings: Sequence[str]) -> int:
    """A study: of a file, or of words with several values."""
    from cloze import multirun
    from cloze.starting import with_family

    if multirun.names_a_launcher(settings):
        return multirun.run_grid(with_family(settings))
    from cloze.studies.run import run
    from cloze.studies.study import from_file, from_words

    named = any(word.startswith("sweeps=") for word in settings)
    return run(from_file(settings) if named else from_words(settings))


def _all_of_glue(settings: Sequence[str], flags: Sequence[str]) -> int:
    from cloze.studies import is_asked_for

    if is_asked_for(settings) or {"-m", "--multirun"} & set(flags):
        raise Refusal("data=glue/all is several runs already: lists are data.tasks=[cola,mrpc] data.seeds=[1,2,3]")
    from cloze.suites import glue

    return glue.run(glue.understood(settings))


def _show_config(settings: Sequence[str], resolve: bool) -> int:
    from omegaconf import OmegaConf

    from cloze.compose import compose
    from cloze.starting import complete

    print(OmegaConf.to_yaml(compose(complete(settings)[0]).config, resolve=resolve), end="")
    return 0


def _glue(words: Sequence[str]) -> int:
    from cloze.commands import glue

    parser = _Parser(
        prog="cloze glue",
        description="A run for each task of GLUE, their table beside the published rows, and the files that the leaderboard takes.",
    )
    glue.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return glue.run(parser.parse_intermixed_args(words))


def _predict(words: Sequence[str]) -> int:
    from cloze.commands import predict

    parser = _Parser(
        prog="cloze predict",
        description="What a trained model says of texts: it fills blanks, goes on with a text, writes it again or gives vectors.",
    )
    predict.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return predict.run(parser.parse_args(words))


def _evaluate(words: Sequence[str]) -> int:
    from cloze.commands import evaluate

    parser = _Parser(
        prog="cloze evaluate",
        description="Perplexity per token and per word and bits per byte of a whole split, with the protocol that they were measured by.",
    )
    evaluate.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return evaluate.run(parser.parse_args(words))


def _score(words: Sequence[str]) -> int:
    from cloze.commands import score

    parser = _Parser(prog="cloze score", description="Predictions against gold, as the benchmarks' own scorers count.")
    score.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return score.run(parser.parse_args(words))


def _compare(words: Sequence[str]) -> int:
    from cloze.commands import compare

    parser = _Parser(
        prog="cloze compare",
        description="Runs, or a study, side by side: means and intervals over seeds, differences to a baseline, what may be said.",
    )
    compare.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return compare.run(parser.parse_args(words))


def _export(words: Sequence[str]) -> int:
    parser = _Parser(prog="cloze export", description="Write a Hugging Face directory that transformers loads.")
    parser.add_argument("run", help="the run's folder (or its model/ folder)")
    parser.add_argument("directory", type=Path, help="where to write; must not exist or be empty")
    given = parser.parse_args(words)
    from cloze.loading import export

    for line in export(given.run, given.directory):
        print(line)
    print(f"written: {given.directory}")
    return 0


def _dashboard(words: Sequence[str]) -> int:
    from cloze.commands import dashboard

    parser = _Parser(prog="cloze dashboard", description="A page over all runs below a folder, live, in your browser.")
    dashboard.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return dashboard.run(parser.parse_args(words))


def _world(words: Sequence[str]) -> int:
    parser = _Parser(prog="cloze world", description="The generated language's tasks, in the formats of the originals.")
    parser.add_argument("--tasks", type=Path, required=True, metavar="DIR", help="where to write them")
    given = parser.parse_args(words)
    from cloze.data.world.tasks import write_tasks

    write_tasks(given.tasks)
    print(f"written: {given.tasks}")
    return 0


def _unknown_command(words: Sequence[str]) -> int:
    raise Refusal(f"{words[0]} is not a command{did_you_mean(words[0], words[1:])}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        if unknown := re.match(r"unrecognized arguments: .*?(--[\w-]+)", message):
            options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
            raise Refusal(f"{self.prog}: {unknown[1]} is not an option{did_you_mean(unknown[1], options)}")
        if wrong := re.match(r"(argument (\S+): invalid choice: '(.*?)') ", message):
            accepted = next((a.choices for a in self._actions if wrong[2] in a.option_strings), None) or ()
            raise Refusal(f"{self.prog}: {wrong[1]}{did_you_mean(wrong[3], map(str, accepted))}")
        raise Refusal(f"{self.prog}: {message}")


if __name__ == "__main__":
    main()
