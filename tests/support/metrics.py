"""Reading `/metrics`, as Prometheus does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Metrics:
    """One reading of `/metrics`."""

    values: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]

    @classmethod
    def parse(cls, text: str) -> Metrics:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return cls({(sample.name, tuple(sample.labels.items())): sample.value for sample in samples})

    def sum(self, name: str, **labels: str) -> float:
        """Add up the samples of that name that have these labels."""
        return sum(v for (n, own), v in self.values.items() if n == name and labels.items() <= dict(own).items())

    def labels(self, name: str) -> dict[str, float]:
        """The samples of a metric with one label that are not 0, by the label's value."""
        return {own[0][1]: value for (n, own), value in self.values.items() if n == name and value}
