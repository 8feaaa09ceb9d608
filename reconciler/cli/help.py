"""`jtr help`: the help of a command, or a page about what many commands share."""

import difflib
from typing import Final

import click

from reconciler.errors import UsageError
from reconciler.render.escape import plain

TOPICS: Final = {
    "environment": """\
JTR_SETTINGS                the operator's settings file, as --settings names it
VAULT_ADDR, VAULT_TOKEN     Vault's address and token, unless the settings say them; also
                            VAULT_NAMESPACE and VAULT_CACERT, and each of them as BAO_...
NO_COLOR, TERM=dumb         no colour
FORCE_COLOR                 colour, also where nobody is at a terminal
COLUMNS                     how wide help may be
""",
    "exit-codes": """\
0         done, or nothing to do
1         error
2         changes or drift; only with --detailed-exitcode
3         a document is invalid; nothing was contacted
4         blocked until a person decides: policy, audit, window, take-over, changed address; also a
          request that expired or was not done
5         Vault could not give what was asked
6         a trading server could not be reached, or did not do what it was asked
7         a request is in doubt: sent, and nobody can know whether it took effect
8         harm: robots stopped around one of our writes; everything else was stopped
64        the command line, or where a file lies, is wrong
129       the terminal was closed
130, 143  interrupted, terminated
Of several the first of 8, 7, 3, 5, 6, 4, 1, 2 counts; -o json has every server's own.
jtr explain CODE says more of each, and of every code in the JSON of a plan.
""",
    "files": """\
A PATH is a file, or a directory: of that, *.yaml and *.yml in it and below, without hidden ones.
Documents of another apiVersion there (Kubernetes manifests) are skipped and counted.  What has no
apiVersion (compose files, workflows) is an error, so that a slip never hides a server.

Name such files in a .jtrignore, in their directory or above it, below PATH.  Its lines are those
of a .gitignore:

  compose.yaml       a file or a directory of this name, at any depth
  /ci/               the directory ci beside the .jtrignore
  charts/**/*.yaml   * is any text, ? one character, [ab] one of these, ** any directories
  !charts/jtr.yaml   this one is read all the same

A file that is named on the command line is always read.
""",
    "patterns": """\
Where a command takes names of servers, it takes patterns: * is any text, ? one character.
Quote them, or the shell takes them for files.

  jtr plan --server 'tokyo-*'
  jtr apply --take-over '*/bybit'

What a pattern consents to is said by name; one that matches nothing is an error.
--approve-recipient, --approve-target-change and what a person says of one server take whole names.
""",
}


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND|TOPIC]")
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> int:
    """
    Print the help of COMMAND, such as `request reboot`, or a page about TOPIC.

    Topics: environment, exit-codes, files, patterns.
    """
    if len(words) == 1 and words[0] in TOPICS:
        click.echo(TOPICS[words[0]], nl=False)
        return 0
    info = ctx.find_root()
    for word in words:
        group = info.command
        found = group.get_command(info, word) if isinstance(group, click.Group) else None
        if found is None:
            raise _unknown(words, word, info)
        info = click.Context(found, info_name=word, parent=info)
    click.echo(info.get_help())
    return 0


def _unknown(words: tuple[str, ...], word: str, info: click.Context) -> UsageError:
    names = info.command.list_commands(info) if isinstance(info.command, click.Group) else []
    if info.parent is None:
        names = [*names, *TOPICS]
    near = difflib.get_close_matches(word[:40], names, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return UsageError(
        f"there is no command and no topic {plain(' '.join(words), 80)}",
        f"{hint}see: jtr help, and the topics {', '.join(TOPICS)}",
    )
