"""One managed online deployment: it runs `sku.capacity` instances, whatever it is asked."""


class Deployment:
    """A deployment in motion; its capacity is a step function of time."""

    def __init__(self, capacity: int, start_s: int) -> None:
        """Begin at `start_s` with `capacity` instances."""
        self.now_s = start_s
        self.steps = [(start_s, capacity)]
        """(second, instances from then on)."""

    def run_until(self, end_s: int) -> None:
        """Let time pass."""
        self.now_s = max(self.now_s, end_s)

    def configure(self, capacity: int) -> None:
        """Run another number of instances from now on."""
        if self.steps[-1][0] == self.now_s:
            self.steps.pop()
        self.steps.append((self.now_s, capacity))

    def delete(self) -> None:
        """Delete it now."""
        self.configure(0)
