"""What a server may use: every queue, body and wait has a bound, so that memory has one."""

from dataclasses import dataclass

from pangu_runtime.bundle import Precision


@dataclass(frozen=True)
class ServeConfig:
    """Bounds of one server; sizes in bytes, times in seconds."""

    max_batch: int = 8
    """Most images of one call of a graph."""
    max_delay_s: float = 0.002
    """Longest that a waiting image waits for others to share a call with."""
    max_waiting: int = 64
    """Most images that wait for one model; beyond that requests are refused (429)."""
    max_body_bytes: int = 64 * 2**20
    """Largest body of a request (413)."""
    max_pixels: int = 50_000_000
    """Most pixels of a request, decoded: of an image, or of all images of a tensor (413)."""
    max_in_flight_bytes: int = 1024 * 2**20
    """Most bytes of bodies and decoded images held at once, over all requests; beyond that they are refused (429)."""
    head_timeout_s: float = 10.0
    """Longest that a request's head may take to arrive; then the connection is closed."""
    body_timeout_s: float = 30.0
    """Longest that a body may take to arrive (408)."""
    decide_timeout_s: float = 60.0
    """Longest that a request may take from then on (503)."""
    send_timeout_s: float = 30.0
    """Longest that a client may read nothing of an answer; then the connection is cut."""
    reload_s: float = 2.0
    """Between looks whether a bundle has been replaced; 0 never looks."""
    threads: int | None = None
    """Threads of each graph; None: all cores."""
    precision: Precision | None = None
    """Which of its precisions every bundle runs in; None: the one it names."""
    token: str | None = None
    """Bearer token that every request but health needs; None: none is needed."""
