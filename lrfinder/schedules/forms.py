"""How each kind of training computes its loss in the printed lines, or makes its whole step. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMS", "OWN_STEPS", "Form"]

_CROSS_ENTROPY = "from torch.nn.functional import cross_entropy"


@dataclass(frozen=True, kw_only=True)
class Form:
    """Lines that compute a loss.

    Args:
        drawn: names that the loop gives to a batch.
        lines: from these names to ``loss``.
        imports: what the lines import.
        tensors: whether each part of a batch is a tensor; others are containers of tensors.
    """

    drawn: str = "inputs, targets"
    lines: tuple[str, ...]
    imports: tuple[str, ...] = ()
    tensors: bool = True

    @property
    def batch(self) -> str:
        """The names as one value."""
        return f"({self.drawn})" if "," in self.drawn else self.drawn

    @property
    def moved(self) -> str:
        """Line that moves a batch to ``device``."""
        if self.tensors:
            return f"{self.drawn} = {', '.join(f'{name}.to(device)' for name in self.drawn.split(', '))}"
        return f"{self.drawn} = move({self.batch}, device)"


def _with_auxiliary(weight: float) -> Form:
    lines = (
        "output, *auxiliary = model(inputs)",
        f"loss = criterion(output, targets) + {weight} * sum(criterion(each, targets) for each in auxiliary)",
    )
    return Form(lines=lines)


def _on_data(*lines: str) -> Form:
    return Form(drawn="data", lines=lines, tensors=False)


FORMS: dict[str, Form] = {
    "plain": Form(lines=("loss = criterion(model(inputs), targets)",)),
    "auxiliary 0.3": _with_auxiliary(0.3),
    "auxiliary 0.4": _with_auxiliary(0.4),
    "segmentation": Form(
        lines=('loss = cross_entropy(model(inputs)["out"], targets, ignore_index=255)',), imports=(_CROSS_ENTROPY,)
    ),
    "segmentation, auxiliary": Form(
        lines=(
            "outputs = model(inputs)",
            'loss = cross_entropy(outputs["out"], targets, ignore_index=255)',
            'loss = loss + 0.5 * cross_entropy(outputs["aux"], targets, ignore_index=255)',
        ),
        imports=(_CROSS_ENTROPY,),
    ),
    "detection": Form(
        drawn="images, targets", lines=("loss = sum(model(images, targets).values())",), tensors=False
    ),
    "optical flow": Form(
        drawn="first, second, flow, valid",
        lines=(
            "flows = torch.stack(model(first, second))",
            "counted = valid & (flow.norm(dim=1) < 400)",
            "errors = ((flows - flow).abs() * counted[:, None]).mean((1, 2, 3, 4))",
            "loss = sum(0.8 ** (len(errors) - 1 - i) * error for i, error in enumerate(errors))",
        ),
        imports=("import torch",),
    ),
    "own loss": _on_data("loss = loss_fn(model, data)"),
    "output": _on_data('loss = model(**data)["loss"]'),
}
"""By the name that a loss of :mod:`lrfinder.tasks` has as its attribute ``form``."""

OWN_STEPS: dict[str, Form] = {
    "step": _on_data("loss = step_fn(data)"),
    "step, flag": _on_data(
        "made = step_fn(data)", "loss, updated = made if isinstance(made, tuple) else (made, True)"
    ),
    "two-part step": _on_data("loss = backward(data)", "update()"),
    "two-part step, flag": _on_data("loss = backward(data)", "updated = update() in (None, True)"),
    "trainer": Form(lines=()),  # which has the loop
}
"""Steps of the user's own, as one function or two; with ``flag`` they return whether they made their update."""
