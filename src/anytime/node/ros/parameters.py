"""The node's parameters as ROS has them: declared with their bounds, and every change checked by ``parameters``.

ROS's ``read_only`` is for ever; what is read-only here can change while the node is unconfigured, so the descriptors
say that in words and a callback refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from anytime.errors import ParameterError
from anytime.node.node import Node
from anytime.node.parameters import Declared, Parameters, declared, parameters_of


def overrides(given: Mapping[str, Any]) -> list[Parameter]:
    """Parameters to begin with, as rclpy has them.

    Raises:
        ParameterError: one does not exist, or cannot have its value.
    """
    parameters = parameters_of(given)
    values = {name: getattr(parameters, name) for name in given}
    # rclpy takes an empty list for bytes; not to give it is the same.
    return [Parameter(name, value=value) for name, value in values.items() if value != []]


def declare(node: LifecycleNode) -> Parameters:
    """Declare all parameters, and say what they are with what the node was started with.

    Raises:
        ParameterError: one cannot have its value.
    """
    given = {}
    for parameter in declared():
        if not node.has_parameter(parameter.name):  # rclpy declares use_sim_time
            _declare(node, parameter)
        given[parameter.name] = _value(node.get_parameter_or(parameter.name), parameter)
    return parameters_of(given)


def _declare(node: LifecycleNode, parameter: Declared) -> None:
    value = parameter.default if parameter.default != [] else Parameter.Type.STRING_ARRAY
    try:
        node.declare_parameter(parameter.name, value, _descriptor(parameter))
    except InvalidParameterTypeException as error:
        kind = type(parameter.default).__name__
        hint = "; write 1.0, not 1" if kind == "float" else ""
        raise ParameterError(f"the parameter {parameter.name} is a {kind}: {error}{hint}") from error
    except InvalidParameterValueException as error:
        raise ParameterError(f"the parameter {parameter.name} cannot have its value: {error}") from error


def _descriptor(parameter: Declared) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=parameter.description)
    if parameter.read_only:
        descriptor.additional_constraints = "read-only while the node is configured"
    if parameter.bounds is not None:
        low, high = parameter.bounds
        if isinstance(parameter.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor


def _value(parameter: Parameter, declared: Declared) -> Any:
    if parameter.type_ == Parameter.Type.NOT_SET:
        return declared.default
    return list(parameter.value) if isinstance(declared.default, list) else parameter.value


def checked(core: Node, changes: list[Parameter]) -> SetParametersResult:
    """Apply changes to the node, all or none; those of parameters that are not the node's are left to others.

    rclpy asks this callback before the one that switches its own clock to ``/clock``.
    """
    ours = {parameter.name: parameter for parameter in declared()}
    try:
        core.set_parameters({it.name: _value(it, ours[it.name]) for it in changes if it.name in ours})
    except ParameterError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)
