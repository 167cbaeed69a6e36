"""ELMo: a language model in each direction over words that are read by their characters (Peters et al. 2018, "Deep contextualized
word representations", https://arxiv.org/abs/1802.05365; the authors' code: https://github.com/allenai/bilm-tf).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from cloze.errors import Refusal
from cloze.models.base import Batch, HiddenStates, Memory, TwoDirections
from cloze.models.checks import above_zero, positive, rates
from cloze.models.layers.characters import CharacterEncoder, as_text, is_byte_level, spelled
from cloze.models.layers.dropout import drop
from cloze.models.layers.heads import UntiedHead
from cloze.models.layers.recurrent import ProjectedLSTM, recur
from cloze.models.layout import Layout

PUBLISHED_WIDTH = 1024
PUBLISHED_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


class Layer(nn.Module):
    """An LSTM for each direction."""

    def __init__(self, width: int, cells: int) -> None:
        super().__init__()
        self.forwards = ProjectedLSTM(width, cells, width)
        self.backwards = ProjectedLSTM(width, cells, width)

    @property
    def directions(self) -> list[ProjectedLSTM]:
        return [self.forwards, self.backwards]


class Order:
    """Flat rows of a layout as a rectangle (steps, sequences), read from either end of each sequence, and back."""

    def __init__(self, layout: Layout) -> None:
        real = layout.real
        self.sequences, self.steps = real.shape
        self.lengths = real.sum(1)
        step = torch.arange(self.steps, device=real.device)
        mirrored = (self.lengths[:, None] - 1 - step).clamp(min=0)
        rows = layout.rows.view(self.sequences, self.steps)
        self.rows = torch.stack([rows.t(), rows.gather(1, mirrored).t()])  # (2, steps, sequences)
        sequence, place = layout.places // self.steps, layout.places % self.steps
        self.sequence, self.place = sequence, torch.stack([place, mirrored[sequence, place]])

    def of(self, flat: Tensor) -> Tensor:
        """(N, width), the same for both directions -> (2, steps, sequences, width)."""
        return flat[self.rows]

    def back(self, states: Tensor) -> Tensor:
        """(2, steps, sequences, width) -> (N, 2 * width): forward and backward state of each row side by side."""
        return torch.cat([states[d, self.place[d], self.sequence] for d in range(2)], -1)

    def final(self, states: Tensor) -> Tensor:
        """(steps, sequences, width) of the forward direction -> (sequences, width) after each sequence's last token."""
        return states[(self.lengths - 1).clamp(min=0), torch.arange(self.sequences, device=states.device)]


class ELMo(TwoDirections):
    """Characters → convolutions, highway layers → LSTMs with projection, a stack in each direction, every layer but the first added to
    what it reads. Both directions share the characters' encoder and the output's table, not the LSTMs.

    The forward direction begins where it ended on the batch before, where text goes on. The backward direction begins anew at each
    window's end: what stands behind the window has not been read. (The authors carry both, which they can because the backward
    model there reads a text of its own, every sentence of it written backwards, in the sentences' own order.)

    Tokens are read as their spelling says (`spell`); the spelling of unknown ones is that of the vocabulary's unknown token.
    `vectors` reads any word by its characters. Dropout is on what each layer reads and on what the output reads, as in the authors'
    code. `width` is that of both directions together: ELMo's 2 × 512 are 1024.
    """

    remembers: ClassVar[bool] = True
    spelling: Tensor
    byte_level: Tensor

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 2,
        width: int = 1024,
        cells: int = 4096,
        characters: int = 50,
        character_width: int = 16,
        filters: list[list[int]] | None = None,
        highways: int = 2,
        cell_clip: float = 3.0,
        projection_clip: float = 3.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, cells=cells, character_width=character_width, highways=highways)
        above_zero(cell_clip=cell_clip, projection_clip=projection_clip)
        rates(dropout=dropout)
        if width % 2:
            raise Refusal(f"model.width={width} must be even, half for each direction; the nearest is {width + 1}.")
        if filters is None:
            filters = [[span, math.ceil(count * width / PUBLISHED_WIDTH)] for span, count in PUBLISHED_FILTERS]
        if not filters or any(len(each) != 2 or min(each) < 1 for each in filters):
            raise Refusal(
                f"model.filters={filters} must be pairs of two numbers above 0, the characters that a filter spans and how many "
                "filters there are, e.g. [[1, 32], [3, 64]]."
            )
        longest = max(span for span, _ in filters)
        if longest > characters >= PUBLISHED_FILTERS[-1][0]:
            raise Refusal(
                f"model.filters={filters}: one spans {longest} characters, a word has model.characters={characters} at most."
            )
        longest = max(3, longest)
        if characters < longest:
            raise Refusal(
                f"model.characters={characters} must be at least {longest}, for the filters to fit into a word."
            )
        self.width, self.cells, self.characters = width, cells, characters
        self.cell_clip, self.projection_clip, self.dropout = cell_clip, projection_clip, dropout
        half = width // 2
        self.encoder = CharacterEncoder(character_width, filters, highways, half)
        self.layers = nn.ModuleList(Layer(half, cells) for _ in range(layers))
        self.register_buffer("spelling", torch.zeros(vocabulary, characters, dtype=torch.int16))
        self.register_buffer("byte_level", torch.zeros((), dtype=torch.bool))  # how the vocabulary writes its tokens
        if self.spelling.device.type != "meta":
            self.spell([str(number) for number in range(vocabulary)])  # until it is told how they are written

    def spell(self, words: Sequence[str]) -> None:
        """Takes the characters of each token of the vocabulary. Raises ValueError where they are not as many as it has tokens."""
        if len(words) != len(self.spelling):
            raise ValueError(f"the vocabulary has {len(self.spelling)} tokens, not {len(words)}")
        byte_level = is_byte_level(words)
        self.byte_level.fill_(byte_level)
        self.spelling.copy_(torch.from_numpy(spelled(as_text(words, byte_level), self.characters)))

    @property
    def word_embedding(self) -> Tensor:
        """(V, width / 2): what the LSTMs read for each token of the vocabulary. No table: every call reads all spellings."""
        embedding: Tensor = self.encoder(self.spelling)
        return embedding

    def token_head(self) -> UntiedHead:
        """A table of its own, over the states of one direction."""
        return UntiedHead(len(self.spelling), self.width // 2, (self.width // 2) ** -0.5)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        tokens = batch.inputs.tokens
        if tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            # each word is read once; elsewhere finding out which there are costs more than reading some twice
            different, number = torch.unique(tokens, return_inverse=True)
            embedded = self.encoder(self.spelling[different])[number]
        else:
            embedded = self.encoder(self.spelling[tokens])
        states = self._read(embedded, batch.inputs.layout, batch.memory, every_layer)
        return states if batch.goes_on else replace(states, memory=None)

    def vectors(self, sentences: Sequence[Sequence[str]]) -> list[Tensor]:
        """(layers + 1, words, width) for each sentence, a list of words as the tokenizer writes them, whether the vocabulary has them
        or not: ELMo's vectors, the words' own first. Each is read alone, between two ends of text."""
        words = [word for sentence in sentences for word in ("</s>", *sentence, "</s>")]
        lengths = [len(sentence) + 2 for sentence in sentences]
        written = spelled(as_text(words, bool(self.byte_level)), self.characters)
        characters = torch.from_numpy(written).to(self.spelling.device)
        layout = Layout(lengths, device=self.spelling.device)
        states = self._read(self.encoder(characters), layout, None, True)
        layers = torch.stack(states.layers)
        starts = layout.offsets
        return [layers[:, starts[b] + 1 : starts[b + 1] - 1] for b in range(len(lengths))]

    def _read(self, embedded: Tensor, layout: Layout, memory: Memory | None, every_layer: bool) -> HiddenStates:
        """(N, width / 2) vectors of the words -> states."""
        order = Order(layout)
        half, exact = self.width // 2, torch.promote_types(embedded.dtype, torch.float32)
        read = order.of(embedded)
        flat = [torch.cat([embedded, embedded], -1)]
        kept: dict[str, list[Tensor]] = {"forward_state": [], "forward_cell": []}
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            state = embedded.new_zeros(2, order.sequences, half, dtype=exact)
            cell = embedded.new_zeros(2, order.sequences, self.cells, dtype=exact)
            if memory is not None:
                state[0], cell[0] = memory["forward_state"][:, number], memory["forward_cell"][:, number]
            read = drop(read, self.dropout, self.training)
            states, cells = recur(layer.directions, read, state, cell, self.cell_clip, self.projection_clip)
            kept["forward_state"].append(order.final(states[0].detach()))
            kept["forward_cell"].append(order.final(cells[0]))
            read = states if number == 0 else states + read
            if every_layer:
                flat.append(order.back(read))
        last = order.back(drop(read, self.dropout, self.training))
        return HiddenStates(
            last, flat if every_layer else [], memory={name: torch.stack(parts, 1) for name, parts in kept.items()}
        )

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """The forward state of the last token beside the backward state of the first: each has seen the whole sequence."""
        half = self.width // 2
        layout = batch.inputs.layout
        starts = layout.starts(states.last.device)
        lengths = torch.tensor(layout.lengths, device=states.last.device)
        return torch.cat([states.last[starts + lengths - 1, :half], states.last[starts, half:]], -1)

    def depth(self, parameter_name: str) -> int:
        module, _, rest = parameter_name.partition(".")
        return int(rest.split(".")[0]) + 1 if module == "layers" else 0
