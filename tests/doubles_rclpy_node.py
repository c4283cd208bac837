"""Nodes, their entities and their parameters, as the double of rclpy has them."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable
from typing import Any

from tests.doubles_rclpy_qos import PublisherEventCallbacks, QoSProfile, ReliabilityPolicy, SubscriptionEventCallbacks
from tests.doubles_rclpy_world import (
    MESSAGES,
    WORLD,
    CallbackGroup,
    Clock,
    ClockType,
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    RCLError,
    Timer,
    UnsupportedEventTypeError,
)

_rcl = MESSAGES["rcl_interfaces.msg"]


class NameValidationException(Exception):
    def __init__(self, name_type: str, name: str, error_msg: str, invalid_index: int) -> None:
        super().__init__(f"Invalid {name_type}: {error_msg}: '{name}'")


class ParameterException(Exception):
    pass


class InvalidParameterTypeException(ParameterException):
    def __init__(self, desired_parameter: Parameter, expected_type: str) -> None:
        super().__init__(f"Trying to set parameter '{desired_parameter.name}', expecting type '{expected_type}'")


class InvalidParameterValueException(ParameterException):
    def __init__(self, parameter: str, value: Any, reason: str) -> None:
        super().__init__(f"Invalid parameter value ({value}) for parameter. Reason: {reason}: {parameter}")


class Subscription:
    def __init__(self, node: Node, msg_type: Any, topic: str, callback: Any, qos_profile: QoSProfile, events: Any):
        self.node, self.msg_type, self.topic, self.callback = node, msg_type, topic, callback
        self.qos_profile, self.event_callbacks = qos_profile, events
        self.group: CallbackGroup = node.default_callback_group


class Publisher:
    def __init__(self, node: Node, msg_type: Any, topic: str, qos_profile: QoSProfile, events: Any) -> None:
        self.node, self.msg_type, self.topic = node, msg_type, topic
        self.qos_profile, self.event_callbacks = qos_profile, events
        self.group: CallbackGroup = node.default_callback_group

    def publish(self, msg: Any) -> None:
        if not isinstance(msg, self.msg_type):
            raise TypeError(f"Expected {self.msg_type}, got {type(msg)}")
        if not WORLD.ok:
            raise RCLError("Failed to publish: publisher's context is invalid")
        if self not in WORLD.publishers:
            raise RuntimeError("cannot use Destroyable because destruction was requested")
        WORLD.heard.append((self.topic, msg))


class Service:
    def __init__(self, node: Node, srv_type: Any, callback: Any, group: CallbackGroup) -> None:
        self.node, self.srv_type, self.callback, self.group = node, srv_type, callback, group


class Logger:
    def error(self, message: str) -> None:
        WORLD.log.append(("error", message))


class Parameter:
    class Type(enum.Enum):
        NOT_SET, BOOL, INTEGER, DOUBLE, STRING = range(5)
        BYTE_ARRAY, BOOL_ARRAY, INTEGER_ARRAY, DOUBLE_ARRAY, STRING_ARRAY = range(5, 10)

        @classmethod
        def from_parameter_value(cls, parameter_value: Any) -> Parameter.Type:
            if parameter_value is None:
                return cls.NOT_SET
            for kind, name in ((bool, "BOOL"), (int, "INTEGER"), (float, "DOUBLE"), (str, "STRING")):
                if isinstance(parameter_value, kind):
                    return cls[name]
            kinds = ((bytes, "BYTE"), (bool, "BOOL"), (int, "INTEGER"), (float, "DOUBLE"), (str, "STRING"))
            if isinstance(parameter_value, (list, tuple)):
                for kind, name in kinds:  # an empty list is an array of bytes
                    if all(isinstance(item, kind) for item in parameter_value):
                        return cls[f"{name}_ARRAY"]
            raise TypeError(f"The given value is not one of the allowed types '{parameter_value}'.")

    def __init__(self, name: str, type_: Type | None = None, value: Any = None) -> None:
        self.type_ = Parameter.Type.from_parameter_value(value) if type_ is None else type_
        assert isinstance(self.type_, Parameter.Type)
        if value != [] and Parameter.Type.from_parameter_value(value) != self.type_:
            raise ValueError(f"Type '{self.type_}' and value '{value}' do not agree")
        self.name, self.value = name, value


# Attributes of rclpy's own, which a subclass must not take.
_TAKEN = """
    _context _parameters _publishers _subscriptions _clients _services _timers _guards _default_callback_group
    _pre_set_parameters_callbacks _on_set_parameters_callbacks _post_set_parameters_callbacks _rate_group
    _allow_undeclared_parameters _parameter_overrides _descriptors _logger _parameter_event_publisher _clock
    _time_source _parameter_service _logger_service _type_description_service handle context
    _callbacks _managed_entities _state_machine publishers subscriptions clients services timers guards waitables
"""


class Node:
    def __init__(
        self,
        node_name: str,
        *,
        context: Any = None,
        cli_args: list[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: list[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
        enable_logger_service: bool = False,
    ) -> None:
        if not WORLD.ok:
            raise RuntimeError("cannot create node: rclpy.init() has not been called")
        if not re.fullmatch(r"[A-Za-z_]\w*", node_name):
            raise NameValidationException("node name", node_name, "node name must be alphanumeric", 0)
        self.executor: MultiThreadedExecutor | None = None
        self.__dict__["_parameters"], self.__dict__["_descriptors"] = {}, {}
        self.__dict__["_name"] = node_name
        self.__dict__["_namespace"] = "/" + (namespace or "").strip("/")
        self.__dict__["default_callback_group"] = MutuallyExclusiveCallbackGroup()
        self.__dict__["own_timers"] = []
        self.__dict__["_on_set_parameters_callbacks"] = []
        self.__dict__["_parameter_overrides"] = {it.name: it for it in [*WORLD.overrides, *(parameter_overrides or [])]}
        self.__dict__["_clock"] = Clock(clock_type=ClockType.ROS_TIME)
        WORLD.nodes.append(self)
        self.declare_parameter("use_sim_time", False)
        self._follow(self._parameters["use_sim_time"].value)
        self.add_on_set_parameters_callback(self._on_sim_time)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _TAKEN.split():
            raise AttributeError(f"{name} is rclpy's own")
        object.__setattr__(self, name, value)

    def serve(self, group: CallbackGroup, callback: Callable[..., Any], *args: Any) -> Any:
        """As an executor would: on one of its threads, and in the callback's group."""
        assert self.executor is not None, "no executor serves this node"
        with self.executor.slot(), group.entered():
            return callback(*args)

    # time source

    def _on_sim_time(self, changes: list[Parameter]) -> Any:
        for change in changes:
            if change.name == "use_sim_time":
                self._follow(change.value)
        return _rcl.SetParametersResult(successful=True)

    def _follow(self, simulated: bool) -> None:
        self._clock.override_ns = 0 if simulated else None
        WORLD.subscriptions[:] = [it for it in WORLD.subscriptions if it.callback != self._on_clock]
        if simulated:
            profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            self.create_subscription(MESSAGES["rosgraph_msgs.msg"].Clock, "/clock", self._on_clock, profile)

    def _on_clock(self, message: Any) -> None:
        self._clock.override_ns = message.clock.sec * 10**9 + message.clock.nanosec

    # names and clocks

    def get_name(self) -> str:
        return str(self._name)

    def get_namespace(self) -> str:
        return str(self._namespace)

    def get_clock(self) -> Clock:
        return self._clock  # type: ignore[no-any-return]

    def get_logger(self) -> Logger:
        return Logger()

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return [(it._name, it._namespace) for it in WORLD.nodes] + WORLD.others

    def resolve(self, name: str) -> str:
        if "__" in name:
            raise ValueError(f"Invalid topic name: topic name token must not contain repeated underscores: '{name}'")
        if name.startswith("~/"):
            return f"{self._namespace.rstrip('/')}/{self._name}/{name[2:]}"
        return name if name.startswith("/") else f"{self._namespace.rstrip('/')}/{name}"

    # entities

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: PublisherEventCallbacks | None = None,
        qos_overriding_options: Any = None,
        publisher_class: type[Publisher] = Publisher,
    ) -> Publisher:
        events = event_callbacks or PublisherEventCallbacks()
        if events.deadline is not None and not WORLD.deadlines:
            raise UnsupportedEventTypeError("Failed to initialize event: not implemented")
        made = publisher_class(self, msg_type, self.resolve(topic), qos_profile, events)
        made.group = callback_group or self.default_callback_group
        WORLD.publishers.append(made)
        return made

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        qos_profile: QoSProfile,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        qos_overriding_options: Any = None,
        raw: bool = False,
    ) -> Subscription:
        events = event_callbacks or SubscriptionEventCallbacks()
        made = Subscription(self, msg_type, self.resolve(topic), callback, qos_profile, events)
        made.group = callback_group or self.default_callback_group
        WORLD.subscriptions.append(made)
        return made

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile | None = None,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        made = Service(self, srv_type, callback, callback_group or self.default_callback_group)
        WORLD.services[self.resolve(srv_name)] = made
        return made

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], None],
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
        autostart: bool = True,
    ) -> Timer:
        group = callback_group or self.default_callback_group
        made = Timer(callback, round(timer_period_sec * 1e9), clock or self._clock, group)
        if not autostart:
            made.cancel()
        self.own_timers.append(made)
        return made

    def destroy_publisher(self, publisher: Publisher) -> bool:
        WORLD.publishers.remove(publisher)
        return True

    def destroy_subscription(self, subscription: Subscription) -> bool:
        WORLD.subscriptions.remove(subscription)
        return True

    def destroy_timer(self, timer: Timer) -> bool:
        self.own_timers.remove(timer)
        return True

    def destroy_node(self) -> None:
        WORLD.nodes.remove(self)
        WORLD.publishers[:] = [it for it in WORLD.publishers if it.node is not self]
        WORLD.subscriptions[:] = [it for it in WORLD.subscriptions if it.node is not self]
        WORLD.services.clear()

    # parameters

    def has_parameter(self, name: str) -> bool:
        return name in self._parameters

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        found = self._parameters.get(name)
        if found is None or found.type_ == Parameter.Type.NOT_SET:
            return alternative_value or Parameter(name, Parameter.Type.NOT_SET)
        return found  # type: ignore[no-any-return]

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        self._on_set_parameters_callbacks.insert(0, callback)

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        assert name not in self._parameters, "ParameterAlreadyDeclaredException"
        descriptor = _rcl.ParameterDescriptor() if descriptor is None else descriptor
        assert isinstance(descriptor, _rcl.ParameterDescriptor)
        if isinstance(value, Parameter.Type):
            descriptor.type, value = value.value, None
        else:
            descriptor.type = Parameter.Type.from_parameter_value(value).value
        if name in self._parameter_overrides and not ignore_override:
            value = self._parameter_overrides[name].value
        made = Parameter(name, value=value)
        self._descriptors[name] = descriptor
        result = self._checked([made])
        if not result.successful:
            if result.reason.startswith("Wrong parameter type"):
                raise InvalidParameterTypeException(made, Parameter.Type(descriptor.type).name)
            raise InvalidParameterValueException(name, made.value, result.reason)
        self._parameters[name] = made
        return made

    def set_parameters(self, parameter_list: list[Parameter]) -> list[Any]:
        """As the parameter service does it: one after the other."""
        results = []
        for change in parameter_list:
            assert change.name in self._parameters, "ParameterNotDeclaredException"
            results.append(self._checked([change]))
            if results[-1].successful:
                self._parameters[change.name] = change
        return results

    def _checked(self, changes: list[Parameter]) -> Any:
        for change in changes:
            reason = self._wrong(change)
            if reason:
                return _rcl.SetParametersResult(successful=False, reason=reason)
        for callback in self._on_set_parameters_callbacks:
            result = callback(changes)
            if not result.successful:
                return result
        return _rcl.SetParametersResult(successful=True)

    def _wrong(self, change: Parameter) -> str:
        descriptor = self._descriptors[change.name]
        if change.name in self._parameters and descriptor.read_only:
            return f"Trying to set a read-only parameter: {change.name}."
        if change.type_ == Parameter.Type.NOT_SET:
            return "Static parameter cannot be undeclared" if change.name in self._parameters else ""
        if change.type_.value != descriptor.type:
            return f"Wrong parameter type, expected '{Parameter.Type(descriptor.type)}' got '{change.type_}'"
        for bounds in (*descriptor.floating_point_range, *descriptor.integer_range):
            edges = bounds.from_value, bounds.to_value
            near = any(math.isclose(change.value, edge, rel_tol=1e-6) for edge in edges)
            if not near and not edges[0] < change.value < edges[1]:
                return f"Parameter {change.name} out of range Min: {edges[0]}, Max: {edges[1]}, value: {change.value}"
        return ""
