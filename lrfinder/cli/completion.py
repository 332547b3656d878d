"""``lrfind completion``: shell code that completes commands, options, model names and schedule kinds."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

__all__ = ["complete_model", "completion", "registered_models"]

_REGISTERED = re.compile(r"^@register_model\(\)\n(?:[@ )].*\n)*def (\w+)\(", re.MULTILINE)


def registered_models() -> list[str]:
    """Names of torchvision's models of all families, read from its source: importing it takes too long for a Tab."""
    from lrfinder.tasks import FAMILIES

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return []
    root = Path(spec.origin).parent.parent
    sources = [path for each in FAMILIES.values() for path in root.joinpath(*each.models.split(".")).glob("*.py")]
    return sorted(name for source in sources for name in _REGISTERED.findall(source.read_text(encoding="utf-8")))


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The model names that begin with ``incomplete``."""
    return [CompletionItem(name) for name in registered_models() if name.startswith(incomplete.lower())]


@click.command(
    short_help="Print the lines that switch on completion.",
    epilog="""\b
Examples:
  bash:  echo 'eval "$(lrfind completion bash)"' >> ~/.bashrc
  zsh:   echo 'eval "$(lrfind completion zsh)"' >> ~/.zshrc
  fish:  lrfind completion fish > ~/.config/fish/completions/lrfind.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the lines that make SHELL (bash, zsh, fish) complete commands, options, models and schedule kinds."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "lrfind", "_LRFIND_COMPLETE").source())
