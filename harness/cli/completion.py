"""``longhaul completion``: the script by which a shell completes this program's words."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

_BASH = """\
_longhaul_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _LONGHAUL_COMPLETE=complete_bash "$1" 2>/dev/null) )
}
complete -o default -F _longhaul_completion longhaul
"""
_ZSH = """\
#compdef longhaul
_longhaul_completion() {
    eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _LONGHAUL_COMPLETE=complete_zsh ${words[1]} 2>/dev/null)"
}
compdef _longhaul_completion longhaul
"""
_FISH = """\
function _longhaul_completion
    set -l words (commandline -opc)
    env _LONGHAUL_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \\
        _TYPER_COMPLETE_ARGS=(commandline -cp) $words[1] 2>/dev/null
end
complete --command longhaul --no-files --arguments "(_longhaul_completion get-args)" \\
    --condition "_longhaul_completion is-args"
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("completion")(completion)


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Your shell.")]) -> int:
    """Print the script that completes commands, options, labs, sites, topologies and traces.

    Examples:

        source <(longhaul completion bash)      # now; in ~/.bashrc: for ever

        longhaul completion zsh > "${fpath[1]}/_longhaul"

        longhaul completion fish > ~/.config/fish/completions/longhaul.fish
    """
    print(_SCRIPTS[shell], end="")
    return 0
