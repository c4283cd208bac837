"""anytime: ask a small reasoning language model a question and get the best answer found by the deadline.

Importing this package loads no torch, no TensorRT, no ROS and no command line.
"""

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
from anytime.runtime.answer import Answer, Tokens
from anytime.runtime.engine import Health
from anytime.runtime.formats import Choices, JsonSchema, Regex, Text
from anytime.runtime.pending import Pending
from anytime.runtime.reasoner import Reasoner
from anytime.runtime.sampling import Sampling

__all__ = [
    "Answer",
    "AnswerFormatError",
    "AnytimeError",
    "BudgetError",
    "BundleError",
    "Choices",
    "EngineError",
    "ExportError",
    "Health",
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
]
__version__ = "0.1.0"
