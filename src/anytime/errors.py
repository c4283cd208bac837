"""Every exception of the package: what happened, the offending value, and what to do about it."""

from __future__ import annotations


class AnytimeError(Exception):
    """Base of all errors raised on purpose; ``str()`` is a whole message for a person."""


class UsageError(AnytimeError, ValueError):
    """The call itself is wrong; the same call will fail again. The command line exits with 2."""


class BudgetError(UsageError):
    """A budget or deadline that cannot be read: NaN, infinite, both given, not a duration."""


class PromptError(UsageError):
    """A prompt that is empty, too long for the model's context, or not valid text."""


class AnswerFormatError(UsageError):
    """An answer format that nothing can match, or whose length is not bounded."""


class QuestionFileError(UsageError):
    """A question file with a malformed line; the message names file and line."""


class TaskFileError(UsageError):
    """A file of periodic tasks that cannot be read, or a task in it that there cannot be."""


class ParameterError(UsageError):
    """A parameter of the node that does not exist, has no such value, or cannot be changed any more."""


class BundleError(AnytimeError):
    """A bundle that is missing, incomplete, altered, or made by a newer version."""


class SignatureError(BundleError):
    """A signature that is missing, wrong or expired, where a key is configured."""


class ProfileError(AnytimeError):
    """A latency profile that cannot be read, stored, or used with this bundle on this machine."""


class EngineError(AnytimeError):
    """The inference engine failed or was lost."""


class StepTerminated(AnytimeError):
    """An engine run ended early because it was told to; the sequence stands where it stood before."""


class TargetError(AnytimeError):
    """A description of a device that cannot be read, or does not say what is asked of it."""


class ExportError(AnytimeError):
    """A checkpoint that cannot be exported, or whose exported graph disagrees with the original."""


class DeviceError(AnytimeError):
    """This machine lacks what was asked for: a GPU, its driver, or TensorRT."""


class DeployError(AnytimeError):
    """A directory that cannot be deployed: no such target, wheels that are missing, nothing to sign with."""


class CalibrationError(AnytimeError):
    """A bundle that cannot be calibrated: too few questions, or answers that teach nothing."""


class RecordError(AnytimeError):
    """A record of the node that cannot be read, or not be replayed with this bundle."""


class NodeError(AnytimeError):
    """The node refuses a transition of its life, or a transport cannot be opened."""


class InputError(AnytimeError):
    """A message that the node refuses; ``trouble`` is what diagnostics count it as."""

    def __init__(self, trouble: str, reason: str) -> None:
        super().__init__(reason)
        self.trouble = trouble
