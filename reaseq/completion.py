"""`reaseq completion`: prints the shell's completion script."""

import argparse

import shtab

EXAMPLES = {
    "reaseq completion bash > ~/.local/share/bash-completion/completions/reaseq": "for bash, once",
    "reaseq completion zsh > ~/.zfunc/_reaseq": "for zsh, once; ~/.zfunc must be in fpath",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="your shell")


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints the script."""
    from reaseq.cli import build_parser

    print(shtab.complete(build_parser(), shell=arguments.shell))
    return 0
