"""The reasoner as a driver: a node on a bus in this process, which is shown scenes and publishes decisions."""

from __future__ import annotations

import time

import msgspec

from anytime.errors import NodeError
from anytime.node.inprocess import Bus, InProcess
from anytime.node.messages import Decision, Header, Scene, Trace
from anytime.node.node import Node
from anytime.node.parameters import Parameters, parameters_of
from anytime.node.stamps import time_of
from anytime.runtime.engine import Health
from anytime.runtime.loading import Loaded
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import NS_PER_S
from anytime.scheduler.profile import LatencyProfile
from examples.highway.contenders import Said, Thinker
from examples.highway.lockstep import LockstepClock
from examples.highway.paced import Drawn, PacedEngine, Residuals

EPOCH_NS = 1_800_000_000 * NS_PER_S  # of simulated stamps
MARGIN_S = 0.001  # of a budget, kept back for publishing


def node_parameters(thinker: Thinker, period_s: float) -> Parameters:
    """Of the node that is this contender."""
    budget_s = thinker.budget_s or period_s
    return parameters_of(
        {
            "budget_s": budget_s,
            "period_s": period_s,
            "margin_s": MARGIN_S,
            "policy": thinker.policy,
            "warm_up": 10,
        }
    )


class SimulatedDriver:
    """A node in simulated time. Instants are ns since the episode began."""

    def __init__(
        self,
        loaded: Loaded,
        profile: LatencyProfile,
        residuals: Residuals,
        thinker: Thinker,
        period_s: float,
        seed: int,
    ) -> None:
        self._clock = LockstepClock()
        self._engine = PacedEngine(loaded.engine, self._clock, Drawn(profile, residuals, seed))
        self._reasoner = Reasoner(self._engine, loaded.codec, profile, loaded.bundle, clock=self._clock)
        bus = Bus()
        self._node = Node(
            InProcess(bus),
            node_parameters(thinker, period_s),
            load=lambda parameters: self._reasoner,
            clock=self._clock,
            system=lambda: EPOCH_NS + self._clock.now(),
            threaded=False,
        )
        self._topics = self._node.topics
        self._decision: Decision | None = None
        self._thought = ""
        self._say = lambda scene: bus.publish(self._topics.scene.name, scene)
        bus.subscribe(self._topics.decision.name, self._decided)
        bus.subscribe(self._topics.trace.name, self._traced)
        self.refused = ""
        self._node.configure()
        try:
            self._node.activate()
        except NodeError as error:  # it drives on without a decision, as a car would whose node does not come up
            self.refused = str(error)
        self._settle()
        self._begun_ns = self._clock.now()

    def _decided(self, decision: Decision) -> None:
        self._decision = decision

    def _traced(self, trace: Trace) -> None:
        self._thought = trace.thought

    def ask(self, scene: Scene, stamped_ns: int, at_ns: int) -> Said:
        """Show the node a scene of ``stamped_ns`` at ``at_ns``; time passes until it is done with it."""
        self._clock.advance_to(self._begun_ns + at_ns)
        stamp = time_of(EPOCH_NS + self._begun_ns + stamped_ns)
        self._decision, self._thought = None, ""
        self._say(msgspec.structs.replace(scene, header=Header(stamp)))
        self._settle()
        return said(stamped_ns, self._clock.now() - self._begun_ns, self._decision, self._thought)

    def _settle(self) -> None:
        """Wait until the engine's thread has let go of what was terminated: no simulated time passes meanwhile."""
        while self._reasoner.health() is not Health.READY:
            time.sleep(0.0001)

    def close(self) -> None:
        self._node.shutdown()
        self._engine.close_all()


def said(stamped_ns: int, over_ns: int, decision: Decision | None, thought: str) -> Said:
    """A fallback is no decision of the model: the one before holds."""
    action = decision.answer if decision is not None and decision.source != "fallback" else None
    return Said(stamped_ns, over_ns, action, decision, thought)
