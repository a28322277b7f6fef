"""The files that people write: suites, workloads, labs and profiles, read strictly and explained kindly."""

from melt.files.lab import SCHEMES, Lab, LabDevice, load_lab
from melt.files.profile import Profile, load_profile
from melt.files.prompts import Conversation, PromptSet, load_prompts
from melt.files.reader import read_model
from melt.files.settings import (
    PRESETS,
    Energy,
    Limits,
    Precheck,
    Protocol,
    Settings,
    check_assignments,
    flatten,
    parse_assignment,
    resolve,
)
from melt.files.suite import DeviceChoice, Suite, load_suite
from melt.files.workload import InputSpec, ModelSource, Workload, load_workload

__all__ = [
    "PRESETS",
    "SCHEMES",
    "Conversation",
    "DeviceChoice",
    "Energy",
    "InputSpec",
    "Lab",
    "LabDevice",
    "Limits",
    "ModelSource",
    "Precheck",
    "Profile",
    "PromptSet",
    "Protocol",
    "Settings",
    "Suite",
    "Workload",
    "check_assignments",
    "flatten",
    "load_lab",
    "load_profile",
    "load_prompts",
    "load_suite",
    "load_workload",
    "parse_assignment",
    "read_model",
    "resolve",
]
