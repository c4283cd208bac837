"""A stand-in for the module ``tensorrt`` as far as plans are built with it, which notes what is used of it."""

from __future__ import annotations

from typing import Any

# (class, name, number of arguments) of what was called, None for what was read or set; class "" is the module.
Uses = set[tuple[str, str, "int | None"]]


class Noted:
    """An object of one of TensorRT's classes, or that class itself; ``parts`` are its attributes and methods."""

    def __init__(self, uses: Uses, kind: str, made: Any = None, **parts: Any) -> None:
        self.__dict__.update(_uses=uses, _kind=kind, _made=made, _parts=parts)

    def __call__(self, *arguments: Any) -> Any:
        self._uses.add((self._kind, "__init__", len(arguments)))
        return self._made(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name not in self._parts:
            raise AttributeError(f"{self._kind} has no {name}")
        part = self._parts[name]
        if isinstance(part, Noted) or not callable(part):
            self._uses.add((self._kind, name, None))
            return part

        def call(*arguments: Any) -> Any:
            self._uses.add((self._kind, name, len(arguments)))
            return part(*arguments)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        self._uses.add((self._kind, name, None))
        if name == "__class__":
            self.__dict__["_kind"] = value.__dict__["_kind"]
        else:
            self._parts[name] = value


class FakeTensorRT:
    """``module`` builds plans of a network with these inputs; the switches say what goes wrong.

    The network has an attention layer between two others. What it was told is in ``flags`` (of the network),
    ``attention``, ``config`` and ``profiles``, each of them shapes by input: least, best, most.
    """

    def __init__(
        self,
        inputs: dict[str, tuple[int, ...]],
        version: str = "10.16.1.11",
        *,
        starts: bool = True,
        parses: bool = True,
        builds: bool = True,
        knows_timings: bool = True,
    ) -> None:
        self.uses: Uses = set()
        self.flags, self.parsed, self.builds = 0, "", 0
        self.attention: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.profiles: list[dict[str, tuple[list[int], list[int], list[int]]]] = []
        self.timings: list[bytes] = []
        self._inputs, self._builds = inputs, builds

        def builder(logger: Any) -> Noted:
            if not starts:
                raise TypeError("pybind11::init(): factory function returned nullptr")
            return self._noted(
                "Builder",
                create_network=self._network,
                create_builder_config=lambda: self._config(knows_timings),
                create_optimization_profile=self._profile,
                build_serialized_network=self._build,
            )

        def parser(network: Noted, logger: Any) -> Noted:
            return self._noted(
                "OnnxParser",
                parse_from_file=lambda file: self.__dict__.update(parsed=file) or parses,
                num_errors=1,
                get_error=lambda index: self._noted("ParserError", desc=lambda: "no such operator"),
            )

        self.module = self._noted(
            "",
            __version__=version,
            Builder=Noted(self.uses, "Builder", builder),
            OnnxParser=Noted(self.uses, "OnnxParser", parser),
            Logger=Noted(self.uses, "Logger", lambda severity: object(), ERROR=1),
            NetworkDefinitionCreationFlag=self._noted("NetworkDefinitionCreationFlag", STRONGLY_TYPED=1),
            LayerType=self._noted("LayerType", ATTENTION_INPUT="attention"),
            IAttentionInputLayer=self._noted("IAttentionInputLayer"),
            BuilderFlag=self._noted("BuilderFlag", VERSION_COMPATIBLE="version compatible"),
            HardwareCompatibilityLevel=self._noted("HardwareCompatibilityLevel", AMPERE_PLUS="from Ampere on"),
        )

    def _noted(self, kind: str, **parts: Any) -> Noted:
        return Noted(self.uses, kind, **parts)

    def _network(self, flags: int) -> Noted:
        self.flags = flags
        tensors = [self._noted("ITensor", name=name, shape=shape) for name, shape in self._inputs.items()]
        attention = self._noted("IAttention")
        self.attention = attention.__dict__["_parts"]
        layers = [self._noted("ILayer", type=kind, attention=attention) for kind in ("constant", "attention", "cast")]
        return self._noted(
            "INetworkDefinition",
            num_inputs=len(tensors),
            get_input=tensors.__getitem__,
            num_layers=len(layers),
            get_layer=layers.__getitem__,
        )

    def _profile(self) -> Noted:
        shapes: dict[str, Any] = {}
        self.profiles.append(shapes)

        def put(name: str, *bounds: list[int]) -> None:
            shapes[name] = bounds

        return self._noted("IOptimizationProfile", set_shape=put, set_shape_input=put)

    def _config(self, knows_timings: bool) -> Noted:
        config = self._noted(
            "IBuilderConfig",
            set_flag=lambda flag: self.config.update(flag=flag),
            add_optimization_profile=lambda profile: len(self.profiles) - 1,
            create_timing_cache=lambda content: self._noted("ITimingCache", serialize=lambda: content + b"+measured"),
            set_timing_cache=self._take_timings(knows_timings),
        )
        self.config = config.__dict__["_parts"]
        return config

    def _take_timings(self, known: bool) -> Any:
        def take(cache: Noted, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            content = cache.__dict__["_parts"]["serialize"]().removesuffix(b"+measured")
            self.timings.append(content)
            return known or content == b""

        return take

    def _build(self, network: Noted, config: Noted) -> bytes | None:
        self.builds += 1
        return b"a plan of " + self.parsed.encode() if self._builds else None
