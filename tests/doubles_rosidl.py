"""Message classes as rosidl generates them for Python, made from the ``.msg`` files; strict about names and types."""

from __future__ import annotations

import array
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

PACKAGE = Path(__file__).parents[1] / "ros" / "anytime_msgs"
_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_DEFAULTS: dict[str, Any] = {"string": "", "bool": False, "float32": 0.0, "float64": 0.0, "octet": b"\0", "byte": b"\0"}


class Message:
    """A message: keyword arguments only, every field checked when it is set, no other attribute."""

    FIELDS: ClassVar[dict[str, Any]] = {}

    def __init__(self, **given: Any) -> None:
        assert given.keys() <= self.FIELDS.keys(), f"{type(self).__name__}: {given.keys() - self.FIELDS.keys()}"
        for name, kind in self.FIELDS.items():
            setattr(self, name, given[name] if name in given else _default(kind))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.FIELDS:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        kind = self.FIELDS[name]
        assert _fits(kind, value), f"{type(self).__name__}.{name} = {value!r} is no {kind}"
        if kind[0] == "sequence" and kind[1] == ("base", "float64"):
            value = array.array("d", value)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.FIELDS)})"


def _default(kind: Any) -> Any:
    if kind[0] == "base":
        return _DEFAULTS.get(kind[1], 0)
    if kind[0] == "message":
        return kind[1]()
    return [_default(kind[1]) for _ in range(kind[2])] if kind[0] == "array" else []


def _fits(kind: Any, value: Any) -> bool:
    if kind[0] == "message":
        return isinstance(value, kind[1])
    if kind[0] in ("sequence", "array"):
        listed = isinstance(value, (list, tuple, array.array, bytes))
        return listed and all(_fits(kind[1], item) for item in value) and len(value) <= (kind[2] or len(value))
    if kind[1] in _INTEGERS:
        bits = int(kind[1].lstrip("uint"))
        low, high = (0, 2**bits) if kind[1].startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        return isinstance(value, int) and low <= value < high
    return isinstance(value, type(_DEFAULTS[kind[1]])) and (kind[1] not in ("octet", "byte") or len(value) == 1)


class Types:
    """All types of ROS 2 Jazzy and of ``anytime_msgs``, as classes in modules."""

    def __init__(self) -> None:
        store = get_typestore(Stores.ROS2_JAZZY)
        found: dict[str, Any] = {}
        for file in (PACKAGE / "msg").glob("*.msg"):
            found.update(get_types_from_msg(file.read_text(encoding="utf-8"), f"anytime_msgs/msg/{file.stem}"))
        for path, parts in (("srv/Ask", ("Request", "Response")), ("action/Reason", ("Goal", "Result", "Feedback"))):
            texts = (PACKAGE / f"{path}.{path.split('/')[0]}").read_text(encoding="utf-8").split("---")
            for part, text in zip(parts, texts, strict=True):
                found.update(get_types_from_msg(text, f"anytime_msgs/msg/{path.split('/')[1]}_{part}"))
        store.register(found)
        self._definitions = store.fielddefs
        self._classes: dict[str, type[Message]] = {}

    def message(self, name: str) -> type[Message]:
        """The class of a type like ``std_msgs/msg/Header``."""
        if name not in self._classes:
            constants, fields = self._definitions[name]
            made = {field: self._kind(kind) for field, kind in fields}
            values = {constant: value for constant, _, value in constants}
            self._classes[name] = type(name.rsplit("/", 1)[1], (Message,), {"FIELDS": made, **values})
        return self._classes[name]

    def _kind(self, kind: Any) -> Any:
        shape, detail = kind
        if shape == Nodetype.BASE:
            return ("base", detail[0])
        if shape == Nodetype.NAME:
            return ("message", self.message(detail))
        return ("array" if shape == Nodetype.ARRAY else "sequence", self._kind(detail[0]), detail[1])

    def modules(self) -> dict[str, ModuleType]:
        """``anytime_msgs.msg`` and the like."""
        made: dict[str, ModuleType] = {}
        for name in self._definitions:
            if name.split("/")[1:-1] != ["msg"] or "_" in name.rsplit("/", 1)[1]:
                continue
            package, kind, last = name.split("/")
            made.setdefault(package, ModuleType(package))
            setattr(made.setdefault(f"{package}.{kind}", ModuleType(f"{package}.{kind}")), last, self.message(name))
        for path, parts in (("srv/Ask", ("Request", "Response")), ("action/Reason", ("Goal", "Result", "Feedback"))):
            kind, last = path.split("/")
            whole = type(last, (), {part: self.message(f"anytime_msgs/msg/{last}_{part}") for part in parts})
            made[f"anytime_msgs.{kind}"] = ModuleType(f"anytime_msgs.{kind}")
            setattr(made[f"anytime_msgs.{kind}"], last, whole)
        return made
