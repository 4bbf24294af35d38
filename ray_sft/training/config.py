"""What a recipe may set about training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ray_sft.core import Config
from ray_sft.training.balancing import AnyBalancing, GradNorm

__all__ = ["Train"]

_OF_THE_MACHINE = (
    "workers",
    "gradient_accumulation",
    "activation_checkpointing",
    "compile",
    "offload",
    "offload_dir",
    "sequence_parallel",
    "device",
    "keep_checkpoints",
    "max_failures",
)
"""Settings that a run may be gone on with when they have changed."""


class Train(Config):
    """How a stage is trained; the defaults work on a laptop."""

    epochs: int = Field(default=3, ge=1)
    """How often each row is trained, where ``steps`` does not say how long."""
    steps: int = Field(default=0, ge=0)
    """Exactly so many optimizer steps, in as many epochs as they take; 0 goes by ``epochs``."""
    window: int = Field(default=0, ge=0)
    """Stream the training rows: encode so many at a time while training reads the ones before,
    instead of all of them first. For more rows than there is time or disk for; they come in the
    order of the source, shuffled within a window, and again from the first one. Needs ``steps``. A
    window is what an epoch is otherwise: evaluations and checkpoints follow each, unless said
    otherwise."""
    tokens_per_step: int = Field(default=4096, ge=1)
    """Length of the rows of one optimizer step together, over all workers."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Micro-batches a worker runs for a step; more of them need less memory."""
    activation_checkpointing: bool = False
    """Keep of each layer its input alone, and run the layer again where its gradient is computed:
    much less memory for long texts, about a third more time."""
    compile: bool = False
    """Fuse the work of each layer by torch.compile: a minute at the start, then faster steps on
    GPUs, for models of some hundred million parameters and more."""
    packing: bool = False
    """Put several examples into one row, isolated from each other, instead of padding."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up: to zero, or not at all."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay; biases and norms are left out."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the first moment."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """AdamW's decay of the second moment."""
    max_gradient_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this global norm; 0 leaves them as they are."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """What DeepSpeed partitions: nothing, optimizer state, gradients too, parameters too."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What lies in the machine's memory instead of the GPU's: AdamW's state, which is then updated
    by the CPU (from ZeRO stage 1 on), or the parameters too (stage 3). For models that do not fit
    otherwise; each step takes longer."""
    offload_dir: str = ""
    """A folder on a fast disk (NVMe) that takes what is offloaded, where memory is short, too
    (stage 3); it needs libaio."""
    tensor_parallel: int = Field(default=1, ge=1)
    """How many workers share each layer, every one with a part of its weights (DeepSpeed AutoTP):
    for models of which one GPU cannot hold a layer's work. They are to be of one machine."""
    sequence_parallel: int = Field(default=1, ge=1)
    """How many workers share each packed row, every one with a part of its tokens (Ulysses): for
    texts too long for one GPU. Each must get the same number of attention heads."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of matrix products; weights stay fp32. ``auto``: bf16 where it is fast."""
    workers: int = Field(default=2, ge=1)
    """Training processes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` takes GPUs where the cluster has one for each worker."""
    task_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Weight of each task's mean loss, by its name; 1 for those left out."""
    balance: AnyBalancing | None = None
    """How the weights follow the training, beside ``task_weights``; they are fixed without it."""
    seed: int = Field(default=0, ge=0)
    """Seeds the order of rows, new weights and dropout."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates after each epoch. The last step always does."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Steps between checkpoints; 0 writes one after each epoch."""
    keep: Literal["last", "best"] = "last"
    """Which weights become the bundle: those of the last step, or of the evaluation that was best
    by the task's main figure (of several tasks, by the loss). The best figure of several
    evaluations is a little flattering; measure it on rows of their own."""
    patience: int = Field(default=0, ge=0)
    """End after so many evaluations in a row that were no better; 0 never ends early."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the latest checkpoints stay on disk."""
    max_failures: int = Field(default=3, ge=0)
    """How often the run may restart from its last checkpoint after a worker died."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.window and not self.steps:
            raise ValueError("window: rows that are streamed do not end; say by steps when to")
        return self

    @model_validator(mode="after")
    def _workers_can_be_groups(self) -> Self:
        for name in ("tensor_parallel", "sequence_parallel"):
            if self.workers % getattr(self, name):
                raise ValueError(
                    f"{name}: {self.workers} workers cannot be groups of {getattr(self, name)}"
                )
        return self

    @model_validator(mode="after")
    def _can_share_layers(self) -> Self:
        if self.tensor_parallel == 1:
            return self
        if self.compile or self.offload != "none":
            raise ValueError("tensor_parallel: leave compile and offload out")
        if isinstance(self.balance, GradNorm):
            raise ValueError("tensor_parallel: GradNorm reads a layer whole; balance: uncertainty")
        return self

    @model_validator(mode="after")
    def _can_share_sequences(self) -> Self:
        if self.sequence_parallel == 1:
            return self
        if not self.packing:
            raise ValueError("sequence_parallel parts packed rows: set packing: true")
        if self.tensor_parallel > 1:
            raise ValueError("sequence_parallel: leave tensor_parallel out")
        return self

    @model_validator(mode="after")
    def _can_be_offloaded(self) -> Self:
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError("offload: optimizer needs zero_stage 1 or more")
        if self.offload == "all" and self.zero_stage < 3:
            raise ValueError("offload: all needs zero_stage: 3, which parts the parameters")
        if self.offload_dir and (self.offload == "none" or self.zero_stage < 3):
            raise ValueError("offload_dir needs zero_stage: 3 and offload: optimizer or all")
        return self

    @property
    def sharers(self) -> int:
        """How many workers run each micro-batch together."""
        return self.tensor_parallel * self.sequence_parallel

    @property
    def replicas(self) -> int:
        """How many groups of workers read rows of their own."""
        return self.workers // self.sharers

    def decisive(self) -> dict[str, Any]:
        """What decides about the weights a run ends with; not by how many processes, and where."""
        return self.model_dump(mode="json", exclude=set(_OF_THE_MACHINE))
