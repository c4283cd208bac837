"""The same drive on the wall clock: a node with threads of its own, and traffic that waits for nobody."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

import msgspec

from anytime.errors import NodeError
from anytime.node.inprocess import Bus, InProcess
from anytime.node.messages import Decision, Header, Scene, Trace
from anytime.node.node import Node
from anytime.node.stamps import ns_of, time_of
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import MONOTONIC, NS_PER_S, system_ns
from examples.highway.contenders import THINKERS, Said
from examples.highway.paced import Drawn, PacedEngine, Padded, Unchanged
from examples.highway.setting import Setting
from examples.highway.thinking import node_parameters, said

_LEAD_NS = NS_PER_S // 5  # between the node being up and the first scene


class LiveDriver:
    """A node on the wall clock. Instants are ns since the episode began; ``wait`` keeps the traffic to that."""

    def __init__(self, setting: Setting, name: str, seed: int) -> None:
        loaded = setting.loaded
        drawn = Drawn(setting.profile, setting.residuals, seed)
        times = Padded(drawn) if setting.pace > 1.0 else Unchanged()
        self._engine = PacedEngine(loaded.engine, MONOTONIC, times)
        reasoner = Reasoner(self._engine, loaded.codec, setting.profile, loaded.bundle)
        bus = Bus()
        parameters = node_parameters(THINKERS[name], setting.period_ns / NS_PER_S)
        self._node = Node(InProcess(bus), parameters, load=lambda parameters: reasoner)
        self._say = lambda scene: bus.publish(self._node.topics.scene.name, scene)
        self._arrived: deque[Said] = deque()
        self._never = threading.Event()
        self._decided_ns = 0
        self._decision: Decision | None = None
        bus.subscribe(self._node.topics.decision.name, self._decided)
        bus.subscribe(self._node.topics.trace.name, self._traced)
        self.refused = ""
        self._node.configure()
        try:
            self._node.activate()
        except NodeError as error:
            self.refused = str(error)
        self._begun_ns = MONOTONIC.now() + _LEAD_NS
        self._system_ns = system_ns() + _LEAD_NS

    def _decided(self, decision: Decision) -> None:
        self._decided_ns, self._decision = MONOTONIC.now() - self._begun_ns, decision

    def _traced(self, trace: Trace) -> None:
        """Comes right behind the decision, and alone where that was too late to be published."""
        over_ns, decision = MONOTONIC.now() - self._begun_ns, None
        if self._decision is not None and self._decision.input_stamp == trace.input_stamp:
            over_ns, decision = self._decided_ns, self._decision
        stamped_ns = ns_of(trace.input_stamp) - self._system_ns
        self._arrived.append(said(stamped_ns, over_ns, decision, trace.thought))

    def wait(self, at_ns: int) -> None:
        """Until the traffic's time may come to this instant."""
        MONOTONIC.wait_until(self._never, self._begun_ns + at_ns)

    def offer(self, scene: Scene, now_ns: int) -> None:
        self._say(msgspec.structs.replace(scene, header=Header(time_of(self._system_ns + now_ns))))

    def until(self, now_ns: int) -> Iterable[Said]:
        while self._arrived and self._arrived[0].over_ns <= now_ns:
            yield self._arrived.popleft()

    def close(self) -> None:
        self._node.shutdown()
        self._engine.close_all()
