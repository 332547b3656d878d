"""Findings and evidence in sentences: what was seen, what it means, and what to do. No torch.

The sentences about findings are in :mod:`lrfinder.advice.curve_words`, :mod:`lrfinder.advice.training_words` and
:mod:`lrfinder.advice.search_words`, those about evidence in :mod:`lrfinder.advice.evidence_words`.
"""

from __future__ import annotations

from collections.abc import Iterable

from lrfinder.advice.curve_words import CURVE_SENTENCES
from lrfinder.advice.evidence import Evidence
from lrfinder.advice.evidence_words import evidence_sentences
from lrfinder.advice.search_words import SEARCH_SENTENCES
from lrfinder.advice.training_words import TRAINING_SENTENCES
from lrfinder.analysis.finding import Finding
from lrfinder.numbers import format_lr

__all__ = ["explain"]

# By code, or by code and detail. A text is filled in with lr and lrs, the learning rate and the values to two digits,
# and with values and detail as they are; a function is for a sentence that depends on them in another way.
_SENTENCES = {**CURVE_SENTENCES, **TRAINING_SENTENCES, **SEARCH_SENTENCES}
_FIRST = ("edge",)  # findings that precede the evidence


def explain(evidence: Iterable[Evidence], findings: Iterable[Finding]) -> tuple[str, ...]:
    """Sentences for the user: how the learning rates came about, then what is unusual about the curve.

    Example:
        >>> explain((), (Finding(code="edge", lr=0.042, values=(0.035, 0.077)),))[0]
        'The stability edge is at lr=0.042 (between 0.035 and 0.077): above it the loss rises and does not come back.'
    """
    evidence, findings = tuple(evidence), tuple(findings)
    return (
        *(_sentence(each) for each in findings if each.code in _FIRST),
        *evidence_sentences(evidence),
        *(_sentence(each) for each in findings if each.code not in _FIRST),
    )


def _sentence(found: Finding) -> str:
    sentence = _SENTENCES.get(f"{found.code} {found.detail}") or _SENTENCES[found.code]
    if not isinstance(sentence, str):
        return sentence(found)
    lr = "" if found.lr is None else format_lr(found.lr)
    return sentence.format(lr=lr, lrs=tuple(map(format_lr, found.values)), values=found.values, detail=found.detail)
