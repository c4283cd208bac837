"""One request from its prompt to the bank: admit, think, and keep what the next request can use."""

from __future__ import annotations

from anytime.errors import EngineError, StepTerminated
from anytime.runtime.job import Job, Machine, Steps
from anytime.runtime.loop import Loop
from anytime.runtime.thought.team import Team
from anytime.scheduler.admission import Refusal, admit


def decode(job: Job, machine: Machine) -> Steps:
    """Answer a job as well as its time allows; every outcome is left in the job and its bank.

    Yields between two steps of the engine, what it would run next where that can be run beside others'. Sent the tokens
    of that, it goes on behind them; else it takes its step by itself. Closed there, it gives its rows back, like at its
    end.

    Raises:
        EngineError: the engine failed.
    """
    job.seq = seq = machine.prefixes.take(job.prompt)
    team = Team(job, machine, seq, job.prompt)
    try:
        job.cached_tokens = seq.length
        work, now = machine.work(job.prompt_tokens, job.answer, seq.length), machine.clock.now()
        outcome = admit(work, job.ready_ns - now, machine.profile, job.until_ns - now)
        if isinstance(outcome, Refusal):
            job.stopped, job.reason = "rejected", outcome.reason
            machine.pace.doubt()
        else:
            job.token_cap = outcome.token_cap
            yield from Loop(job, machine, team).run()
    except StepTerminated:
        job.stopped = "deadline"
    except EngineError:
        if job.aside is None:
            team.stop()
            machine.engine.close(seq)
        seq.state = None
        raise
    finally:  # also when it is closed between two steps
        if job.aside is None and seq.state is not None:
            team.stop()
            machine.prefixes.park(seq, team.prompt)
