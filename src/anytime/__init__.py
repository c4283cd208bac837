"""anytime: ask a small reasoning language model a question and get the best answer found by the deadline.

Importing this package loads no torch, no TensorRT, no ROS and no command line; what it offers is loaded when it is
first asked for, so that a host program which only imports it starts as fast as without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import anytime.ext.latency  # compiled: a broken installation shows at once  # noqa: F401
from anytime.errors import (
    AnswerFormatError,
    AnytimeError,
    BudgetError,
    BundleError,
    EngineError,
    ExportError,
    ProfileError,
    PromptError,
    QuestionFileError,
    UsageError,
)

if TYPE_CHECKING:
    from anytime.runtime.answer import Answer, Tokens
    from anytime.runtime.answers.formats import Choices, JsonSchema, Regex, Text
    from anytime.runtime.cascade import Cascade
    from anytime.runtime.decisions import DecisionLog
    from anytime.runtime.engine import Health
    from anytime.runtime.isolated.client import Isolated
    from anytime.runtime.isolation import Isolation
    from anytime.runtime.pending import Pending
    from anytime.runtime.reasoner import Reasoner
    from anytime.runtime.sampling import Sampling
    from anytime.runtime.together import answer_together

__all__ = [
    "Answer",
    "AnswerFormatError",
    "AnytimeError",
    "BudgetError",
    "BundleError",
    "Cascade",
    "Choices",
    "DecisionLog",
    "EngineError",
    "ExportError",
    "Health",
    "Isolated",
    "Isolation",
    "JsonSchema",
    "Pending",
    "ProfileError",
    "PromptError",
    "QuestionFileError",
    "Reasoner",
    "Regex",
    "Sampling",
    "Text",
    "Tokens",
    "UsageError",
    "answer_together",
]
__version__ = "0.1.0"

_HOMES = {
    "Answer": "answer",
    "Cascade": "cascade",
    "Choices": "answers.formats",
    "DecisionLog": "decisions",
    "Health": "engine",
    "Isolated": "isolated.client",
    "Isolation": "isolation",
    "JsonSchema": "answers.formats",
    "Pending": "pending",
    "Reasoner": "reasoner",
    "Regex": "answers.formats",
    "Sampling": "sampling",
    "Text": "answers.formats",
    "Tokens": "answer",
    "answer_together": "together",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'anytime' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"anytime.runtime.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
