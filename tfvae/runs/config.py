"""x"""
import dataclasses
@dataclasses.dataclass
class TrainingConfig:
    steps_per_execution: int = 20
    jit_compile: bool = False
