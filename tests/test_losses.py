"""Loss functions: any batch and loss, and what is refused because nothing can be trained with it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import CLASSES, labelled, network, one_step
from torch import Tensor, nn
from worlds import Encoding, Pair, Record

from lrfinder import LRFinder
from lrfinder.errors import BatchError
from lrfinder.training.batches import Batches
from lrfinder.training.contents import describe_batch
from lrfinder.training.losses import criterion_loss

CPU = torch.device("cpu")

# --- any batch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "loss_fn"),
    [
        (torch.ones(2, 4), lambda model, batch: model(batch).square().mean()),
        ({"x": torch.ones(2, 4)}, lambda model, batch: model(batch["x"]).square().mean()),
        (Pair(torch.ones(2, 4), torch.ones(2, 3)), lambda model, b: (model(b.inputs) - b.target).abs().mean()),
        (Record(torch.ones(2, 4)), lambda model, batch: model(batch.inputs).square().mean()),
        (Encoding(x=torch.ones(2, 4)), lambda model, batch: model(batch["x"]).square().mean()),
    ],
    ids=["tensor", "dict", "namedtuple", "dataclass", "encoding"],
)
def test_a_loss_function_gets_the_batch_as_the_loader_made_it(batch: Any, loss_fn: Any) -> None:
    assert one_step(loss_fn, Batches([batch], CPU).draw(1)[0]).item() > 0


@pytest.mark.parametrize("kind", [tuple, list, lambda pair: Pair(*pair)], ids=["tuple", "list", "namedtuple"])
def test_a_criterion_takes_inputs_and_target_in_any_pair(kind: Callable[[Any], Any]) -> None:
    inputs, target = labelled(0)
    expected = nn.functional.cross_entropy(network()(inputs), target)
    assert one_step(None, kind((inputs, target))) == expected


# --- what cannot be trained with --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        ({"input_ids": torch.ones(2, 4), "labels": torch.ones(2)}, "a dict with keys 'input_ids', 'labels'"),
        (torch.ones(2, 4), r"a float32 tensor of shape \(2, 4\)"),
        ((torch.ones(2, 4),), "a tuple of 1: Tensor"),
        ([torch.ones(2, 4), torch.ones(2), 3], "a list of 3: Tensor, Tensor, int"),
        (Record(torch.ones(2, 4)), "a Record"),
    ],
    ids=["dict", "tensor", "one", "three", "object"],
)
def test_a_criterion_refuses_a_batch_that_is_no_pair(batch: Any, what: str) -> None:
    with pytest.raises(BatchError, match=rf"needs batches of \(inputs, target\); got {what}. Pass loss_fn instead"):
        one_step(None, batch)
    one_step(None, labelled(0))


@pytest.mark.parametrize(
    ("label", "message"),
    [(CLASSES, "labels run from 0 to 3, but the model has 3"), (-1, "labels run from -1 to 2, but the model has 3")],
)
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), nn.NLLLoss()], ids=["cross entropy", "nll"])
def test_labels_outside_the_models_classes_are_refused(
    label: int, message: str, criterion: nn.Module
) -> None:
    inputs, _ = labelled(0, 3)
    with pytest.raises(BatchError, match=rf"{message} classes \(labels 0 to 2\). Give the model enough outputs, or"):
        one_step(criterion_loss(criterion), (inputs, torch.tensor([0, label, 2])))
    one_step(criterion_loss(criterion), (inputs, torch.tensor([0, 0, CLASSES - 1])))


def test_a_kind_that_begins_with_a_vowel_has_its_article() -> None:
    described = [describe_batch(each) for each in (OrderedDict(a=1), iter(()), torch.ones(1, dtype=torch.uint8), 1)]
    expected = ["an OrderedDict with keys 'a'", "a tuple_iterator", "a uint8 tensor of shape (1,)", "an int"]
    assert described == expected


def test_labels_to_be_ignored_may_be_any_number() -> None:
    inputs, _ = labelled(0, 3)
    one_step(None, (inputs, torch.tensor([0, -100, 2])))
    one_step(criterion_loss(nn.CrossEntropyLoss(ignore_index=255)), (inputs, torch.tensor([0, 255, 2])))
    with pytest.raises(BatchError, match=r"labels run from 0 to 255.* ignore_index=255, where 255 marks no class\.$"):
        one_step(None, (inputs, torch.tensor([0, 255, 2])))
    with pytest.raises(BatchError, match=r"labels run from 0 to 255.*, or renumber the labels\.$"):
        one_step(None, (inputs, torch.tensor([0, 255, 4])))


def test_class_probabilities_and_labels_of_every_pixel_are_targets_too() -> None:
    inputs, _ = labelled(0, 3)
    one_step(None, (inputs, torch.full((3, CLASSES), 1 / 3)))
    images = nn.Conv2d(1, CLASSES, 1)
    one_step(None, (torch.ones(2, 1, 4, 4), torch.full((2, 4, 4), CLASSES - 1)), model=images)
    with pytest.raises(BatchError, match="labels run from 3 to 3, but the model has 3 classes"):
        one_step(None, (torch.ones(2, 1, 4, 4), torch.full((2, 4, 4), CLASSES)), model=nn.Conv2d(1, CLASSES, 1))


@pytest.mark.parametrize(
    ("criterion", "wrong", "right"),
    [
        (nn.CrossEntropyLoss(), torch.zeros(8, dtype=torch.int32), torch.zeros(8, dtype=torch.int64)),
        (nn.CrossEntropyLoss(), torch.zeros(8), torch.zeros(8, dtype=torch.int64)),
        (nn.CrossEntropyLoss(), torch.zeros(7, dtype=torch.int64), torch.zeros(8, dtype=torch.int64)),
        (nn.BCEWithLogitsLoss(), torch.zeros(8, CLASSES, dtype=torch.int64), torch.zeros(8, CLASSES)),
        (nn.MSELoss(), None, torch.zeros(8, CLASSES)),
        (nn.MSELoss(), {"y": torch.zeros(8, CLASSES)}, torch.zeros(8, CLASSES)),
    ],
    ids=["int32", "float labels", "too few", "int probabilities", "none", "dict"],
)
def test_a_target_the_criterion_cannot_take_is_described_beside_the_output(
    criterion: nn.Module, wrong: Any, right: Tensor
) -> None:
    inputs, _ = labelled(0)
    with pytest.raises(BatchError, match=rf"{type(criterion).__name__} cannot take the model's output, a float32 "):
        one_step(criterion_loss(criterion), (inputs, wrong))
    with pytest.raises(BatchError, match="Pass loss_fn instead of criterion, for example LRFinder"):
        one_step(criterion_loss(criterion), (inputs, wrong))
    one_step(criterion_loss(criterion), (inputs, right))


def test_an_output_the_criterion_cannot_take_is_described() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            return {"logits": self.inner(inputs)}

    with pytest.raises(BatchError, match="output, a dict with keys 'logits', with the target, an int64 tensor"):
        one_step(None, labelled(0), model=Wrapped())
    one_step(lambda model, b: nn.functional.cross_entropy(model(b[0])["logits"], b[1]), labelled(0), model=Wrapped())


def test_an_error_of_the_model_itself_is_raised_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        one_step(None, (torch.ones(8, 5), torch.zeros(8, dtype=torch.int64)))
    assert not isinstance(caught.value, BatchError)


def test_a_loss_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(BatchError, match=r"got a float. Return the tensor itself, not loss.item\(\)"):
        one_step(lambda model, batch: model(batch[0]).mean().item(), labelled(0))
    with pytest.raises(BatchError, match="got a NoneType"):
        one_step(lambda model, batch: None, labelled(0))
    one_step(lambda model, batch: model(batch[0]).mean(), labelled(0))


def test_a_loss_of_many_numbers_is_refused_and_their_mean_accepted() -> None:
    with pytest.raises(BatchError, match=r"got shape \(8, 3\). Average it, e.g. with .mean\(\), before returning"):
        one_step(lambda model, batch: model(batch[0]), labelled(0))
    with pytest.raises(BatchError, match=r"got shape \(8,\). .*\(a criterion needs reduction='mean'"):
        one_step(criterion_loss(nn.CrossEntropyLoss(reduction="none")), labelled(0))
    one_step(criterion_loss(nn.CrossEntropyLoss(reduction="mean")), labelled(0))
    one_step(lambda model, batch: model(batch[0]).mean(), labelled(0))


def test_a_loss_without_a_gradient_is_refused() -> None:
    def without_grad(model: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad():
            return model(batch[0]).mean()

    for loss_fn in (lambda model, batch: model(batch[0]).mean().detach(), without_grad):
        with pytest.raises(BatchError, match="the loss needs no gradient, so nothing can be trained with it"):
            one_step(loss_fn, labelled(0))


def test_a_loss_of_another_model_is_refused() -> None:
    other = network(1)
    with pytest.raises(BatchError, match=r"compute it from model\(...\) itself"):
        one_step(lambda model, batch: other(batch[0]).mean(), labelled(0))
    one_step(lambda model, batch: (model(batch[0]) + other(batch[0])).mean(), labelled(0))


class Sentence:
    """A sample that keeps what a model computed for it, as those of flair do."""

    def __init__(self, seed: int) -> None:
        self.words = torch.randn(4, generator=torch.Generator().manual_seed(seed))
        self.label = torch.tensor(seed % CLASSES)
        self.embedding: Tensor | None = None


def embedded(model: nn.Module, batch: list[Sentence]) -> Tensor:
    for sentence in batch:
        if sentence.embedding is None:
            sentence.embedding = model[0](sentence.words)
    output = torch.stack([model[1](sentence.embedding) for sentence in batch])
    return nn.functional.cross_entropy(output, torch.stack([sentence.label for sentence in batch]))


def cleared(model: nn.Module, batch: list[Sentence]) -> Tensor:
    for sentence in batch:
        sentence.embedding = None
    return embedded(model, batch)


def test_samples_that_keep_a_graph_are_explained() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = [[Sentence(4 * batch + place) for place in range(4)] for batch in range(8)]
    with pytest.raises(BatchError, match="into the graph of an earlier step.*uses a batch more than once"):
        LRFinder(model, optimizer, loss_fn=embedded).range_test(loader, progress=False)
    assert LRFinder(model, optimizer, loss_fn=cleared).range_test(loader, progress=False).curve.losses
    assert all(sentence.embedding is None for batch in loader for sentence in batch)


def test_the_reason_of_a_criterion_and_what_to_do_are_two_sentences() -> None:
    def one(output: Tensor) -> Tensor:
        return output.sum()

    with pytest.raises(BatchError, match=r"takes 1 positional argument but 2 were given\. Pass loss_fn"):
        criterion_loss(one)(nn.Linear(2, 1), (torch.ones(1, 2), torch.ones(1)))  # type: ignore[arg-type]
