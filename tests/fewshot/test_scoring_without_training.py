"""A task without training: figures by hand on toy models, and whole runs of `objective=score`."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cloze import cli
from cloze.data.base import Choices, Labelled, Labels, Record, Tagged, TaskCorpus
from cloze.data.tasks.lambada import LastWord
from cloze.errors import Refusal
from cloze.fewshot.score import Answerable, Scoring, length_for
from tests.fewshot.toys import WORDS, bigram, copier, log_probabilities, unigram
from tests.pretrained import saved_run


class Fixture(TaskCorpus):
    """Records by split, as they are."""

    name = "own"

    def __init__(self, splits: dict[str, list[Record]], labels: Labels | None = None) -> None:
        self._splits, self._labels = splits, labels or Labels(("good", "bad"))

    @property
    def announcement(self) -> str:
        return "a few records"

    def fingerprint(self) -> str:
        return "few"

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.name: self._labels}

    def splits(self) -> tuple[str, ...]:
        return tuple(self._splits)

    def split_records(self, split: str) -> Iterator[Record]:
        yield from self._splits[split]


def labelled(words: Sequence[str], labels: Sequence[str | None]) -> list[Record]:
    return [Labelled((word,), label=label, task="own") for word, label in zip(words, labels, strict=True)]


def test_accuracy_is_what_the_table_says() -> None:
    loaded = bigram(2)
    p = log_probabilities(loaded)
    words = ["film", "tale", "a", "b", "c", "dull", "bright"]
    gold = ["good", "bad", "good", "good", "bad", "bad", "bad"]
    corpus = Fixture({"validation": labelled(words, gold)}, Labels(("good", "bad"), ("matthews",)))
    scored = Scoring(template="{first} {answer}").score(loaded, corpus, 1, 100)
    better = [
        "good" if p[WORDS.index(w), WORDS.index("good")] > p[WORDS.index(w), WORDS.index("bad")] else "bad"
        for w in words
    ]
    assert list(scored.predictions) == better and len(set(better)) == 2
    right = sum(a == b for a, b in zip(better, gold, strict=True)) / len(words)
    assert scored.results.metrics["accuracy"] == pytest.approx(right)
    assert scored.results.standard_error == pytest.approx(math.sqrt(right * (1 - right) / 7))
    assert list(scored.results.metrics) == ["accuracy", "matthews"]
    assert scored.results.baselines == {"chance": 0.5, "majority": pytest.approx(4 / 7)}
    assert scored.protocol == "options compared by log-likelihood"


def test_without_labels_there_are_predictions_only() -> None:
    corpus = Fixture({"test": labelled(["film", "tale"], [None, None])})
    scored = Scoring(template="{first} {answer}").score(bigram(), corpus, 1, 100)
    assert scored.results.metrics == {} and len(scored.predictions) == 2


def test_minimal_pairs_count_by_paradigm() -> None:
    loaded = bigram(1)
    p = log_probabilities(loaded)

    def nats(words: str) -> float:
        row = [0, *(WORDS.index(word) for word in words.split())]
        return sum(float(p[a, b]) for a, b in itertools.pairwise(row))

    pairs = {"x": [("a film", "film a"), ("very good", "good very"), ("dull", "bright")], "y": [("a b", "b a")]}
    records: list[Record] = [
        Choices(("",), options=pair, label=0, id=name) for name, own in pairs.items() for pair in own
    ]
    results = Scoring().score(loaded, Fixture({"test": records}), 1, 100).results
    shares = {name: sum(nats(good) > nats(bad) for good, bad in own) / len(own) for name, own in pairs.items()}
    assert results.groups == {name: (pytest.approx(share), len(pairs[name])) for name, share in shares.items()}
    assert results.metrics["mean_accuracy"] == pytest.approx(sum(shares.values()) / 2)
    assert results.metrics["accuracy"] == pytest.approx((shares["x"] * 3 + shares["y"]) / 4)
    few = Scoring(examples=1).score(loaded, Fixture({"test": records}), 1, 100).results
    assert {name: n for name, (_, n) in few.groups.items()} == {"x": 1, "y": 1}


def test_a_pair_that_is_even_counts_as_wrong() -> None:
    records: list[Record] = [Choices(("",), options=("never a", "ever a"), label=0, id="x")]
    assert Scoring().score(bigram(), Fixture({"test": records}), 1, 100).results.metrics["accuracy"] == 0.0


def test_last_words() -> None:
    loaded = bigram(4)
    p = log_probabilities(loaded)
    passages = [("a film", "good"), ("very", "bad"), ("dull", "dull tale"), ("bright", "a")]
    best = {word: WORDS[int(p[WORDS.index(word)].argmax())] for word in WORDS[2:]}
    passages += [(word, next_) for word, next_ in best.items() if word.isalpha() and next_.isalpha()][:3]
    records: list[Record] = [LastWord((context,), target=target) for context, target in passages]
    metrics = Scoring().score(loaded, Fixture({"test": records}), 1, 100).results.metrics
    nats, tokens, right = 0.0, 0, 0
    for context, target in passages:
        row = [WORDS.index(word) for word in f"{context} {target}".split()]
        start = len(context.split())
        steps = list(zip(row[start - 1 :], row[start:], strict=False))
        nats -= sum(float(p[a, b]) for a, b in steps)
        tokens += len(steps)
        right += all(int(p[a].argmax()) == b for a, b in steps)
    assert right >= 2
    assert metrics["accuracy"] == pytest.approx(right / len(passages))
    assert metrics["perplexity"] == pytest.approx(math.exp(nats / len(passages)), rel=1e-4)
    assert metrics["perplexity_per_token"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_the_same_examples_for_every_seed() -> None:
    corpus = Fixture({"validation": labelled([f"film {n}" for n in range(50)], ["good", "bad"] * 25)})
    few = [Scoring(examples=10).prompts(corpus, seed).records for seed in (1, 2)]
    assert few[0] == few[1] and len(few[0]) == 10
    order = [corpus._splits["validation"].index(record) for record in few[0]]
    assert order == sorted(order) and order != list(range(10))


def test_nobody_is_shown_the_answer() -> None:
    """Demonstrations from the split that is scored are never those that are asked about."""
    records = labelled([f"a {n}" for n in range(12)], ["good", "bad"] * 6)
    corpus = Fixture({"validation": records})
    scoring = Scoring(shots=3, examples=6, demonstrate_from="validation", demonstrations={"each": "anew"})
    made = scoring.prompts(corpus, 1)
    asked = [record.sentences[0] for record in made.records]  # type: ignore[attr-defined]
    for text, prompt in zip(asked, made.asked, strict=True):
        shown = [part.splitlines()[0] for part in prompt.before.split("\n\n")]
        assert shown[-1] == text and len(shown) == 4
        assert not set(shown[:-1]) & set(asked)
    with pytest.raises(Refusal, match=r"objective\.shots=7: there are 6 examples"):
        Scoring(shots=7, examples=6, demonstrate_from="validation").prompts(corpus, 1)


def test_what_is_cut_is_told() -> None:
    corpus = Fixture({"validation": labelled(["a film a film a film", "a"], ["good", "bad"])})
    results = Scoring(template="{first} {answer}").score(bigram(), corpus, 1, 6).results
    assert results.cut == 1
    assert results.notes == ("1 of 2 prompts had more than 6 tokens and lost their beginning",)


def test_what_can_be_scored() -> None:
    assert issubclass(Labelled, Answerable) and issubclass(Choices, Answerable) and issubclass(LastWord, Answerable)
    assert not issubclass(Tagged, Answerable)
    tagged: list[Record] = [Tagged(("a",), words=(("a",),), tags=(("X",),))]
    with pytest.raises(Refusal, match="own has tagged records, which have none to compare"):
        Scoring().prompts(Fixture({"test": tagged}), 1)
    with pytest.raises(Refusal, match="own asks for a number"):
        Scoring().prompts(Fixture({"test": [Labelled(("a", "b"), label=1.0)]}, Labels()), 1)
    with pytest.raises(Refusal, match=r"objective\.split=dev is not there; own has test"):
        Scoring(split="dev").prompts(Fixture({"test": labelled(["a"], ["good"])}), 1)
    with pytest.raises(Refusal, match=r"objective\.demonstrate_from=train is not there"):
        Scoring(shots=1).prompts(Fixture({"test": labelled(["a"], ["good"])}), 1)


THINGS = ["film", "tale", "dull", "bright", "a", "b", "c", "very"]


def accuracies(loaded: Any, seeds: int, **settings: Any) -> list[float]:
    """By seed, of a task in which each thing has one of two labels by chance."""
    corpus = Fixture(dict.fromkeys(("train", "validation"), labelled(THINGS, ["good", "bad"] * 4)))
    return [
        Scoring(template="{first} {answer}", **settings).score(loaded, corpus, seed, 1000).results.metrics["accuracy"]
        for seed in range(seeds)
    ]


def test_a_model_that_reads_labels_falls_to_chance_where_they_are_shuffled() -> None:
    """Induction gives each thing the label that it was shown with: all right with their own, half right with any others."""
    how = {"separator": " . "}
    assert accuracies(copier(), 1) == [0.5]  # nothing was shown: it has no preference, and takes the first
    assert accuracies(copier(), 5, shots=8, demonstrations=how) == [1.0] * 5
    some = accuracies(copier(), 5, shots=4, demonstrations=how)
    assert all(0.5 <= one < 1.0 for one in some)  # the four things that were shown, and half of the others
    shuffled = accuracies(copier(), 60, shots=8, demonstrations={**how, "shuffle_labels": True})
    # of 4 and 4 labels, those that stay with their class are 2 * hypergeometric(8, 4, 4): mean 4, variance 4 * 16 / 28
    assert abs(sum(shuffled) / 60 - 0.5) < 4 * math.sqrt(64 / 28 / 64 / 60)
    assert len(set(shuffled)) > 2


def test_a_model_that_does_not_read_labels_stays_where_it_is() -> None:
    how = {"separator": " . "}
    for loaded in (unigram(1), bigram(5)):
        before = accuracies(loaded, 1)
        assert accuracies(loaded, 4, shots=8, demonstrations=how) == before * 4
        assert accuracies(loaded, 4, shots=8, demonstrations={**how, "shuffle_labels": True}) == before * 4


def test_shuffling_needs_something_to_shuffle() -> None:
    """The good sentence of a minimal pair is always option 0, and a last word has no other beside it."""
    pairs: list[Record] = [Choices(("",), options=(f"a {n}", f"b {n}"), label=0, id="x") for n in range(6)]
    last: list[Record] = [LastWord((f"a {n}",), target="b") for n in range(6)]
    for records in (pairs, last):
        corpus = Fixture({"test": records})
        settings: dict[str, Any] = {"shots": 2, "examples": 2, "demonstrate_from": "test"}
        assert len(Scoring(**settings).prompts(corpus, 1).asked) == 2
        with pytest.raises(Refusal, match="shuffle_labels=true has no effect: the right answers are all the same one"):
            Scoring(**settings, demonstrations={"shuffle_labels": True}).prompts(corpus, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shots": -1}, r"objective\.shots=-1 must be at least 0"),
        ({"examples": 0}, r"objective\.examples=0 must be at least 1"),
        ({"demonstrations": {"drawn": "random"}}, r"demonstrations\.drawn is not a setting.*did you mean"),
        ({"demonstrations": {"shuffle_labels": True}}, r"shuffle_labels=True has no effect with objective\.shots=0"),
        ({"content_free": "N/A"}, r"objective\.content_free has no effect"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        Scoring(**settings)


# --------------------------------------------------------------------------------------------------------------- runs

PAIRS = [
    {"sentence_good": "the old man saw the ships", "sentence_bad": "the old man saw ships the", "UID": "order"},
    {"sentence_good": "she said nothing", "sentence_bad": "said she nothing", "UID": "order"},
    {"sentence_good": "nobody could see him", "sentence_bad": "nobody could saw him", "UID": "form"},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    saved_run(folder, "gpt2.GPT2")
    return folder


def train(*words: str) -> int:
    return cli._guarded(cli._train, ["objective=score", "tracking=none", "hardware=cpu", *words])


def test_a_run_of_minimal_pairs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in PAIRS), encoding="utf-8")
    weights = (run / "model" / "model.safetensors").read_bytes()
    words = [f"init={run}", "data=blimp", f"data.path={file}", "length=40"]
    assert train(*words, f"output_dir={tmp_path / 'out'}") == 0
    lines = dict(line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line)
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    content = json.loads((tmp_path / "out" / "score.json").read_text())
    assert facts["status"] == "done" and facts["steps"] == 0
    assert facts["metrics"]["score/mean_accuracy"] == content["metrics"]["mean_accuracy"]
    assert lines["mean_accuracy"].startswith(f"{content['metrics']['mean_accuracy']:.3f}")
    assert content["groups"].keys() == {"order", "form"} and content["groups"]["order"]["examples"] == 2
    assert content["protocol"] == lines["protocol"] == "options compared by log-likelihood"
    assert not (tmp_path / "out" / "model").exists()
    assert (run / "model" / "model.safetensors").read_bytes() == weights
    assert train(*words, f"output_dir={tmp_path / 'out'}") == 2  # it holds a run


def test_a_run_with_demonstrations(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"init={run}", "data=world/sst2", "data.train=60", "data.validation=20", "objective.shots=2", "length=40"]
    assert train(*words, "objective.words.1=winter", "show=2") == 0
    shown = capsys.readouterr().out
    assert shown.count("--- ") == 2 and shown.count("  * ") == 2 and shown.count("Answer: ") == 6
    assert "winter" in shown and "negative" in shown and not (tmp_path / "a").exists()
    digests = []
    for name, extra in (
        ("a", []),
        ("b", []),
        ("c", ["seed=2"]),
        ("d", ["objective.demonstrations.shuffle_labels=true"]),
    ):
        assert train(*words, *extra, f"output_dir={tmp_path / name}") == 0
        content = json.loads((tmp_path / name / "score.json").read_text())
        digests.append(hashlib.sha256(content["prompt"].encode()).hexdigest())
        assert content["shots"] == 2 and content["length"] == 40 and content["examples"] == 20
        assert set(content["baselines"]) == {"chance", "majority"}
    assert digests[0] == digests[1] and digests[0] != digests[2]
    files = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"score.json", "run.json", "config.yaml", "log.txt"} < files
    assert any(name.endswith(".tsv") for name in files)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "objective=score trains nothing, so it needs a trained model: init=RUN"),
        (("init=RUN", "optimizer.learning_rate=1e-4"), "optimizer.learning_rate=… has no effect with objective=score"),
        (("init=RUN", "budget.steps=5"), "budget.steps=… has no effect with objective=score"),
        (("init=RUN", "plan=true"), "plan=true has no effect with objective=score"),
        (
            ("init=RUN", "objective.normalise=tokens"),
            "objective.normalise=tokens is not one of them; did you mean token?",
        ),
        (("init=RUN", "objective.words.3=good"), "objective.words.3 is no class of sst2"),
        (("init=RUN", "data=world"), "objective=score learns from answerable records; data=world has text records"),
    ],
)
def test_words_that_have_no_effect(
    run: Path, words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = () if any(word.startswith("data=") for word in words) else ("data=world/sst2", "data.validation=4")
    own = [word.replace("RUN", str(run)) for word in words]
    assert train(*data, *own, "length=40", f"output_dir={tmp_path / 'out'}") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_how_long_a_text_may_be(run: Path) -> None:
    import cloze

    loaded = cloze.load(run)
    assert length_for(loaded, None) == 32 and length_for(loaded, 40) == 40
    with pytest.raises(Refusal, match="length=41 is more than the 40 positions of this GPT2"):
        length_for(loaded, 41)
