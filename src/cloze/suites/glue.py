"""All of GLUE (https://arxiv.org/abs/1804.07461) from one sentence: its tasks' runs, their table, and what the leaderboard takes.

`python train.py init=RUN data=glue/all data.path=FOLDER` is a sentence `init=RUN data=glue/TASK data.path=FOLDER …` for each task, each run
in a process of its own, so what a sentence leaves out is what it would be alone. The same sentence again goes on where it stopped.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cloze.compose import compose, parse
from cloze.data.base import Record
from cloze.deciding import decides
from cloze.errors import Preempted, Refusal, did_you_mean
from cloze.folder import RunFolder
from cloze.schema import Node, faults, locate, parameters
from cloze.scoring.glue import GLUE
from cloze.suites import ALL_OF_GLUE, process
from cloze.suites.glue_table import TITLES, Report

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from cloze.data.tasks.glue import Glue

WORLD = "world"  # as a path: the generated language's tasks
FROM_MNLI = ("rte", "stsb", "mrpc")  # https://arxiv.org/abs/1907.11692, section 5.1
LEADERBOARD = tuple(f"{title}.tsv" for title in TITLES.values())  # the files of a submission
Start = Callable[[Sequence[str]], process.Ended]

_WORLDS_SETTINGS = ("train", "validation", "test", "task_seed")  # of each of its tasks
_NOT_OF_SEVERAL = ("plan", "show", "audit", "matrix")  # look at one run


class SeveralTasks(Record):
    """What no objective learns from: it is one task that a run has."""


class GlueSuite:
    """Settings of conf/data/glue/all.yaml. It is not a corpus: the sentence that has it is several runs (`run`).

    path   GLUE's folder; what `datasets` loads (nyu-mll/glue); or "world", the generated language's tasks of the same names
    tasks  which; None: all that are there
    seeds  each task's runs; None: one, of the sentence's seed
    chain  RTE, STS-B and MRPC start from the same seed's model of MNLI
    """

    reads: ClassVar[type[Record]] = SeveralTasks

    def __init__(
        self,
        path: str,
        tasks: list[str] | None = None,
        seeds: list[int] | None = None,
        chain: bool = False,
        revision: str | None = None,
    ) -> None:
        plain = {_plain(name): name for name in (*GLUE, *(TITLES[task] for task in GLUE if task in TITLES))}
        for name in tasks or []:
            if _plain(name) == "ax":
                raise Refusal("data.tasks: AX is not trained on: it comes with mnli, where the folder has it")
            if _plain(name) not in plain:
                raise Refusal(f"data.tasks: {name} is not a task of GLUE{did_you_mean(name.lower(), GLUE)}")
        wanted = {_plain(name) for name in (GLUE if tasks is None else tasks)}
        self.tasks = tuple(task for task in GLUE if task in wanted)
        if not self.tasks:
            raise Refusal(f"data.tasks=[] names no task. Accepted: {', '.join(GLUE)}.")
        if seeds is not None and (not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0):
            raise Refusal(f"data.seeds={seeds} must be whole numbers from 0, each once")
        if revision is not None and path == WORLD:
            raise Refusal(f"data.revision={revision} has no effect on the generated language's tasks: leave it out")
        self.all_said = tasks is not None
        self.path, self.seeds, self.chain, self.revision = path, seeds, chain, revision

    def there(self) -> list[str]:
        """The tasks that are there, of those that are wanted. Raises Refusal where none is, and where one that was named is not."""
        if self.path == WORLD:
            return list(self.tasks)
        self._refuse_one_task()
        found = [task for task in self.tasks if self._holds(task)]
        missing = [TITLES.get(task, task) for task in self.tasks if task not in found]
        if missing and (self.all_said or not found):
            raise Refusal(f"data.path={self.path} has no files of {', '.join(missing)}")
        return found

    def _refuse_one_task(self) -> None:
        from cloze.data.tasks import glue

        tables = glue._tables(Path(self.path).expanduser(), "mnli")
        if tables:
            its = next(iter(glue._tasks_of(tables)), "mrpc")
            raise Refusal(
                f"data.path={self.path} is the folder of one task: data=glue/{its} trains on it. "
                f"data={ALL_OF_GLUE} takes the folder that has the tasks' folders in it"
            )

    def _holds(self, task: str) -> bool:
        """Whether a folder has files of a task, be they well-formed or not; of what `datasets` loads, all tasks are expected."""
        from cloze.data.files import find
        from cloze.data.tasks import glue

        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            if folder.exists():
                raise Refusal(f"data.path={self.path} is a file; it must be GLUE's folder")
            if self.path.startswith(("/", ".", "~")) or self.path.count("/") != 1:
                find("data.path", self.path)  # says what is near
            return True
        if glue._is_dataset(folder):
            return True
        try:
            return bool(self.corpus(task).tables)
        except Refusal:  # if it is there, its own run says what is wrong with it
            return any(glue._task_named(each) == task for each in folder.iterdir())

    def corpus(self, task: Any) -> Glue:
        """A task's files."""
        from cloze.data.tasks.glue import Glue

        return Glue(task, self.path, self.revision)

    def data(self, task: str) -> list[str]:
        """The words that say a task's data."""
        if self.path == WORLD:
            return [f"data=world/{task}"]
        said = {"path": self.path, "revision": self.revision}
        return [
            f"data=glue/{task}",
            *(f"data.{key}={written(value)}" for key, value in said.items() if value is not None),
        ]


@dataclass(frozen=True)
class Job:
    """One run: its words but for its folder. `after` is the job whose model it starts from."""

    task: str
    seed: int
    folder: Path
    words: tuple[str, ...]
    after: Job | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    def is_done(self) -> bool:
        """Whether it has ended, and has been scored."""
        from cloze.downstream import read_scores

        return RunFolder(self.folder).facts().get("status") == "done" and bool(read_scores(self.folder))

    def deciding(self) -> dict[str, Any]:
        """All that decides what comes out of it, with what the sentence leaves out; but for what it starts from."""
        from cloze.starting import complete

        words = self.words if self.after is None else (*self.words[1:], *self.after.words[:1])
        return _deciding(complete(words)[0])


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    status: Literal["done", "was there", "failed"]
    reason: str = ""


@dataclass(frozen=True)
class Suite:
    """A sentence with data=glue/all, understood. `words` are those that go into every run."""

    settings: GlueSuite
    init: str | None
    folder: Path
    seeds: tuple[int, ...]
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its row is called: by the model."""
        said = {override.key_or_group: str(override.value()) for override in parse(self.words)}
        return said.get("name") or (_last(self.init) if self.init else said.get("model", "from scratch"))

    def jobs(self) -> list[Job]:
        """In the order that they are run in: seed by seed; MNLI first where others start from it."""
        tasks = self.settings.there()
        chained = [task for task in FROM_MNLI if task in tasks] if self.settings.chain else []
        if chained and "mnli" not in tasks:
            raise Refusal(
                f"data.chain=true starts {', '.join(TITLES[task] for task in chained)} from the model of MNLI, which is not among the tasks"
            )
        if self.settings.chain and not chained:
            raise Refusal(f"data.chain=true has no effect: none of {', '.join(FROM_MNLI)} is among the tasks")
        tasks.sort(key=lambda task: chained != [] and task != "mnli")
        found: list[Job] = []
        for seed in self.seeds:
            first: Job | None = None
            for task in tasks:
                after = first if task in chained else None
                source = str(after.folder) if after else self.init
                start = [f"init={written(source)}"] if source is not None else []
                words = (*start, *self.settings.data(task), f"seed={seed}", *self.words)
                job = Job(task, seed, self.folder / f"{task}-{seed}", words, after)
                first = job if task == "mnli" else first
                found.append(job)
        return found


def understood(words: Sequence[str]) -> Suite:
    """The sentence as a suite. Raises Refusal for words that several runs cannot have."""
    said = parse(words)
    keys = {override.key_or_group for override in said}
    for override in said:
        if override.is_sweep_override():
            raise Refusal(
                f"{override.input_line} names several values; a list is written data.tasks=[cola,mrpc] data.seeds=[1,2,3]"
            )
        if override.key_or_group in _NOT_OF_SEVERAL:
            raise Refusal(
                f"{override.input_line} looks at one run: say one task in place of data={ALL_OF_GLUE}, such as data=glue/mrpc"
            )
    if "resume" in keys and _value(said, "resume") != "auto":
        raise Refusal(f"resume has no effect with data={ALL_OF_GLUE}: the same sentence again goes on where it stopped")
    accepted = parameters(GlueSuite)
    node = {key.partition(".")[2]: _value(said, key) for key in keys if key.startswith("data.") and key[5:] in accepted}
    if node.get("path") in (None, "???"):
        raise Refusal("data.path is missing: say data.path=…, GLUE's folder, or data.path=world")
    further = _WORLDS_SETTINGS if node["path"] == WORLD else ()
    for key in (key for key in keys if key.startswith("data.") and key[5:] not in (*accepted, *further)):
        known = [f"data.{each}" for each in (*accepted, *further)]
        raise Refusal(f"{key} is not a setting of data={ALL_OF_GLUE}{did_you_mean(key, known)}")
    wrong = faults([GlueSuite], node, "data")
    if wrong:
        raise Refusal("\n".join(wrong))
    settings = GlueSuite(**node)
    init, seed, out = (_value(said, key) for key in ("init", "seed", "output_dir"))
    if settings.seeds is not None and "seed" in keys:
        raise Refusal(f"seed={seed} and data.seeds={settings.seeds}: say one of them")
    if seed is not None and type(seed) is not int:
        raise Refusal(f"seed={seed} must be a whole number.")
    if init is not None and not isinstance(init, str):
        raise Refusal(f"init={init!r} must be a run's folder, a Hugging Face directory or a name")
    taken = {"data", "init", "seed", "output_dir", "resume", *(f"data.{key}" for key in accepted)}
    kept = tuple(word for word, override in zip(words, said, strict=True) if override.key_or_group not in taken)
    seeds = tuple(settings.seeds) if settings.seeds is not None else (1 if seed is None else seed,)
    suite = Suite(settings, init, Path(), seeds, kept)
    if out is None:
        out = f"outputs/glue/{suite.name}" + (f"-{WORLD}" if settings.path == WORLD else "")
    return Suite(settings, init, Path(str(out)), seeds, kept)


def run(suite: Suite, start: Start = process.train) -> int:
    """Runs what is not there yet and shows the table; 0 where every task has its figures, 1 where one failed. Raises Refusal."""
    from cloze.environment import prepare

    prepare()
    jobs = suite.jobs()
    tracking = _checked(jobs)
    from rich.console import Console

    outcomes: list[Outcome] = []
    report = Report(suite.name, {}, ())
    for number, job in enumerate(jobs, start=1):
        if job.is_done():
            print(f"{number} of {len(jobs)}: {job.name} is there")
            outcomes.append(Outcome(job, "was there"))
        else:
            print(f"{number} of {len(jobs)}: python train.py {' '.join(job.words)}", flush=True)
            outcome, stopped = _run(job, start)
            outcomes.append(outcome)
            if stopped is not None:
                _write(suite, _report(suite, jobs, outcomes), outcomes)
                raise Preempted(stopped, f"stopped at {job.name}; the same command again goes on from there")
        report = _report(suite, jobs, outcomes)
        _write(suite, report, outcomes)
    sent = _submission(suite)
    report.show(Console())
    print(f"written: {', '.join(str(suite.folder / name) for name in ('glue.md', 'glue.json', 'glue.csv'))}")
    if sent:
        missing = [name for name in LEADERBOARD if name not in sent]
        lacking = f"; the leaderboard also wants {', '.join(missing)}" if missing else ""
        print(
            f"for the leaderboard, of seed {suite.seeds[0]}: {suite.folder / 'submission'} ({len(sent)} files{lacking})"
        )
    _track(tracking, suite, report)
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def _checked(jobs: Sequence[Job]) -> Any:
    """The tracking that the sentence says. Raises Refusal where a run could not be, and where a folder holds a run of other settings."""
    from cloze.check import check
    from cloze.compose import as_settings
    from cloze.run import initialised
    from cloze.starting import complete

    for job in jobs:
        recorded = RunFolder(job.folder).facts().get("provenance", {}).get("words")
        if recorded:
            there, now = _deciding(recorded), job.deciding()
            other = sorted(key for key in there.keys() | now.keys() if there.get(key) != now.get(key))
            if other:
                differing = "; ".join(f"{key}: {there.get(key)} there, {now.get(key)} now" for key in other[:3])
                raise Refusal(
                    f"{job.folder} holds a run of other settings ({differing}): take another folder, or say what was said"
                )
    first = next((job for job in jobs if not job.is_done()), None)
    if first is None:
        composed = compose(complete(jobs[0].words)[0])
    else:
        composed = compose(complete(first.words)[0])
        check(initialised(composed)[1])
    node = as_settings(composed.config)["tracking"]
    return Node("tracking", locate(node.pop("_target_"), "tracking", list(composed.config.trusted)), node).build()


def _run(job: Job, start: Start) -> tuple[Outcome, int | None]:
    """A job's outcome, and the signal that stopped it, if one did."""
    if job.after is not None and not job.after.is_done():
        return Outcome(job, "failed", f"{job.after.name}, whose model it starts from, did not end"), None
    goes_on = ["resume=auto"] if RunFolder(job.folder).facts() else []
    ended = start([*job.words, f"output_dir={written(str(job.folder))}", *goes_on])
    if job.is_done():
        return Outcome(job, "done"), ended.signal
    reason = str(RunFolder(job.folder).facts().get("reason") or ended.error or f"exit code {ended.exit_code}")
    return Outcome(job, "failed", reason.splitlines()[0]), ended.signal


def _report(suite: Suite, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> Report:
    seeds: dict[int, dict[str, dict[str, float]]] = {}
    for outcome in outcomes:
        if outcome.status != "failed":
            seeds.setdefault(outcome.job.seed, {}).update(_figures(suite, outcome.job))
    return Report(suite.name, seeds, tuple(_remarks(suite, jobs, outcomes)))


def _figures(suite: Suite, job: Job) -> dict[str, dict[str, float]]:
    """Of a run's development sets, in per cent; of AX where the file has labels."""
    from cloze.downstream import read_scores

    scores = read_scores(job.folder)
    found = {}
    for split, task in (("validation", job.task), ("validation_mismatched", f"{job.task}_mismatched")):
        if split in scores:
            found[task] = {name: 100.0 * value for name, value in scores[split].items()}
    if "diagnostic" in scores:
        found["ax"] = {"matthews": 100.0 * _matthews_of_ax(suite, job)}
    return found


def _matthews_of_ax(suite: Suite, job: Job) -> float:
    """A run of MNLI gives accuracy; what is reported of AX is Matthews' correlation of its three classes."""
    from cloze.data.base import Labelled
    from cloze.scoring.files import one_file, predicted_labels
    from cloze.scoring.glue import TASKS
    from cloze.scoring.metrics import score

    task = TASKS["glue/ax"]
    file = one_file("predictions", job.folder / "predictions" / "AX.tsv")
    said = {label.key: str(label.value) for label in predicted_labels(file, "glue/ax", task).labels}
    gold = [each for each in suite.settings.corpus("mnli").split_records("diagnostic") if isinstance(each, Labelled)]
    names = [(said[each.id or str(number)], str(each.label)) for number, each in enumerate(gold)]
    numbers = [[task.classes.index(name) for name in side] for side in zip(*names, strict=True)]
    return score(("matthews",), *numbers)["matthews"]


def _remarks(suite: Suite, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> Iterator[str]:
    settings = suite.settings
    start = [f"init={written(suite.init)}"] if suite.init else []
    data = [word.replace(f"/{GLUE[0]}", "/TASK") if n == 0 else word for n, word in enumerate(settings.data(GLUE[0]))]
    yield f"Each run: python train.py {' '.join([*start, *data, 'seed=SEED', *suite.words])}"
    if settings.path == WORLD:
        yield "The tasks are the generated language's, which only have GLUE's shape: the rows of English GLUE say nothing of them."
    if settings.chain:
        yield f"{', '.join(TITLES[task] for task in FROM_MNLI)} start from the model of MNLI."
    absent = [TITLES[task].removesuffix("-m") for task in settings.tasks if task not in {job.task for job in jobs}]
    if absent:
        yield f"Not in {settings.path}: {', '.join(absent)}."
    for outcome in outcomes:
        if outcome.status == "failed":
            yield f"{outcome.job.name} failed: {outcome.reason}"
    if len(outcomes) < len(jobs):
        yield f"Not run yet: {', '.join(job.name for job in jobs[len(outcomes) :])}."


def _write(suite: Suite, report: Report, outcomes: Sequence[Outcome]) -> None:
    """glue.md, glue.json and glue.csv."""
    from cloze.models.storage import write_atomically, write_json

    runs = [
        {"task": each.job.task, "seed": each.job.seed, "folder": str(each.job.folder), "status": each.status}
        | ({"reason": each.reason} if each.reason else {})
        for each in outcomes
    ]
    sentence = {"init": suite.init, "path": suite.settings.path, "seeds": list(suite.seeds), "words": list(suite.words)}
    try:
        suite.folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("glue.md", report.markdown()), ("glue.csv", report.csv())):
            write_atomically(suite.folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
        write_json(suite.folder / "glue.json", {"format": 1, **sentence, **report.content(), "runs": runs})
    except OSError as fault:
        raise Refusal(f"output_dir={suite.folder} cannot be written: {fault.strerror or fault}") from None


def _submission(suite: Suite) -> list[str]:
    """Copies the first seed's predictions of the test sets under the leaderboard's names; returns those that there are."""
    if suite.settings.path == WORLD:
        return []
    target = suite.folder / "submission"
    found = []
    for task in GLUE:
        predictions = suite.folder / f"{task}-{suite.seeds[0]}" / "predictions"
        for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv") if task == "mnli" else (f"{TITLES[task]}.tsv",):
            if (predictions / name).is_file():
                target.mkdir(exist_ok=True)
                shutil.copyfile(predictions / name, target / name)
                found.append(name)
    return found


def _track(tracking: Any, suite: Suite, report: Report) -> None:
    """The table as a run of the trackers' own. Whatever goes wrong there is said and ends nothing."""
    from cloze.tracking.base import TrackedRun, group_of

    config = {"init": suite.init, "data": ALL_OF_GLUE, "path": suite.settings.path, "words": list(suite.words)}
    name = f"glue-{suite.name}"
    tracked = TrackedRun(name, suite.folder.absolute(), config, group_of(name, config), "glue", ("glue",))
    content = report.content()
    figures = {f"glue/{task}/{m}": s["mean"] for task, found in content["scores"].items() for m, s in found.items()}
    figures |= {f"glue/average/{each}": found["mean"] for each, found in content["averages"].items()}
    head = [" ".join(filter(None, lines)) or "system" for lines in report.head()]
    try:
        for logger in tracking.loggers(tracked):
            logger.log_metrics(figures, step=0)
            if (log_rows := getattr(logger, "log_rows", None)) is not None:
                log_rows("glue", head, report.rows(), 0)
            logger.finalize("success")
    except Exception as fault:
        first = (str(fault).splitlines() or [type(fault).__name__])[0]
        print(
            f"warning: the table could not be tracked ({first}); {suite.folder / 'glue.json'} has it", file=sys.stderr
        )


def _deciding(words: Sequence[str]) -> dict[str, Any]:
    said = {override.key_or_group: override.value() for override in parse(words)}
    return {key: value for key, value in said.items() if decides(key) and key != "init"}


def _value(said: Sequence[Override], key: str) -> Any:
    """The last that is said of a key, None where nothing is."""
    return next((override.value() for override in reversed(said) if override.key_or_group == key), None)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _last(source: str) -> str:
    """A model's name: the last part of its path; that of the run, where it is the run's model folder."""
    parts = [part for part in Path(source).parts if part not in ("/", ".", "..")]
    return (parts[-2] if len(parts) > 1 and parts[-1] == "model" else parts[-1]) if parts else source


def written(value: str) -> str:
    """A text as a word's value, in quotes where Hydra could read it otherwise; backslashes count there only before a quote."""
    plain = re.fullmatch(r"(\.{0,2}/|[A-Za-z_])[\w./@+:%-]*", value, re.ASCII)
    if plain and value.lower() not in ("null", "true", "false", "inf", "nan"):
        return value
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"
