"""`Value`: equality, hash and repr of the frozen classes of the core."""

from __future__ import annotations

import attrs


class Value:
    """A base class of frozen attrs classes, with equality, hash and repr like those of attrs.

    attrs would generate and compile these methods for each class, which makes the import slower.
    The package's ``__init__`` has the numbers.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(
            getattr(self, field.name) == getattr(other, field.name)
            for field in attrs.fields(type(self))  # type: ignore[arg-type]  # of a subclass
            if field.eq
        )

    def __hash__(self) -> int:
        fields = attrs.fields(type(self))  # type: ignore[arg-type]  # as above
        return hash(tuple(getattr(self, field.name) for field in fields if field.hash is None))

    def __repr__(self) -> str:
        shown = []
        for field in attrs.fields(type(self)):  # type: ignore[arg-type]  # as above
            if field.repr:
                show = field.repr if callable(field.repr) else repr
                # The name of the argument: that of the attribute may begin with an underscore.
                shown.append(f"{field.alias}={show(getattr(self, field.name))}")
        return f"{type(self).__qualname__.rpartition('>.')[2]}({', '.join(shown)})"
