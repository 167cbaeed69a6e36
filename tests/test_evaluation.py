"""Perplexity and bits per byte of whole splits: against closed forms, brute force and transformers."""

from __future__ import annotations

import itertools
import json
import math
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cloze
from cloze import cli
from cloze.cli import main
from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.evaluation import Evaluation, evaluate, windows
from cloze.loading import Pretrained
from cloze.models.base import Backbone, Batch, Causal, HiddenStates, TokenHead, TwoDirections
from cloze.models.bert import Bert
from cloze.models.gpt2 import GPT2
from cloze.models.layers.heads import TiedHead, UntiedHead
from cloze.models.padding import flat
from cloze.models.t5 import T5
from cloze.models.transformer_xl import TransformerXL
from cloze.models.xlm import XLM
from cloze.models.xlnet import XLNet
from tests.models.parity import scramble

WORDS, END = 19, 0
SHAPE = {"layers": 2, "width": 32, "heads": 2, "inner": 48}


def corpus(lengths: list[int] = [70, 3, 41], bytes: int = 400, words: int = 90) -> TokenizedCorpus:  # noqa: B006
    generator = np.random.default_rng(0)
    made = TokenizedCorpus.of([[generator.integers(1, WORDS, n).tolist()] for n in lengths])
    return TokenizedCorpus(
        made.tokens, made.word_starts, made.sentences, made.documents, made.topics, bytes - 10, bytes, words
    )


class Words:
    """What evaluation needs of a tokenizer."""

    def __init__(self, **special: int) -> None:
        self.vocabulary = Vocabulary(WORDS, special)


def pretrained(model: Backbone, length: int = 16, documents: str = "packed", **special: int) -> Pretrained:
    head = model.token_head()
    scramble(head, 5)
    learnt = "permutation_lm.PermutationLM" if isinstance(model, XLNet) else "clm.CausalLM"
    objective = {"_target_": f"cloze.objectives.{learnt}", "documents": documents}
    tokenizer: Any = Words(**(special or {"eos": END, "pad": END}))
    return Pretrained(model.eval(), tokenizer, head.eval(), length, objective)


def random(kind: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = kind(WORDS, 16, False, **SHAPE, **settings)
    scramble(model, 1, 0.3)
    return model


class Unigram(Causal):
    """Knows how often each token occurs and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 1
        self.word = nn.Embedding(WORDS, 1)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        return HiddenStates(torch.ones(len(batch.inputs.tokens), 1))

    @property
    def word_embedding(self) -> Tensor:
        return self.word.weight

    def token_head(self) -> TokenHead:
        return TiedHead()

    def depth(self, parameter_name: str) -> int:
        return 0


def stream(text: TokenizedCorpus) -> list[int]:
    """End of text, document, end of text, …"""
    row = [END]
    for d in range(len(text)):
        row += text.tokens[text.sentences[text.documents[d]] : text.sentences[text.documents[d + 1]]].tolist()
        row.append(END)
    return row


@pytest.mark.parametrize("documents", ["packed", "apart"])
@pytest.mark.parametrize("stride", [1, 5, 16])
def test_one_who_knows_only_frequencies_is_right_in_closed_form(documents: str, stride: int) -> None:
    """Whatever the windows are, the cost is the sum of each token's, the three ends of documents among them."""
    model, text = Unigram(), corpus()
    (found,) = evaluate(pretrained(model, documents=documents), text, stride=stride)
    shares = model.word.weight[:, 0].detach().double().log_softmax(0)
    nats = -float(shares[torch.tensor(stream(text)[1:])].sum())
    assert found.nats == pytest.approx(nats, rel=1e-6)
    assert (found.scored, found.ends, found.tokens) == (114 + 3, 3, 114)
    assert found.perplexity == pytest.approx(math.exp(nats / 117), rel=1e-6)
    assert found.perplexity_per_word == pytest.approx(math.exp(nats / 90), rel=1e-6)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / 400, rel=1e-6)
    assert found.bits_per_character == pytest.approx(nats / math.log(2) / 390, rel=1e-6)


def test_one_who_knows_nothing_needs_the_logarithm_of_the_vocabulary() -> None:
    model = Unigram()
    nn.init.zeros_(model.word.weight)
    (found,) = evaluate(pretrained(model), corpus())
    assert found.perplexity == pytest.approx(WORDS, rel=1e-6)
    assert found.bits_per_byte == pytest.approx(117 * math.log2(WORDS) / 400, rel=1e-6)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), *itertools.product([4, 7], [1, 3, 4]), (7, 7)])
def test_every_place_is_scored_once_with_enough_before_it(length: int, stride: int) -> None:
    stretches = np.array([[0, 23], [23, 24], [24, 24], [30, 37]])
    cut = windows(stretches, length, stride)
    scored = [place for start, end, first in cut.tolist() for place in range(first, end)]
    assert sorted(scored) == [*range(24), *range(30, 37)] == scored
    for start, end, first in cut.tolist():
        begin = max(a for a, _ in stretches.tolist() if a <= start)
        assert start <= first < end and end - start <= length
        assert first - start >= min(length - stride, first - begin)


@pytest.mark.parametrize("documents", ["packed", "apart"])
def test_stride_1_is_brute_force(documents: str) -> None:
    """Each token from the 16 before it (or as many as there are), one reading for each."""
    model, text = random(GPT2), corpus()
    loaded = pretrained(model, documents=documents)
    (found,) = evaluate(loaded, text, stride=1)
    assert loaded.head is not None
    row, nats = stream(text), 0.0
    begin = 0
    for i in range(1, len(row)):
        before = row[max(begin, i - 16) : i]
        with torch.no_grad():
            states = model(Batch(flat([before], "causal"), {}, {}, {})).last
            nats -= float(loaded.head(states[-1:], model.word_embedding).log_softmax(-1)[0, row[i]])
        if documents == "apart" and row[i] == END:
            begin = i
    assert found.nats == pytest.approx(nats, rel=1e-5)
    costs = [evaluate(loaded, text, stride=stride)[0].nats for stride in (16, 8)]
    assert len({round(cost, 3) for cost in [*costs, found.nats]}) == 3  # what is seen differs, so the figures do


def test_transformers_has_the_same_loss() -> None:
    """One document in one window: their loss is the mean over all tokens but the first."""
    transformers = import_module("transformers")
    model, text = random(GPT2, positions=60), corpus([50])
    from cloze.loading import _defaults

    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    settings = {**_defaults(GPT2), **SHAPE, "positions": 60}
    config, state = GPT2.to_transformers(settings, weights, Vocabulary(WORDS, {"eos": END}))
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config)).eval()
    theirs.load_state_dict(state, strict=False)
    theirs.tie_weights()
    ids = torch.tensor([stream(text)])
    with torch.no_grad():
        expected = float(theirs(ids, labels=ids).loss)
    (found,) = evaluate(pretrained(model, length=51), text)
    assert math.log(found.perplexity) == pytest.approx(expected, rel=1e-5)


def test_what_is_remembered_is_as_good_as_what_is_read() -> None:
    """A Transformer-XL whose memory holds all that it has read, window by window, against one window over all of it."""
    text = corpus()
    model = random(TransformerXL, memory_length=200, evaluation_memory_length=200)
    remembering = evaluate(pretrained(model, length=9, documents="continued"), text)[0]
    at_once = evaluate(pretrained(model, length=117), text)[0]
    assert remembering.remembers and not at_once.remembers
    assert remembering.scored == at_once.scored == 117
    assert remembering.nats == pytest.approx(at_once.nats, rel=1e-5)
    assert evaluate(pretrained(model, length=9), text)[0].nats != pytest.approx(at_once.nats, rel=1e-3)


def test_who_gives_no_memory_remembers_nothing() -> None:
    """A GPT-2 that was trained on text that goes on (objective=clm_lanes) reads windows side by side, and says so."""
    model, text = random(GPT2), corpus()
    (found,) = evaluate(pretrained(model, documents="continued"), text)
    (plain,) = evaluate(pretrained(model), text)
    assert (
        not found.remembers and found.nats == pytest.approx(plain.nats, rel=1e-6) and "side by side" in found.protocol
    )
    without = random(TransformerXL, memory_length=0, evaluation_memory_length=0)
    assert not evaluate(pretrained(without, documents="continued"), text)[0].remembers


def test_a_first_token_that_is_not_scored_has_no_bytes() -> None:
    """Without an end-of-text token nothing stands before it: bits per byte would be those of more text than was scored."""
    (found,) = evaluate(pretrained(random(GPT2), pad=0), corpus())
    assert found.scored == 113 and found.bits_per_byte is found.perplexity_per_word is found.bits_per_character is None
    assert "each token that has one before it scored once" in found.protocol


@pytest.mark.parametrize("target", ["mlm.MaskedLM", "tlm.TranslationLM", "together.Together"])
def test_two_streams_that_learnt_masks_are_asked_at_masks(target: str) -> None:
    """The query stream has learnt nothing then: pseudo-perplexity as of a BERT, [CLS] before and [SEP] behind the text."""
    model, text = random(XLNet), corpus([10, 4])
    loaded = pretrained(model, 8, cls=1, sep=2, mask=3)
    parts = {"of": ["mlm"], "settings": {"mlm": {"_target_": "cloze.objectives.mlm.MaskedLM"}}}
    loaded.objective = {"_target_": f"cloze.objectives.{target}", **(parts if "together" in target else {})}
    (found,) = evaluate(loaded, text)
    nats = 0.0
    for start, end in ((0, 6), (6, 10), (10, 14)):
        row = text.tokens[start:end].tolist()
        for i, token in enumerate(row):
            hidden = [1, *row[:i], 3, *row[i + 1 :], 2]
            assert loaded.head is not None
            with torch.no_grad():
                states = model(Batch(flat([hidden]), {}, {}, {})).last
                nats -= float(loaded.head(states[i + 1 : i + 2], model.word_embedding).log_softmax(-1)[0, token])
    assert found.direction == "pseudo" and found.nats == pytest.approx(nats, rel=1e-5)
    loaded.objective = None  # nobody knows: the second stream
    assert evaluate(loaded, text)[0].direction == "left to right"


@pytest.mark.parametrize("end", [True, False])
def test_two_streams_read_from_left_to_right(end: bool) -> None:
    """Each token asked of a query that sees those before it, one reading for each; and with memory, in any windows the same."""
    text, model = corpus(), random(XLNet, memory_length=200)
    special = {"eos": END} if end else {"pad": END}
    loaded = pretrained(model, 200, **special)
    (found,) = evaluate(loaded, text)
    row = stream(text) if end else text.tokens.tolist()
    assert found.scored == len(row) - 1 and loaded.head is not None
    nats = 0.0
    for i in range(1, len(row)):
        asked = flat([row[: i + 1]])
        asked.order = torch.full((i + 1,), -1)
        asked.order[i], asked.queries = 0, torch.tensor([i])
        with torch.no_grad():
            states = model(Batch(asked, {}, {}, {})).queries
            nats -= float(loaded.head(states, model.word_embedding).log_softmax(-1)[0, row[i]])
    # a given token sees the other given ones, one of a rank only those before it: the states differ unless all is in order
    by_rank = 0.0
    asked = flat([row])
    asked.order, asked.queries = torch.arange(len(row)), torch.arange(1, len(row))
    with torch.no_grad():
        shares = loaded.head(model(Batch(asked, {}, {}, {})).queries, model.word_embedding).log_softmax(-1)
    by_rank = -float(shares.gather(1, torch.tensor(row[1:])[:, None]).sum())
    assert found.nats == pytest.approx(by_rank, rel=1e-5)
    assert nats != pytest.approx(by_rank, rel=1e-4)
    remembering = evaluate(pretrained(model, 9, "continued", **special), text)[0]
    assert remembering.nats == pytest.approx(found.nats, rel=1e-5)


class Neighbours(TwoDirections):
    """Predicts from the token itself, in each direction with a table of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.word = nn.Embedding(WORDS, 8)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        return HiddenStates(self.word(batch.inputs.tokens))

    @property
    def word_embedding(self) -> Tensor:
        raise AssertionError("a head with a table of its own needs no word embedding")

    def token_head(self) -> TokenHead:
        return UntiedHead(WORDS, 4, 1.0)

    def depth(self, parameter_name: str) -> int:
        return 0


def test_two_directions_are_two_figures() -> None:
    torch.manual_seed(0)
    model, text = Neighbours(), corpus()
    loaded = pretrained(model)
    forward, backward = evaluate(loaded, text)
    assert (forward.direction, backward.direction) == ("left to right", "right to left")
    row = torch.tensor(stream(text))
    assert loaded.head is not None
    with torch.no_grad():
        right, left = (loaded.head(half, torch.empty(0)).log_softmax(-1) for half in model.word(row).chunk(2, -1))
    assert forward.nats == pytest.approx(-float(right[:-1].gather(1, row[1:, None]).sum()), rel=1e-5)
    assert backward.nats == pytest.approx(-float(left[1:].gather(1, row[:-1, None]).sum()), rel=1e-5)
    assert forward.scored == backward.scored == 117


def test_pseudo_perplexity_hides_one_token_at_a_time() -> None:
    model, text = random(Bert), corpus([10, 4])
    loaded = pretrained(model, 8, cls=1, sep=2, mask=3)
    (found,) = evaluate(loaded, text)
    assert found.direction == "pseudo" and found.bits_per_byte is None and found.scored == 14
    nats = 0.0
    for start, end in ((0, 6), (6, 10), (10, 14)):  # 8 tokens are 6 and the two around them
        row = text.tokens[start:end].tolist()
        for i, token in enumerate(row):
            hidden = [1, *row[:i], 3, *row[i + 1 :], 2]
            assert loaded.head is not None
            with torch.no_grad():
                states = model(Batch(flat([hidden]), {}, {}, {})).last
                nats -= float(loaded.head(states[i + 1 : i + 2], model.word_embedding).log_softmax(-1)[0, token])
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert evaluate(loaded, corpus([600]), pseudo_tokens=60)[0].scored == 60


@pytest.mark.parametrize("task", ["continue", "fill"])
def test_a_model_that_tells_languages_apart_is_told_them(task: str) -> None:
    """The middle document is in the second language: read with its embedding, which the others know nothing of."""
    model, made = random(XLM, languages=2), corpus([6, 9, 4])
    text = replace(made, languages=np.array([0, 1, 0], np.int32), language_names=("a", "b"))
    special = {"eos": END} if task == "continue" else {"cls": 1, "sep": 2, "mask": 3}
    loaded = pretrained(model, 16, "apart", **special)
    loaded.objective = loaded.objective if task == "continue" else None
    assert loaded.task == task

    def nats() -> list[float]:
        return [evaluate(loaded, each)[0].nats for each in (text, made)]

    told, untold = nats()
    with torch.no_grad():  # a text that says nothing of languages is in none
        model.language.weight.zero_()
    same, still = nats()
    assert still == untold == pytest.approx(same, rel=1e-6) and told != pytest.approx(untold, rel=1e-3)


def test_of_several_objectives_the_first_says_what_a_window_may_hold() -> None:
    model, text = random(GPT2), corpus([20, 9, 14])
    apart, packed = (pretrained(model, 16, documents) for documents in ("apart", "packed"))
    together = pretrained(model, 16)
    together.objective = {"of": ["clm", "mlm"], "settings": {"clm": apart.objective, "mlm": {}}}
    found = [evaluate(each, text)[0].nats for each in (apart, packed, together)]
    assert found[2] == found[0] != pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize("task", ["continue", "fill"])
def test_languages_are_those_of_the_run_by_name(task: str) -> None:
    """A split that begins with the run's second language numbers it first: it is read with its own embedding nevertheless."""
    model, made = random(XLM, languages=2), corpus([6, 9, 4])
    special = {"eos": END} if task == "continue" else {"cls": 1, "sep": 2, "mask": 3}
    loaded = pretrained(model, 16, "apart", **special)
    loaded.objective = loaded.objective if task == "continue" else None
    loaded.languages = ("a", "b")
    one = replace(made, languages=np.array([0, 1, 0], np.int32), language_names=("b", "a"))
    same = replace(made, languages=np.array([1, 0, 1], np.int32), language_names=("a", "b"))
    assert evaluate(loaded, one)[0].nats == pytest.approx(evaluate(loaded, same)[0].nats, rel=1e-6)
    foreign = replace(one, language_names=("b", "d"))
    with pytest.raises(Refusal, match=r"a language that this model does not know \(d\); its own: a, b\."):
        evaluate(loaded, foreign)
    loaded.languages = ()
    assert evaluate(loaded, same)[0].nats != pytest.approx(evaluate(loaded, one)[0].nats, rel=1e-3)
    loaded.languages = ("b", "a")  # one that does not say is then in the first, as for `predict`
    first = replace(made, languages=np.zeros(3, np.int32), language_names=("b",))
    assert evaluate(loaded, made)[0].nats == pytest.approx(evaluate(loaded, first)[0].nats, rel=1e-6)
    loaded.languages = ()
    three = replace(one, languages=np.array([0, 1, 2], np.int32), language_names=("a", "b", "c"))
    with pytest.raises(Refusal, match=r"does not know \(c\); its own: 2, whose names it does not say"):
        evaluate(loaded, three)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (T5, {}, "reads one text and writes another gives no probability of a text"),
        (GPT2, {"stride": 17}, "stride=17 must lie in 1 … 16"),
        (GPT2, {"stride": 0}, "stride=0 must lie in 1 … 16"),
        (GPT2, {"window": 5000}, "length=5000 must be at least 2 and at most 1024"),
        (Bert, {"stride": 3}, "stride=3 has no effect on a Bert"),
        (Bert, {}, "no mask token"),
    ],
)
def test_what_cannot_be_is_refused(model: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        evaluate(pretrained(random(model)), corpus(), **settings)


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    words = [
        "model=gpt2", "budget.steps=3", "validation.examples=null", "validation.every=3", "tracking=none", "size=tiny",
        "hardware=cpu", "hardware.threads=1", "hardware.precision=32", "length=32", f"output_dir={folder / 'run'}",
        f"cache_dir={folder / 'cache'}", "data.documents=120", "data.validation_documents=12", "data.test_documents=5",
        "tokenizer.vocabulary=400", "model.dropout=0",
    ]  # fmt: skip
    assert cli._guarded(cli._train, words) == 0
    return folder / "run"


def command(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["cloze", "evaluate", *map(str, words)])
        main()
    code = end.value.code
    assert isinstance(code, int)
    return code


def test_the_command_measures_what_validation_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run validated on the whole split in the same windows: the same perplexity, from other code."""
    assert command(run, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    validated = [each["val/perplexity"] for each in metrics if "val/perplexity" in each][-1]
    assert figures["perplexity"] == pytest.approx(validated, rel=1e-4)
    last = [each for each in metrics if "val/perplexity" in each][-1]
    assert figures["bits_per_byte"] == pytest.approx(last["val/bits_per_byte"], rel=1e-4)
    assert figures["perplexity_per_word"] == pytest.approx(last["val/perplexity_per_word"], rel=1e-3)
    assert figures["split"] == "validation" and figures["window"] == figures["stride"] == 32
    assert command(run, "--stride", 8) == 0
    said = capsys.readouterr().out
    assert "begin 8 apart: at least 24 tokens are seen before each" in said and "per byte" in said


def test_the_command_takes_other_splits_and_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(run, "--split", "test", "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert command(run, "--data", "data.test_documents=9", "--split", "test", "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert second["tokens"] > first["tokens"]
    text = "\n\n".join(f"Number {n} follows number {n - 1}. Nobody asked why." for n in range(200))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    words = ["data=text", f"data.path={tmp_path / 'text.txt'}", "data.documents_are=blank_line"]
    assert command(run, "--data", *words, "--json") == 0
    assert 0 < json.loads(capsys.readouterr().out)["bytes"] < len(text)


def test_a_relative_path_is_found_from_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's words said it from the folder in which the run was started."""
    (tmp_path / "texts").mkdir()
    text = "\n\n".join(f"Number {n} follows number {n - 1}. Nobody asked why." for n in range(200))
    (tmp_path / "texts" / "numbers.txt").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = [
        "model=gpt2", "budget.steps=1", "tracking=none", "size=tiny", "hardware=cpu", "hardware.threads=1", "length=16",
        "data=text", "data.path=texts/numbers.txt", "data.documents_are=blank_line", "tokenizer.vocabulary=300",
        f"output_dir={tmp_path / 'run'}", f"cache_dir={tmp_path / 'cache'}",
    ]  # fmt: skip
    assert cli._guarded(cli._train, words) == 0
    capsys.readouterr()
    assert command(tmp_path / "run", "--json") == 0
    here = capsys.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command(tmp_path / "run", "--json") == 0
    assert capsys.readouterr().out == here
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    del facts["provenance"]["directory"]  # a run that did not record it
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    assert command(tmp_path / "run", "--json") == 2
    said = capsys.readouterr().err
    assert "data.path=texts/numbers.txt is not here" in said and "go there, or say where the text lies" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--split", "tset"], "--split tset is not there; did you mean test? Accepted: test, train, validation."),
        (["--strid", "9", "--lenth", "9"], "cloze evaluate: --lenth is not an option; did you mean --length?"),
        (["--data", "data=txt"], "data=txt is not there; did you mean text?"),
        (["--data", "model=bert"], "model=bert has no effect here: --data takes words of data"),
        (["--stride", "99"], "stride=99 must lie in 1 … 32"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    words: list[str], sentence: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(run, *words) == 2
    assert sentence in capsys.readouterr().err


def test_a_directory_of_others_needs_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloze.loading.export(run, tmp_path / "out")
    assert command(tmp_path / "out") == 2
    assert "say what to evaluate it on: --data data=…" in capsys.readouterr().err


def test_figures_are_plain_data() -> None:
    found = Evaluation("left to right", 10.0, 5, 0, 5, 0, 4, 20, 19, 8, 2)
    figures = found.figures()
    assert json.loads(json.dumps(figures)) == figures and figures["bits_per_byte"] == pytest.approx(0.7213, abs=1e-4)
