"""`jtr completion`: how to switch on completion in a shell."""

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """
    Print the line that switches on completion in SHELL.

    Put it into the shell's start-up file, for example: jtr completion bash >> ~/.bashrc
    """
    if shell == "fish":
        click.echo("_JTR_COMPLETE=fish_source jtr | source")
    else:
        click.echo(f'eval "$(_JTR_COMPLETE={shell}_source jtr)"')
    return 0
