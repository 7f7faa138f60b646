"""Count CPUs, GPUs and whatever else a program names: books without any I/O.

GPUs are not interchangeable: a request for one or more gets devices that no other grant holds,
and a request for a fraction shares one device with others whose fractions fit.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Amounts are kept in units of 1/10000, so that three thirds and ten tenths fit.
UNIT = 10_000


class Grant:
    """What one task or actor holds.

    Attributes
    ----------
    amounts : dict
        Units by name.
    gpus : dict
        Units by the index of the device.
    """

    __slots__ = ("amounts", "gpus")

    def __init__(self, amounts: dict[str, int], gpus: dict[int, int]) -> None:
        self.amounts = amounts
        self.gpus = gpus


class Resources:
    """What there is, and what of it is free.

    Parameters
    ----------
    total : mapping
        Amounts by name: ``{"CPU": 2.0, "GPU": 1.0}``.
    devices : sequence of str, optional
        Names of the GPUs, as CUDA_VISIBLE_DEVICES has them.
    """

    def __init__(self, total: Mapping[str, float], devices: Sequence[str] = ()) -> None:
        self.total = {name: _units(amount) for name, amount in total.items()}
        self.free = dict(self.total)
        count = self.total.get("GPU", 0) // UNIT
        self.devices = list(devices) or [str(index) for index in range(count)]
        self._free_gpus = [UNIT] * len(self.devices)

    def impossible(self, request: Mapping[str, float]) -> str:
        """Return the reason why a request can never be granted; "" if it can."""
        for name, amount in request.items():
            if _units(amount) > self.total.get(name, 0):
                there = self.total.get(name, 0) / UNIT
                return f"it asks for {amount:g} {name}, and there are {there:g} in all"
        return ""

    def lacks(self, request: Mapping[str, float]) -> set[str]:
        """Return the names of the resources of which a request asks for more than is free now."""
        amounts = _amounts(request)
        lacks = {name for name, units in amounts.items() if self.free.get(name, 0) < units}
        if self._choose_gpus(amounts.get("GPU", 0)) is None:
            lacks.add("GPU")  # the sum may suffice, but in fractions of several devices
        return lacks

    def take(self, request: Mapping[str, float]) -> Grant | None:
        """Grant a request; None if what it asks for is not free now."""
        if self.lacks(request):
            return None
        amounts = _amounts(request)
        gpus = self._choose_gpus(amounts.get("GPU", 0)) or {}
        for name, units in amounts.items():
            self.free[name] -= units
        for index, units in gpus.items():
            self._free_gpus[index] -= units
        return Grant(amounts, gpus)

    def _choose_gpus(self, units: int) -> dict[int, int] | None:
        if not units:
            return {}
        if units < UNIT:
            fitting = [i for i, free in enumerate(self._free_gpus) if free >= units]
            if not fitting:
                return None
            # The device with the least room that suffices: so whole devices stay whole.
            return {min(fitting, key=lambda index: self._free_gpus[index]): units}
        whole = [i for i, free in enumerate(self._free_gpus) if free == UNIT]
        wanted = units // UNIT
        return dict.fromkeys(whole[:wanted], UNIT) if len(whole) >= wanted else None

    def give_back(self, grant: Grant) -> None:
        """Take back what was granted."""
        for name, units in grant.amounts.items():
            self.free[name] += units
        for index, units in grant.gpus.items():
            self._free_gpus[index] += units

    def lend(self, grant: Grant) -> None:
        """Count the CPUs of a grant as free while its holder waits, until `take_again`."""
        self.free["CPU"] = self.free.get("CPU", 0) + grant.amounts.get("CPU", 0)

    def take_again(self, grant: Grant) -> None:
        """Count the CPUs of a grant as held again, at once: its holder goes on.

        Others may hold them by then: so for a while more may be held than there are.
        """
        self.free["CPU"] = self.free.get("CPU", 0) - grant.amounts.get("CPU", 0)

    def names_of(self, grant: Grant) -> list[str]:
        """Return the names of the GPUs of a grant."""
        return [self.devices[index] for index in sorted(grant.gpus)]

    def amounts(self, free: bool = False) -> dict[str, float]:
        """Return all resources, or what is free of them."""
        return {name: units / UNIT for name, units in (self.free if free else self.total).items()}

    def check_invariants(self) -> None:
        """Raise AssertionError if the books are wrong."""
        for name, units in self.total.items():
            # CPUs that were lent and then taken again may be held twice.
            assert self.free[name] <= units
            assert self.free[name] >= 0 or name == "CPU"
        assert all(0 <= free <= UNIT for free in self._free_gpus)


def _amounts(request: Mapping[str, float]) -> dict[str, int]:
    return {name: _units(amount) for name, amount in request.items() if amount}


def _units(amount: float) -> int:
    return round(amount * UNIT)
