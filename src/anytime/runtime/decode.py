"""One request from its prompt to the bank: encode, admit, think, and keep what the next request can use."""

from __future__ import annotations

from anytime.errors import EngineError, PromptError, StepTerminated
from anytime.runtime.job import Job, Machine
from anytime.runtime.loop import Loop
from anytime.runtime.thought.team import Team
from anytime.scheduler.admission import Refusal, Work, admit


def decode(job: Job, machine: Machine) -> None:
    """Answer a job as well as its time allows; every outcome is left in the job and its bank.

    Raises:
        PromptError: the prompt cannot be encoded.
        EngineError: the engine failed.
    """
    prompt = machine.codec.encode(job.prompt)
    job.prompt_tokens = len(prompt)
    max_context = machine.engine.spec.max_context
    close_tokens, answer_steps = len(machine.codec.close_ids), job.answer.answer_steps
    if len(prompt) + close_tokens + answer_steps > max_context:
        raise PromptError(
            f"the prompt has {len(prompt)} tokens and the answer up to {answer_steps + 1}, "
            f"more than the model's context of {max_context}: shorten one of them"
        )
    seq = machine.prefixes.take(prompt)
    team = Team(job, machine, seq, prompt)
    try:
        job.cached_tokens = seq.length
        work = Work(len(prompt), seq.length, close_tokens, answer_steps, max_context)
        outcome = admit(work, job.ready_ns - machine.clock.now(), machine.profile)
        if isinstance(outcome, Refusal):
            job.stopped, job.reason = "rejected", outcome.reason
        else:
            job.token_cap = outcome.token_cap
            Loop(job, machine, team).run()
    except StepTerminated:
        job.stopped = "cancelled" if job.cancelled else "deadline"
    except EngineError:
        team.stop()
        machine.engine.close(seq)
        raise
    team.stop()
    machine.prefixes.park(seq, team.prompt)
