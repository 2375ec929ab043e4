"""thumbtune's stand-in for YouTube, with faults to inject and a journal of its requests."""

from tests.standin.faults import Fault, FaultKind, Faults
from tests.standin.journal import Journal, LoggedRequest
from tests.standin.server import StandIn

__all__ = ["Fault", "FaultKind", "Faults", "Journal", "LoggedRequest", "StandIn"]
