"""What a scrape of /metrics says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


class Figures:
    """The samples of a scrape, by name and labels."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of this name that have these labels, 0 if there is none."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return float(sum(found))

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of each sample of this name."""
        return [sample.labels for sample in self.samples if sample.name == name]
