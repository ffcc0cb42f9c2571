"""ddpo demo"""

import time

import typer

from aifeedback_dpo.cli import compare, generate, label, options, train
from aifeedback_dpo.cli.options import RunFolder


@options.guarded
def demo(run: RunFolder = None) -> None:
    """Run all four stages on the embedded world: no network, no GPU, a few minutes."""
    start = time.monotonic()
    typer.echo(
        "A small diffusion model draws coloured shapes, and makes mistakes. Simulated raters and a PickScore say which\n"
        "pictures are better; Diffusion-DPO trains a policy on each, and one on coin tosses; held-out prompts decide."
    )
    typer.echo("\n1/4  ddpo generate: candidate pictures for each prompt, paired up")
    generate.generate(run=run)
    typer.echo("\n2/4  ddpo label --scorer pickscore: who prefers which")
    label.label(scorer=["pickscore"], run=run)
    typer.echo("\n3/4  ddpo train: a policy for human, ai and random labels")
    train.train(run=run)
    typer.echo("\n4/4  ddpo compare human vs ai: held-out prompts, the same seeds")
    compare.compare(names=["human", "vs", "ai"], run=run)
    typer.echo(f"\nDone in {time.monotonic() - start:.0f} s. The report opens in a browser.")
