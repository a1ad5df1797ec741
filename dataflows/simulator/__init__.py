"""A seeded synthetic market with planted effects and counted faults, written as an archive."""

import operators  # noqa: F401 - its import says where compiled kernels are kept
from dataflows.simulator.config import FaultConfig, SimulatorConfig
from dataflows.simulator.market import Fault, generate_topics
from dataflows.simulator.simulation import SimulationReport, simulate

__all__ = ["Fault", "FaultConfig", "SimulationReport", "SimulatorConfig", "generate_topics", "simulate"]
