"""A seeded synthetic market with planted effects and counted faults, written as an archive."""

from dataflows.simulator.config import FaultConfig, SimulatorConfig
from dataflows.simulator.market import Fault, generate_topics
from dataflows.simulator.simulation import SimulationReport, simulate

__all__ = ["Fault", "FaultConfig", "SimulationReport", "SimulatorConfig", "generate_topics", "simulate"]
