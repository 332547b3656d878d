"""Find the learning rate inside the Hugging Face Trainer, and train a language model with it.

A small Llama learns to predict the next character of the help texts on Python's language, which every installation of
Python has (``help("for")`` shows one). It is trained twice from the same start: with a cosine schedule from the
learning rate that the range test advises, and with the default of the Trainer, a linear schedule from 5e-5.

Usage: python examples/language_model.py [--steps N] [--seed N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments

from lrfinder.integrations.transformers import apply, range_test

LENGTH = 64  # characters in a sample


def load_text() -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]], int]:
    """Samples to train on, samples to evaluate on, and the number of different characters."""
    text = "\n".join(topics[name] for name in sorted(topics))
    characters = sorted(set(text))
    number = {character: index for index, character in enumerate(characters)}
    ids = torch.tensor([number[character] for character in text])
    samples = [{"input_ids": part, "labels": part} for part in ids.split(LENGTH)[:-1]]
    return samples[256:], samples[:256], len(characters)


def build_trainer(steps: int, seed: int, folder: str) -> Trainer:
    train_data, test_data, vocabulary = load_text()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
    )
    args = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    trainer = Trainer(LlamaForCausalLM(config), args, train_dataset=train_data, eval_dataset=test_data)
    trainer.remove_callback(PrinterCallback)
    return trainer


def evaluation_loss(trainer: Trainer) -> float:
    loss: float = trainer.evaluate()["eval_loss"]
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("lrfind-out"), help="folder for the plot")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(options.steps, options.seed, folder)
        result = range_test(trainer)
        print(result)
        plot = options.out / "language_model.png"
        result.plot().figure.savefig(plot)
        print(f"\nThe curve is drawn in {plot}\n")

        recipe = apply(result, trainer, "cosine")
        trainer.train()  # from the untrained model, which the range test has restored
        default = build_trainer(options.steps, options.seed, folder)
        untrained = evaluation_loss(default)
        default.train()

        print(f"Evaluation loss per character after {options.steps} updates")
        print(f"  advised, cosine from {recipe.peak_lr:g}: {evaluation_loss(trainer):.2f}")
        print(f"  the Trainer's default, linear from {default.args.learning_rate:g}: {evaluation_loss(default):.2f}")
        print(f"  untrained: {untrained:.2f}")


if __name__ == "__main__":
    main()
