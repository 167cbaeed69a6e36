"""What compilers must step around, marked so. A module of its own because the mark imports torch's compiler, which takes a
second that no one should wait for who does not compile: import it where `torch.compiler.is_compiling()`.
"""

from __future__ import annotations

import torch

from cloze.models.layers.attention import grouped_attention as _grouped_attention
from cloze.models.switch import through_experts as _through_experts
from cloze.objectives.cross_entropy import eagerly as _eagerly

grouped_attention = torch.compiler.disable(_grouped_attention)  # type: ignore[no-untyped-call]
eagerly = torch.compiler.disable(_eagerly)  # type: ignore[no-untyped-call]
through_experts = torch.compiler.disable(_through_experts)  # type: ignore[no-untyped-call]
