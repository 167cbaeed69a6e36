"""Several objectives together: one alone is itself bit for bit, weights scale gradients exactly, shares are kept, each part is asked."""

from __future__ import annotations

import pickle
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from cloze.check import check
from cloze.compose import compose
from cloze.data import keyed
from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.data.batches import TrainingBatches, ValidationBatches, batch_of
from cloze.data.languages import evened
from cloze.errors import Refusal
from cloze.models.base import Batch
from cloze.models.bert import Bert
from cloze.models.electra import Electra
from cloze.models.unilm import UniLM
from cloze.objectives.base import StepOutput
from cloze.objectives.clm import CausalExamples, CausalLM
from cloze.objectives.mlm import MaskedExamples, MaskedLM
from cloze.objectives.together import Together, TogetherExamples, Weight
from cloze.prepare import _load
from tests.objectives.corpora import random_corpus, vocabulary

WORDS = 80
VOCABULARY = Vocabulary(WORDS, {**vocabulary(WORDS).special, "eos": 0})
MLM = {"_target_": "cloze.objectives.mlm.MaskedLM"}
SOP = {**MLM, "pair": "sop", "format": "segment_pair"}
CLM = {"_target_": "cloze.objectives.clm.CausalLM"}
PARTS: dict[str, dict[str, Any]] = {"mlm": MLM, "sop": SOP, "clm": CLM}


@pytest.fixture(scope="module")
def corpus() -> TokenizedCorpus:
    return random_corpus(6_000, size=WORDS)


def builder(of: list[str], **settings: Any) -> TogetherExamples:
    return TogetherExamples(VOCABULARY, 32, of, settings={name: PARTS[name] for name in of}, **settings)


def learner(of: list[str], seed: int = 0, **settings: Any) -> tuple[UniLM, Together]:
    torch.manual_seed(seed)
    model = UniLM(WORDS, 32, "sop" in of, layers=1, width=16, heads=2, inner=32, dropout=0.0, attention_dropout=0.0)
    return model, Together(model, VOCABULARY, of, settings={name: PARTS[name] for name in of}, **settings)


def loss_of(output: StepOutput, batch: Batch) -> torch.Tensor:
    return sum(term.weight * term.total / batch.step_counts[name] for name, term in output.terms.items())  # type: ignore[return-value]


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    parts = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(parts.values()), allow_unused=True, retain_graph=True)
    return {name: gradient for name, gradient in zip(parts, found, strict=True) if gradient is not None}


@pytest.mark.parametrize("name", ["mlm", "sop", "clm"])
@pytest.mark.parametrize("mix", ["sum", "alternate"])
def test_one_part_alone_is_that_objective_bit_for_bit(corpus: TokenizedCorpus, name: str, mix: Any) -> None:
    """The same examples in the same steps with the same corruption, the same initial weights, losses, gradients and metrics."""
    settings = {key: value for key, value in PARTS[name].items() if key != "_target_"}
    own_builder: Any = CausalExamples(VOCABULARY, 32) if name == "clm" else MaskedExamples(VOCABULARY, 32, **settings)
    both = builder([name], mix=mix)
    cuts = {"batch_size": 8, "seed": 3, "parts_per_rank": 2}
    one = TrainingBatches(own_builder.build(corpus, 5), own_builder, **cuts)
    two = TrainingBatches(both.build(corpus, 5), both, **cuts)
    assert one.examples.total_tokens == two.examples.total_tokens
    model, together = learner([name], mix=mix)
    torch.manual_seed(0)
    same = UniLM(WORDS, 32, name == "sop", layers=1, width=16, heads=2, inner=32, dropout=0.0, attention_dropout=0.0)
    objective = (
        CausalLM(same, VOCABULARY) if name == "clm" else MaskedLM(same, VOCABULARY, pair=settings.get("pair", "none"))
    )
    assert together.head is not None
    for key, tensor in objective.head.state_dict().items():
        assert torch.equal(tensor, together.head.state_dict()[key])
    for number in (0, 1, 2, 11, len(one.examples) // 4 + 5):  # the last is of the second epoch
        alone, among = one[number], two[number]
        stream = among.streams[name]
        assert torch.equal(alone.inputs.tokens, stream.inputs.tokens) and alone.indices == among.indices
        assert alone.step_counts == stream.step_counts
        assert among.step_counts == {f"{name}/{term}": n for term, n in alone.step_counts.items()}
        want, have = objective(same, alone), together(model, among)
        for term, value in want.terms.items():
            assert torch.equal(value.total, have.terms[f"{name}/{term}"].total)
            assert value.weight == have.terms[f"{name}/{term}"].weight
        for (key, a), (other, b) in zip(
            gradients(same, loss_of(want, alone)).items(), gradients(model, loss_of(have, among)).items(), strict=True
        ):
            assert key == other and torch.equal(a, b)
    judged = [ValidationBatches(each.judge().build(corpus, 5), each, batch_size=8)[0] for each in (own_builder, both)]
    assert torch.equal(judged[0].inputs.tokens, judged[1].streams[name].inputs.tokens)
    metrics, mine = objective.metrics(), together.metrics()
    objective.measure(metrics, objective(same, judged[0]), judged[0])
    together.eval().measure(mine, together(model, judged[1]), judged[1])
    assert {f"{name}/{key}": float(metric.compute()) for key, metric in metrics.items()} == {
        key: float(metric.compute()) for key, metric in mine.items()
    }


def test_weights_scale_gradients_exactly(corpus: TokenizedCorpus) -> None:
    """The gradient is the parts' own gradients, each times its weight, whatever step a schedule is at."""
    of = ["mlm", "sop", "clm"]
    weights: dict[str, float | str] = {"mlm": 0.25, "clm": "0:2,100:0"}
    both = builder(of, weights=weights)
    examples = both.build(corpus, 1)
    model, together = learner(of, weights=weights)
    some = np.arange(6)
    sample = both.sample(examples, some, both.keys(0, 0, some))
    for step, clm in ((0, 2.0), (50, 1.0), (75, 0.5)):
        batch = batch_of(sample, sample.counts, some.tolist(), step, 1)
        whole = gradients(model, loss_of(together(model, batch), batch))
        each = {
            name: gradients(model, loss_of(together.parts[name](model, stream), stream))
            for name, stream in batch.streams.items()
        }
        factors = {"mlm": 0.25, "sop": 1.0, "clm": clm}
        for key, gradient in whole.items():
            expected = sum(factors[name] * part[key] for name, part in each.items() if key in part)
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_a_validation_weighs_the_same_at_every_step(corpus: TokenizedCorpus) -> None:
    of = ["mlm", "clm"]
    for mix, expected in (("sum", {"mlm": 3.0, "clm": 1.0}), ("alternate", {"mlm": 0.75, "clm": 0.25})):
        settings: dict[str, Any] = {"weights": {"mlm": "0:0,50:3,100:1"}, "mix": mix}
        judge = builder(of, **settings).judge()
        model, together = learner(of, **settings)
        batch = ValidationBatches(judge.build(corpus, 1), judge, batch_size=8)[0]
        assert list(batch.streams) == of
        terms = together.eval()(model, batch).terms
        assert {name.partition("/")[0]: term.weight for name, term in terms.items()} == expected


def test_a_part_of_weight_0_costs_nothing(corpus: TokenizedCorpus) -> None:
    both = builder(["mlm", "clm"], weights={"clm": "0:1,10:0,20:0,30:1"})
    present = {step: both.at_step(1, step).active for step in (0, 9, 10, 20, 21)}
    assert present == {
        0: ("mlm", "clm"), 9: ("mlm", "clm"), 10: ("mlm",), 20: ("mlm",), 21: ("mlm", "clm"),
    }  # fmt: skip
    batches = TrainingBatches(both.build(corpus, 1), both, batch_size=8, seed=1)
    assert list(batches[9].streams) == ["mlm", "clm"] and list(batches[10].streams) == ["mlm"]
    assert batches[10].counts.keys() == {"mlm/mlm"} and batches[10].real_tokens < batches[9].real_tokens


def test_one_part_a_step_in_the_weights_proportions(corpus: TokenizedCorpus) -> None:
    of, steps = ["mlm", "sop", "clm"], 20_000
    both = builder(of, weights={"sop": 0.5, "clm": 2.5}, mix="alternate")
    drawn = [both.at_step(7, step).active for step in range(steps)]
    assert all(len(active) == 1 for active in drawn)
    seen = [drawn.count((name,)) for name in of]
    assert stats.chisquare(seen, np.array([1, 0.5, 2.5]) / 4 * steps).pvalue > 1e-3
    assert drawn[:50] == [both.at_step(7, step).active for step in range(50)]
    assert drawn[:50] != [both.at_step(8, step).active for step in range(50)]
    scheduled = builder(["mlm", "clm"], weights={"mlm": "0:1,1000:0", "clm": "0:0,1000:1"}, mix="alternate")
    halves = [sum(scheduled.at_step(1, s).active == ("clm",) for s in range(a, a + 200)) for a in (0, 400, 1000)]
    assert halves[0] < 40 < 70 < halves[1] < 130 and halves[2] == 200
    # every rank and part of a step has the same one
    settings = {"batch_size": 8, "seed": 7, "parts_per_rank": 2, "world": 2}
    ranks = [TrainingBatches(both.build(corpus, 1), both, rank=rank, **settings) for rank in (0, 1)]
    for step in range(6):
        parts = [batches[2 * step + micro] for batches in ranks for micro in (0, 1)]
        assert {tuple(part.streams) for part in parts} == {both.at_step(7, step).active}
        for name, count in parts[0].step_counts.items():
            assert sum(part.counts[name] for part in parts) == count


def test_a_part_that_rests_gets_gradients_of_0(corpus: TokenizedCorpus) -> None:
    """Processes that add up gradients wait for all of them; and what rests does not change the gradient of what does not."""
    both = builder(["mlm", "sop"], mix="alternate")
    model, together = learner(["mlm", "sop"], mix="alternate")
    batches = TrainingBatches(both.build(corpus, 1), both, batch_size=8, seed=1)
    batch = next(batch for batch in map(batches.__getitem__, range(20)) if list(batch.streams) == ["mlm"])
    loss = loss_of(together(model, batch), batch)
    plain = loss_of(together.parts["mlm"](model, batch.streams["mlm"]), batch.streams["mlm"])
    assert torch.equal(loss, plain)
    whole, own = gradients(model, loss), gradients(model, plain)
    assert whole.keys() == dict(model.named_parameters()).keys() > own.keys()
    for name, gradient in whole.items():
        assert torch.equal(gradient, own.get(name, torch.zeros(()).expand_as(gradient)))
    resting = gradients(together.parts["sop"], loss)
    assert resting and all((gradient == 0).all() for gradient in resting.values())


def test_every_example_of_every_part_is_read(corpus: TokenizedCorpus) -> None:
    """In an epoch: each example of the largest part once, those of the others as often, give or take one."""
    both = builder(["sop", "clm", "mlm"])
    examples = both.build(corpus, 1)
    own = {name: part.build(corpus, 1) for name, part in both.parts.items()}
    assert len(examples) == max(map(len, own.values()))
    begin = 3
    for name, each in own.items():
        width = each.table.shape[1]
        rows = examples.table[:, begin : begin + width + 1]
        begin += width + 1
        known = {(*row, n): 0 for row, n in zip(map(tuple, each.table.tolist()), each.lengths.tolist(), strict=True)}
        for row in map(tuple, rows.tolist()):
            known[row] += 1
        assert max(known.values()) - min(known.values()) <= 1, name
    assert begin == examples.table.shape[1]


def test_sampling_evens_out_the_languages_of_the_first_part_that_has_them(corpus: TokenizedCorpus) -> None:
    languages = (np.arange(len(corpus)) % 4 == 0).astype(np.int32)
    several = replace(corpus, languages=languages, language_names=("much", "little"))
    both = builder(["mlm", "clm"])
    alone = both.parts["mlm"].build(several, 1)
    assert alone.languages is not None
    known = dict(zip(map(tuple, alone.table.tolist()), alone.languages.tolist(), strict=True))
    even = evened(both.build(several, 1), 0.0, 1)
    assert even.languages is not None and np.diff(np.bincount(even.languages)).tolist() == [0]
    rows = even.table[:, 2 : 2 + alone.table.shape[1]]
    assert [known[row] for row in map(tuple, rows.tolist())] == even.languages.tolist()


def test_an_example_depends_on_seed_epoch_and_index_alone(corpus: TokenizedCorpus) -> None:
    both = builder(["mlm", "clm"])
    examples = both.build(corpus, 1)
    some, few = np.arange(30), np.array([17, 3])

    def tokens(which: Any, made: TogetherExamples, epoch: int = 0) -> list[bytes]:
        sample = made.sample(examples, which, made.keys(1, epoch, which))
        inputs = sample.streams["mlm"].inputs
        return [part.tobytes() for part in np.split(inputs.tokens, np.cumsum(inputs.lengths)[:-1])]

    whole = tokens(some, both)
    assert tokens(few, pickle.loads(pickle.dumps(both))) == [whole[17], whole[3]]
    assert tokens(some, both, epoch=1) != whole
    keys = both.keys(1, 0, some)
    assert both.counts(examples, some, keys) == both.sample(examples, some, keys).counts
    # a validation's keys are one for all parts
    plain = keyed.keys(keyed.key("validation"), some)
    assert both.counts(examples, some, plain) == both.sample(examples, some, plain).counts


def test_the_lens_and_the_audit_see_every_part(corpus: TokenizedCorpus) -> None:
    from rich.console import Console

    from cloze.analysis.lens import count, show

    class Surfaces:
        def token(self, id: int) -> str:
            return f"t{id}"

    both = builder(["mlm", "clm"])
    examples = both.build(corpus, 1)
    console = Console(record=True, width=120)
    show(2, both, examples, Surfaces(), console, 1)
    text = console.export_text()
    assert "mlm" in text and "clm" in text and "masked: hidden" in text and "predicts:" in text
    tallies, counted = count(both, examples, 1, tokens=20_000)
    assert counted >= 20_000 and all(tally.holds for tally in tallies.values())
    assert {name.partition(": ")[0] for name in tallies} == {"mlm", "clm"}


def test_the_family_s_head_is_one() -> None:
    """Parts that predict words share the token head, which is stored as a single objective's is; other heads are their own."""
    model, together = learner(["mlm", "sop", "clm"])
    names = set(together.state_dict())
    assert all(name.startswith(("head.", "parts.sop.pair_head.")) for name in names)
    assert together.parts["clm"].head is together.parts["mlm"].head is together.head
    assert isinstance(model, Bert) and sum(name == "head.bias" for name in names) == 1


def test_what_is_needed_is_what_every_part_needs() -> None:
    of = {"of": ["mlm", "clm"], "settings": PARTS}
    tokens, sentinels = TogetherExamples.needs(of)
    assert set(tokens) == {"cls", "sep", "mask", "eos"} and sentinels == 0
    assert not Together.pools(of) and Together.pools({"of": ["sop"], "settings": PARTS})
    assert not Together.generates(of)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective.of=[mlm,cml]"], r"objective\.of: cml is not there; did you mean mlm\?"),
        (
            ["objective.of=[mlm,clm]"],
            r"\(of clm, unless objective.of says others\) needs a model that sees only what stands before a token; model=bert",
        ),
        (["objective.of=[]"], "names no objective"),
        (["objective.of=[mlm,mlm]"], "names an objective twice"),
        (["objective.of=[mlm,together]"], "together is not an objective that can be one of several"),
        (["objective.weights={mlm: 0, mlm_sop: 0}"], "are all 0 at step 0"),
        (["objective.weights={mlm: 0}"], "objective.weights.mlm=0 is 0 at every step"),
        (["objective.weights={mlm_sop: '0:0,10:0'}"], "Leave it out of objective.of"),
        (["objective.weights.mlm='0:1,x'"], r"must be a number or a schedule of step:weight"),
        (["objective.weights.mlm='10:1,5:2'"], "each later than the one before"),
        (["objective.weights.mlm=-1"], "weights of 0 or more"),
        (["objective.weights.clm=1"], r"objective\.weights\.clm has no effect: .* does not name it"),
        (["objective.settings.clm.head_rows=1"], r"objective\.settings\.clm has no effect"),
        (["objective.settings.mlm.mask_rato=0.2"], r"did you mean objective\.settings\.mlm\.mask_ratio\?"),
        (["objective.settings.mlm.mask_ratio=3"], r"objective\.settings\.mlm\.mask_ratio=3 must lie in \(0, 1\]"),
        (["objective.settings.mlm.unit=wrd"], r"objective\.settings\.mlm\.unit=wrd is not one of them"),
        (["model=unilm", "objective.of=[mlm,clm_lanes]"], "clm_lanes reads text that goes on from batch to batch"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        check(compose(["model=bert", "objective=together", *words]))


def test_what_can_be_is_checked_whole() -> None:
    words = ["model=unilm", "objective=together", "objective.of=[mlm,clm]", "objective.settings.mlm.mask_ratio=0.3"]
    checked = check(compose(words))
    recorded = checked.settings["objective"]["settings"]
    assert recorded["mlm"]["mask_ratio"] == 0.3 and recorded["clm"]["documents"] == "packed"
    made = TogetherExamples(VOCABULARY, 32, **checked.builder_settings)
    part = made.parts["mlm"]
    assert isinstance(part, MaskedExamples) and part.mask_ratio == 0.3


def test_a_schedule_is_lines_between_points() -> None:
    weight = Weight("mlm", "10:1,20:0,40:0.5")
    assert [weight.at(step) for step in (0, 10, 15, 20, 30, 40, 99)] == pytest.approx([1, 1, 0.5, 0, 0.25, 0.5, 0.5])
    assert Weight("mlm", 2).at(123) == 2.0


REPLACED = {"_target_": "cloze.objectives.replaced_token.ReplacedToken"}


@pytest.mark.parametrize(
    ("mix", "weights", "steps"), [("alternate", {}, 6), ("sum", {"mlm": "0:1,2:0"}, 4), ("sum", {"rtd": "0:0,2:1"}, 4)]
)
def test_every_weight_gets_a_gradient_in_every_step(
    corpus: TokenizedCorpus, mix: Any, weights: dict[str, float | str], steps: int
) -> None:
    """Whichever part a step has: processes that add gradients up would wait for one that is missing. Replaced token detection uses
    none of the head that the parts share, masked language modelling neither generator nor discriminator head."""
    settings: dict[str, Any] = {"of": ["mlm", "rtd"], "settings": {"mlm": MLM, "rtd": REPLACED}}
    settings |= {"mix": mix, "weights": weights}
    make = TogetherExamples(VOCABULARY, 32, **settings)
    shape = {"layers": 1, "width": 64, "heads": 2, "inner": 32, "embedding_width": 16, "generator_size": 1.0}
    model = Electra(WORDS, 32, False, generator=True, **shape)  # type: ignore[arg-type]
    together = Together(model, VOCABULARY, **settings)
    examples = make.build(corpus, 0)
    batches = TrainingBatches(examples, make, batch_size=4, seed=3)
    seen = set()
    for step in range(steps):
        batch = batches[step]
        seen.add(tuple(batch.streams))
        model.zero_grad(), together.zero_grad()
        output = together(model, batch)
        loss_of(output, batch).backward()
        for module in (model, together):
            assert [name for name, p in module.named_parameters() if p.grad is None] == []
        # those that the step's part does not ask are left where they are
        if "mlm" not in batch.streams:
            assert together.head is not None and all(not p.grad.any() for p in together.head.parameters())
    assert seen == (
        {("mlm",), ("rtd",)} if mix == "alternate" else {("mlm", "rtd"), ("rtd",) if "mlm" in weights else ("mlm",)}
    )


def test_one_objective_starts_from_the_heads_of_several() -> None:
    model, together = learner(["clm", "sop"])
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    weights |= {f"objective.{name}": value for name, value in together.state_dict().items()}
    initial: Any = SimpleNamespace(weights=weights, tokenizer=SimpleNamespace(vocabulary=VOCABULARY))
    torch.manual_seed(1)
    fresh = MaskedLM(model, VOCABULARY, pair="sop")
    assert fresh.pair_head is not None and together.parts["sop"].pair_head is not None
    _load(initial, model, fresh, lambda line: None)
    assert torch.equal(fresh.pair_head.weight, together.parts["sop"].pair_head.weight)
    again = learner(["clm", "sop"], seed=2)[1]
    _load(initial, model, again, lambda line: None)  # several from several: each part its own
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in together.state_dict().items())


def test_nothing_is_kept_in_mind_for_a_step_that_does_not_go_on(corpus: TokenizedCorpus) -> None:
    make = builder(["mlm", "clm"])
    examples = make.build(corpus, 0)
    for batch in (
        TrainingBatches(examples, make, batch_size=4, seed=3)[0],
        ValidationBatches(examples, make, batch_size=4)[0],
    ):
        assert not batch.goes_on and len(batch.streams) == 2
        assert not any(stream.goes_on or stream.continues for stream in batch.streams.values())
